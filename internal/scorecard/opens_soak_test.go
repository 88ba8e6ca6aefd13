//go:build soak && linux

package scorecard

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
)

// opening is a flood of streams of the first caller's: so many a second. How is what
// happens with each: "reset" at once, "silent" until the node ends it, "unknown" for one
// of a protocol that nobody speaks.
type opening struct {
	How  string
	Rate int
	For  time.Duration
}

// opened is what became of it.
type opened struct {
	Offered, Opened, Failed, Calls int64
	CPU                            float64
}

func (cs *callers) open(o opening) (r opened) {
	before, began := costs().CPU, time.Now()
	var offered, done, failed, calls atomic.Int64
	hello := opener(store.ID)
	if o.How == "unknown" {
		hello = opener("/nobody/speaks/1.0.0")
	}
	c := cs.all[0]
	ctx, cancel := context.WithTimeout(context.Background(), o.For)
	defer cancel()
	end := began.Add(o.For)
	one := func() {
		s, err := c.host.Network().NewStream(network.WithNoDial(ctx, "flood"), nodeInfo.ID)
		if err != nil {
			if failed.Add(1); c.host.Network().Connectedness(nodeInfo.ID) != network.Connected {
				if calls.Add(1); c.host.Connect(ctx, nodeInfo) != nil {
					time.Sleep(100 * time.Millisecond)
				}
			}
			return
		}
		done.Add(1)
		_ = s.SetDeadline(end)
		_, _ = s.Write(hello)
		if o.How == "silent" {
			_, _ = s.Read(make([]byte, 1024))
			_, _ = s.Read(make([]byte, 1024))
		}
		_ = s.Reset()
	}
	var wg sync.WaitGroup
	some := make(chan struct{}, 2000)
	for time.Now().Before(end) {
		due := int64(time.Since(began).Seconds() * float64(o.Rate))
		if offered.Load() >= due {
			time.Sleep(time.Millisecond)
			continue
		}
		offered.Add(1)
		some <- struct{}{}
		wg.Go(func() {
			defer func() { <-some }()
			one()
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	return opened{offered.Load(), done.Load(), failed.Load(), calls.Load(), (costs().CPU - before) / took}
}

// Row C2: ten thousand streams a second of one peer's. Others are served as before.
func TestSoakStreamOpens(t *testing.T) {
	const rate, lasts = 10_000, 30 * time.Second
	s := newStreet(t)
	node := s.node(nodeParams{Archive: t.TempDir() + "/archive.db"})
	node.ask("keep", 2000, new(int))
	honest := s.begin("caller", loadCPU, callerParams{IDs: 5, Addrs: addresses(20, 5)}, addresses(20, 5)...)
	attacker := s.begin("caller", loadCPU, callerParams{IDs: 1, Addrs: addresses(66, 1)}, addresses(66, 1)...)
	for _, a := range []*actor{honest, attacker} {
		var r connected
		a.ask("connect", nil, &r)
		t.Log(r)
		require.Empty(t, r.Errors)
	}
	asks := asking{Kind: "store", Each: 250 * time.Millisecond, For: 10 * time.Second}
	var quiet, sieged tally
	honest.ask("ask", asks, &quiet)
	t.Log("honest, without:", &quiet)
	require.Equal(t, quiet.Offered, quiet.OK)
	asks.For = lasts
	for _, how := range []string{"reset", "silent", "unknown"} {
		t.Run(how, func(t *testing.T) {
			var before, after, later cost
			node.ask("cost", nil, &before)
			began := time.Now()
			attacker.tell("open", opening{how, rate, lasts})
			honest.ask("ask", asks, &sieged)
			var r opened
			attacker.hear(&r)
			node.ask("cost", nil, &after)
			cpu := (after.CPU - before.CPU) / time.Since(began).Seconds()
			t.Logf("offered %d/s, opened %d/s, failed %d, connected again %d times; attacker %.0f %% of a core, node %.0f %%", r.Offered/int64(lasts.Seconds()),
				r.Opened/int64(lasts.Seconds()), r.Failed, r.Calls, 100*r.CPU, 100*cpu)
			t.Logf("honest, with: %v", &sieged)
			t.Log("node at once:", after)
			time.Sleep(12 * time.Second)
			node.ask("cost", nil, &later)
			t.Log("node 12 s later:", later, fmt.Sprintf("(before: %v)", before))
			require.Equal(t, sieged.Offered, sieged.OK)
			require.LessOrEqual(t, sieged.P99, 100*time.Millisecond)
			require.LessOrEqual(t, later.Goroutines, before.Goroutines+5)
			require.LessOrEqual(t, cpu, 1.0)
		})
	}
}
