package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
)

func TestBudget(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := store.NewBudget(10, 5, 3)
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
}

func TestBudgetIsBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	b := store.NewBudget(1, 1, 100)
	for i := range 20_000 {
		b.Take(peer.ID(fmt.Sprint(i)), 2, now)
		now = now.Add(time.Millisecond)
	}
	require.Equal(t, 100, b.Len())
	unlimited := store.NewBudget(-1, 1, 100)
	require.Equal(t, 1000, unlimited.Take("a", 1000, now))
	require.Zero(t, unlimited.Len())
}
