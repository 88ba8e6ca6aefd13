package waku

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// Report says in a table for a terminal what each class of message costs the node: bytes
// in and out for each hour on average, in the last hour that is over or under way, and
// in all.
func (t Telemetry) Report() string {
	var b strings.Builder
	span := t.At.Sub(t.Since)
	fmt.Fprintf(&b, "messages since %s (%s)\n", t.Since.UTC().Format("2006-01-02 15:04 UTC"), span.Round(time.Second))
	fmt.Fprintf(&b, "%-9s %-8s %-10s %12s %12s %12s %12s %10s\n", "shard", "class", "way", "in", "out", "in/h", "out/h", "messages")
	type place struct {
		shard sharding.Shard
		class Class
	}
	sums := map[place]Traffic{}
	var order []place
	line := func(shard, class, way string, x Traffic) {
		fmt.Fprintf(&b, "%-9s %-8s %-10s %12s %12s %12s %12s %10d\n", shard, class, way,
			bytesWords(float64(x.BytesIn)), bytesWords(float64(x.BytesOut)),
			bytesWords(perHour(x.BytesIn, span)), bytesWords(perHour(x.BytesOut, span)), x.MessagesIn+x.MessagesOut)
	}
	for _, x := range t.Total {
		line(x.Shard.String(), x.Class.String(), x.Way.String(), x)
		p := place{x.Shard, x.Class}
		sum, ok := sums[p]
		if !ok {
			order = append(order, p)
		}
		sum.MessagesIn += x.MessagesIn
		sum.MessagesOut += x.MessagesOut
		sum.BytesIn += x.BytesIn
		sum.BytesOut += x.BytesOut
		sums[p] = sum
	}
	for _, p := range order {
		line(p.shard.String(), p.class.String(), "all", sums[p])
	}
	return b.String()
}

// perHour is a rate; of less than an hour it is what there was.
func perHour(bytes uint64, span time.Duration) float64 {
	return float64(bytes) / max(1, span.Hours())
}

// bytesWords is a number of bytes in a few letters.
func bytesWords(n float64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", n/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", n/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", n/(1<<10))
	}
	return fmt.Sprintf("%.0f B", n)
}

// servedArchive is an archive that others ask.
type servedArchive struct {
	store.Archive
	telemetry *telemetry
}

// Query implements store.Archive.
func (a servedArchive) Query(ctx context.Context, q store.Query) (store.Page, error) {
	page, err := a.Archive.Query(ctx, q)
	a.telemetry.entries(q.Shard, page.Entries, q.ContentTopics, true)
	return page, err
}
