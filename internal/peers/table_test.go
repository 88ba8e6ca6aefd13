package peers_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
)

// A million identities, by all ways at once, take no more room than two thousand
// (C8), and the good ones among them that were there first are still there.
func TestMillionPeers(t *testing.T) {
	m := peers.New(config(1))
	m.Want(start, []peers.Need{relays(1, 3, 6, 3)})
	now := start
	for n := 1; n <= 50; n++ {
		m.Found(now, told(n, peers.Discv5, public(n)))
		join(m, now, n, public(n), false)
		now = now.Add(time.Minute)
		if n > 10 {
			m.Lost(now, id(n))
		}
	}
	for n := 51; n <= 100; n++ {
		m.Found(now, told(n, peers.DNS, public(n)))
	}
	good := map[peer.ID]bool{}
	for n := 1; n <= 100; n++ {
		good[id(n)] = true
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const each = 10
	for i := range fewer(fewer(1_000_000)) / each {
		now = now.Add(time.Millisecond)
		n := 1000 + each*i
		at := public(i)
		for j := range 7 {
			s := told(n+j, []peers.Source{peers.Exchange, peers.Discv5, peers.Inbound}[j%3], at)
			s.From = fmt.Sprint(i % 2000)
			m.Found(now, s)
		}
		m.Failed(now, id(n), errNoOne)
		m.Foreign(now, id(n+1), "cluster 1")
		m.Cut(now, id(n+7), now.Add(time.Hour))
		for j := 8; j < each; j++ { // come and go
			join(m, now, n+j, at, true)
			m.Lost(now, id(n+j))
		}
		if i%1000 == 0 {
			for _, d := range m.Plan(now).Dial {
				if good[d.ID] {
					m.Failed(now, d.ID, context.Canceled)
				} else {
					m.Failed(now, d.ID, errNoOne)
				}
			}
			m.Best(shard(1), peers.Relay)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	st := m.Stats(now)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d KiB for %d peers, %v", grown>>10, st.Known, st.BySource)
	require.LessOrEqual(t, st.Known, 2000)
	require.Less(t, grown, int64(16<<20))
	require.Empty(t, m.Check())
	for n := 1; n <= 100; n++ {
		require.True(t, knows(m, n), "%d was a good one", n)
	}
	runtime.KeepAlive(m)
}

// Each source, teller and address has its share of the table.
func TestShares(t *testing.T) {
	for source, want := range map[peers.Source]int{
		peers.Static: 1000, peers.Application: 500, peers.DNS: 1000, peers.Saved: 500,
		peers.Rendezvous: 500, peers.Discv5: 1000, peers.Exchange: 1000, peers.Inbound: 500,
	} {
		m := peers.New(config(1))
		for n := 1; n <= 3000; n++ {
			m.Found(start, told(n, source, public(n)))
		}
		require.Equal(t, want, m.Stats(start).Known, source)
		require.EqualValues(t, 3000-want, m.Stats(start).Refused["too many by one source"])
	}
	m := peers.New(config(1))
	for n := 1; n <= 3000; n++ {
		s := told(n, peers.Exchange, public(n))
		s.From = fmt.Sprint(n % 3)
		m.Found(start, s)
	}
	require.Equal(t, 3*128, m.Stats(start).Known)
	for n := 3001; n <= 6000; n++ {
		m.Found(start, told(n, peers.Discv5, maddr(fmt.Sprintf("/ip4/66.1.1.%d/tcp/%d", n%10, n))))
	}
	require.Equal(t, 3*128+10*8, m.Stats(start).Known)
	m.Found(start, told(6001, peers.DNS, tcp(66, 1, 1, 1))) // whom somebody trusted tells of
	require.True(t, knows(m, 6001))
	require.Empty(t, m.Check())
}

// Addresses that rest are remembered when nobody known lives there, a thousand of
// them.
func TestRestingAddresses(t *testing.T) {
	c := config(1)
	c.MaxConns, c.MaxKnown = 10, 50
	m := peers.New(c)
	for n := 1; n <= 5000; n++ {
		m.Found(start, told(n, peers.Discv5, public(n)))
		m.Failed(start, id(n), errNoOne)
	}
	require.Empty(t, m.Check())
	require.LessOrEqual(t, m.Stats(start).Known, 50)
	require.Less(t, m.Hosts(), 1200)
	require.Greater(t, m.Hosts(), 1000)
}

// A full table leaves room to those of whom there are few.
func TestFullTable(t *testing.T) {
	c := config(1)
	c.MaxConns, c.MaxKnown = 10, 100
	m := peers.New(c)
	for n := 1; n <= 200; n++ {
		m.Found(start, told(n, peers.Discv5, public(n)), told(1000+n, peers.Exchange, public(1000+n)))
	}
	require.Equal(t, 100, m.Stats(start).Known)
	for n := 301; n <= 320; n++ {
		m.Found(start, told(n, peers.DNS, public(n)))
	}
	by := m.Stats(start).BySource
	require.Equal(t, 100, m.Stats(start).Known)
	require.Equal(t, 20, by[peers.DNS])
	m.Found(start, told(400, peers.Inbound, public(400)))
	require.True(t, knows(m, 400))
	for n := 1; n <= 200; n++ { // in an hour what was told is stale, and news are better
		m.Found(start.Add(61*time.Minute), told(2000+n, peers.Rendezvous, public(2000+n)))
	}
	require.Greater(t, m.Stats(start).BySource[peers.Rendezvous], 15)
	require.Empty(t, m.Check())
}

// Goroutines may ask and tell at once.
func TestConcurrent(t *testing.T) {
	m := peers.New(config(1))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				n := 1 + (i*7+g)%100
				now := start.Add(time.Duration(i) * time.Second)
				m.Found(now, told(n, peers.Discv5, public(n)))
				m.Want(now, []peers.Need{relays(1, 3, 6, 3)})
				m.Keep(id(n))
				for _, d := range m.Plan(now).Dial {
					m.Connected(now, d.ID, d.Addrs[0], false)
					m.Proven(now, d.ID, carries(1), peers.Relay)
				}
				m.Alive(now, id(n), time.Second)
				m.Reachable(now, id(n))
				m.Lost(now, id(n))
				m.Failed(now, id(n), errNoOne)
				m.Best(shard(1), peers.Relay)
				m.Sample(now, self, 10, time.Minute)
				m.MayDial(id(n), public(n))
				m.Known(id(n))
				m.NetworkChanged(now)
				m.Stats(now)
				_ = m.Restore(now, m.Snapshot(now))
				m.Foreign(now, id(n+1), "")
				m.Cut(now, id(n+2), now)
			}
		})
	}
	wg.Wait()
	require.Empty(t, m.Check())
}
