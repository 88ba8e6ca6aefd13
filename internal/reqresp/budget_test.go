package reqresp_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/reqresp"
)

// take takes n tokens and returns how many there were.
func take(b *reqresp.Budget[string], key string, n int, now time.Time) (taken int) {
	for range n {
		if _, ok := b.Take(key, now, 0); ok {
			taken++
		}
	}
	return taken
}

func TestBudget(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := reqresp.NewBudget[string](10, 5, 3)
	require.Equal(t, 5, take(b, "a", 9, now))
	require.Equal(t, 0, take(b, "a", 1, now.Add(-time.Hour)), "the clock may step back")
	require.Equal(t, 1, take(b, "a", 9, now.Add(150*time.Millisecond)))
	require.Equal(t, 5, take(b, "a", 9, now.Add(time.Hour)), "no more than the burst")

	now = now.Add(time.Hour)
	require.Equal(t, 5, take(b, "b", 5, now))
	require.Equal(t, 5, take(b, "c", 5, now))
	require.Equal(t, 5, take(b, "d", 4, now)+take(b, "e", 4, now), "strangers share one")
	require.Zero(t, take(b, "a", 1, now), "nobody is pushed out for a fresh start")
	require.Equal(t, 3, b.Len())
	now = now.Add(2 * time.Second) // all are full again
	require.Equal(t, 5, take(b, "d", 9, now))
	require.Equal(t, 5, take(b, "e", 9, now))
	require.Equal(t, 2, b.Len())
}

// A token of the future may be used when it is there.
func TestBudgetAhead(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := reqresp.NewBudget[string](10, 2, 3)
	take(b, "a", 2, now)
	wait, ok := b.Take("a", now, 50*time.Millisecond)
	require.False(t, ok)
	require.Equal(t, 100*time.Millisecond, wait, "when there will be one")
	wait, ok = b.Take("a", now, 100*time.Millisecond)
	require.True(t, ok)
	require.Equal(t, 100*time.Millisecond, wait)
	require.Equal(t, 200*time.Millisecond, b.Reserve("a", now))
	b.Refund("a", now)
	require.Equal(t, 200*time.Millisecond, b.Reserve("a", now))
	require.Zero(t, b.Reserve("b", now))
}

func TestBudgetRefundAndHold(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := reqresp.NewBudget[string](10, 5, 3)
	require.Equal(t, 5, take(b, "a", 9, now))
	b.Refund("a", now)
	require.Equal(t, 1, take(b, "a", 9, now))
	for range 9 {
		b.Refund("a", now)
	}
	require.Equal(t, 5, take(b, "a", 9, now), "no more than the burst")
	b.Hold("a", now, time.Minute)
	b.Hold("a", now, time.Second) // the longer one counts
	require.Zero(t, take(b, "a", 1, now.Add(59*time.Second)))
	require.Equal(t, 1, take(b, "a", 9, now.Add(time.Minute)))
}

func TestBudgetUnlimited(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := reqresp.NewBudget[string](-1, 1, 100)
	b.Hold("a", now, time.Minute)
	b.Refund("a", now)
	require.Zero(t, b.Reserve("a", now))
	require.Equal(t, 1000, take(b, "a", 1000, now))
	require.Zero(t, b.Len())
}

// Whoever comes under a new name each time fills the table and nothing else.
func TestBudgetIsBounded(t *testing.T) {
	names := 1_000_000
	if testing.Short() {
		names = 100_000
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
			b := reqresp.NewBudget[string](20, 50, reqresp.DefaultBudgetKeys)
			before := heap()
			for i := range names {
				take(b, string(binary.BigEndian.AppendUint64(make([]byte, 30), uint64(i))), 2, now)
				now = now.Add(time.Second / time.Duration(rate))
			}
			require.LessOrEqual(t, b.Len(), reqresp.DefaultBudgetKeys)
			require.Less(t, heap()-before, int64(2<<20))
			runtime.KeepAlive(b)
		})
	}
}
