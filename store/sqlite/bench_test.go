package sqlite_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

var benchShard = sharding.Shard{Cluster: 16, Index: 128}

// traffic makes messages as a community does: 2 KiB of noise each, a thousand
// content topics of which few are busy, times that ascend.
type traffic struct {
	rand  *mrand.Rand
	zipf  *mrand.Zipf
	noise []byte
	time  time.Time
	step  time.Duration
	n     uint64
}

func newTraffic(from time.Time, step time.Duration) *traffic {
	r := mrand.New(mrand.NewPCG(1, 2))
	t := &traffic{rand: r, zipf: mrand.NewZipf(r, 1.1, 4, 999), noise: make([]byte, 1<<20), time: from, step: step}
	_, _ = rand.Read(t.noise)
	return t
}

func benchTopic(n uint64) string { return fmt.Sprintf("/waku/1/0x%08x/rfc26", 0x9c220000+n) }

func (t *traffic) next() store.Entry {
	t.time = t.time.Add(t.step)
	t.n++
	payload := make([]byte, 2048)
	copy(payload, t.noise[t.rand.IntN(len(t.noise)-len(payload)):])
	binary.BigEndian.PutUint64(payload, t.n)
	return store.NewEntry(benchShard, &message.Message{
		Payload: payload, ContentTopic: benchTopic(t.zipf.Uint64()), Timestamp: t.time.UnixNano(),
		Meta: t.noise[:64], Version: 1,
	})
}

func (t *traffic) batch(n int) []store.Entry {
	list := make([]store.Entry, n)
	for i := range list {
		list[i] = t.next()
	}
	return list
}

// filled is an archive with n messages over 30 days.
func filled(b testing.TB, dir string, n int) *sqlite.Archive {
	path := filepath.Join(dir, "archive.db")
	a, err := sqlite.Open(context.Background(), path, sqlite.Config{PruneEvery: -1})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, a.Close()) })
	if s, err := a.Stats(context.Background()); err == nil && s.Messages >= int64(n) && n > 0 {
		return a
	}
	t := newTraffic(time.Now().Add(-30*24*time.Hour), 30*24*time.Hour/time.Duration(max(n, 1)))
	for left := n; left > 0; left -= 500 {
		require.NoError(b, a.Put(context.Background(), t.batch(min(500, left))))
	}
	return a
}

// BenchmarkPut puts batches of 50 messages, from one caller and from several.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1, 50, 200} {
		for _, callers := range []int{1, 8} {
			b.Run(fmt.Sprintf("batch=%d/callers=%d", size, callers), func(b *testing.B) {
				a := filled(b, b.TempDir(), 0)
				t := newTraffic(time.Now().Add(-24*time.Hour), time.Millisecond)
				batches := make([][]store.Entry, 0, b.N)
				for left := b.N; left > 0; left -= size {
					batches = append(batches, t.batch(min(size, left)))
				}
				var next atomic.Int64
				var worst atomic.Int64
				var group sync.WaitGroup
				b.ResetTimer()
				for range callers {
					group.Go(func() {
						for {
							i := int(next.Add(1)) - 1
							if i >= len(batches) {
								return
							}
							began := time.Now()
							if err := a.Put(context.Background(), batches[i]); err != nil {
								b.Error(err)
							}
							worst.Store(max(worst.Load(), int64(time.Since(began))))
						}
					})
				}
				group.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
				b.ReportMetric(float64(worst.Load())/1e6, "worst-ms")
				pages, err := sqlite.Pages(a)
				require.NoError(b, err)
				b.ReportMetric(float64(pages*16<<10)/float64(b.N), "file-bytes/message")
			})
		}
	}
}

// BenchmarkPutSteady puts batches at a pace that leaves the archive time, whether
// or not those before are done: how long does it take until they are durable?
func BenchmarkPutSteady(b *testing.B) {
	for _, load := range []struct{ size, perSecond int }{{1, 500}, {20, 100}} {
		b.Run(fmt.Sprintf("batch=%d/puts=%d", load.size, load.perSecond), func(b *testing.B) {
			a := filled(b, keptDir(b), *rows)
			t := newTraffic(time.Now(), time.Microsecond)
			took := make([]time.Duration, b.N)
			var group sync.WaitGroup
			tick := time.NewTicker(time.Second / time.Duration(load.perSecond))
			defer tick.Stop()
			b.ResetTimer()
			for i := range took {
				batch := t.batch(load.size)
				<-tick.C
				group.Go(func() {
					began := time.Now()
					if err := a.Put(context.Background(), batch); err != nil {
						b.Error(err)
					}
					took[i] = time.Since(began)
				})
			}
			group.Wait()
			slices.Sort(took)
			for _, p := range []float64{50, 99, 99.9, 100} {
				b.ReportMetric(float64(took[int(float64(b.N-1)*p/100)].Microseconds())/1000, fmt.Sprintf("p%v-ms", p))
			}
		})
	}
}

var (
	rows = flag.Int("rows", 100_000, "messages in the archive at first")
	kept = flag.String("kept", "", "`directory` of that archive, to be kept for the next time")
)

func keptDir(b *testing.B) string {
	if *kept != "" {
		return *kept
	}
	return b.TempDir()
}

// BenchmarkQuery asks an archive of messages over 30 days for pages of 100.
func BenchmarkQuery(b *testing.B) {
	n := *rows
	began := time.Now()
	a := filled(b, keptDir(b), n)
	b.Logf("filled with %.0f messages/s", float64(n)/time.Since(began).Seconds())
	ctx := context.Background()
	var hashes []message.Hash
	for q := (store.Query{Limit: 100, HashesOnly: true}); len(hashes) < n; {
		page, err := a.Query(ctx, q)
		require.NoError(b, err)
		for _, e := range page.Entries {
			hashes = append(hashes, e.Hash)
		}
		if q.Cursor = page.Cursor; q.Cursor == nil {
			break
		}
	}
	stats, err := a.Stats(ctx)
	require.NoError(b, err)
	now := stats.Shards[0].Newest
	var hot, cold []string
	for i := range uint64(10) {
		hot, cold = append(hot, benchTopic(i)), append(cold, benchTopic(900+i))
	}
	hour := func(back int) (time.Time, time.Time) {
		end := now.Add(-time.Duration(back) * time.Hour)
		return end.Add(-time.Hour), end
	}
	hotHour := func(i int) store.Query {
		start, end := hour(i * 7 % 700)
		return store.Query{Shard: &benchShard, ContentTopics: hot, Start: start, End: end, Backward: true}
	}
	some := func(n int) (list []message.Hash) {
		for range n {
			list = append(list, hashes[mrand.IntN(len(hashes))])
		}
		return list
	}
	for _, kind := range []struct {
		name string
		ask  func(i int) store.Query
	}{
		{"newest", func(int) store.Query { return store.Query{Shard: &benchShard, Backward: true} }},
		{"deep", func(i int) store.Query { return store.Query{Shard: &benchShard, Cursor: &hashes[i*7919%(n/2)]} }},
		{"hour-10-hot", hotHour},
		{"hour-10-hot-hashes-only", func(i int) store.Query {
			q := hotHour(i)
			q.HashesOnly = true
			return q
		}},
		{"day-10-cold", func(i int) store.Query {
			_, end := hour(i * 7 % 600)
			return store.Query{Shard: &benchShard, ContentTopics: cold, Start: end.Add(-24 * time.Hour), End: end}
		}},
		{"10-hashes", func(int) store.Query { return store.Query{Hashes: some(10)} }},
		{"100-hashes", func(int) store.Query { return store.Query{Hashes: some(100)} }},
	} {
		for _, clients := range []int{1, 10} {
			b.Run(fmt.Sprintf("%s/clients=%d", kind.name, clients), func(b *testing.B) {
				var next, entries atomic.Int64
				var group sync.WaitGroup
				latency := make([]time.Duration, b.N)
				used := cpuTime()
				for range clients {
					group.Go(func() {
						for {
							i := int(next.Add(1))
							if i > b.N {
								return
							}
							q := kind.ask(i)
							q.Limit = 100
							began := time.Now()
							page, err := a.Query(ctx, q)
							if err != nil {
								b.Error(err)
							}
							latency[i-1] = time.Since(began)
							entries.Add(int64(len(page.Entries)))
						}
					})
				}
				group.Wait()
				used = cpuTime() - used
				slices.Sort(latency)
				b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "cpu-ms/page")
				b.ReportMetric(float64(latency[b.N*95/100].Microseconds())/1000, "p95-ms")
				b.ReportMetric(float64(entries.Load())/float64(b.N), "entries/page")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pages/s")
			})
		}
	}
}
