package peerexchange_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/peerexchange"
)

func TestBudget(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := peerexchange.NewBudget(10, 5, 3)
	require.Equal(t, 5, b.Take("a", 9, now))
	require.Equal(t, 0, b.Take("a", 1, now.Add(-time.Hour)), "the clock may step back")
	require.Equal(t, 1, b.Take("a", 9, now.Add(150*time.Millisecond)))
	require.Equal(t, 5, b.Take("a", 9, now.Add(time.Hour)), "no more than the burst")

	now = now.Add(time.Hour)
	require.Equal(t, 5, b.Take("b", 5, now))
	require.Equal(t, 5, b.Take("c", 5, now))
	require.Equal(t, 5, b.Take("d", 4, now)+b.Take("e", 4, now), "strangers share one")
	require.Zero(t, b.Take("a", 1, now), "nobody is pushed out for a fresh start")
	require.Equal(t, 3, b.Len())
	now = now.Add(2 * time.Second) // all are full again
	require.Equal(t, 5, b.Take("d", 9, now))
	require.Equal(t, 5, b.Take("e", 9, now))
	require.Equal(t, 2, b.Len())

	b.Refund("d", now)
	require.Equal(t, 1, b.Take("d", 9, now))
	for range 9 {
		b.Refund("d", now)
	}
	require.Equal(t, 5, b.Take("d", 9, now), "no more than the burst")
	b.Hold("d", now, time.Minute)
	b.Hold("d", now, time.Second) // the longer one counts
	require.Zero(t, b.Take("d", 1, now.Add(59*time.Second)))
	require.Equal(t, 1, b.Take("d", 9, now.Add(time.Minute)))

	unlimited := peerexchange.NewBudget(-1, 1, 100)
	unlimited.Hold("a", now, time.Minute)
	unlimited.Refund("a", now)
	require.Equal(t, 1000, unlimited.Take("a", 1000, now))
	require.Zero(t, unlimited.Len())
}

// Whoever comes under a new name each time fills the table and nothing else.
func TestBudgetIsBounded(t *testing.T) {
	names := 500_000
	if testing.Short() || raceEnabled {
		names = 50_000
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, rate := range []int{1_000, 100_000} { // names a second
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			b := peerexchange.NewBudget(peerexchange.DefaultServerRate, peerexchange.DefaultServerBurst, peerexchange.MaxPeers)
			before := heap()
			for i := range names {
				b.Take(peer.ID(binary.BigEndian.AppendUint64(make([]byte, 30), uint64(i))), 2, now)
				now = now.Add(time.Second / time.Duration(rate))
			}
			require.LessOrEqual(t, b.Len(), peerexchange.MaxPeers)
			require.Less(t, heap()-before, int64(2<<20))
			runtime.KeepAlive(b)
		})
	}
}
