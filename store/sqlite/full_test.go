package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

// fill puts messages until there is no room, and returns those that were
// acknowledged.
func fill(t *testing.T, a *sqlite.Archive, from time.Time) (acked []store.Entry) {
	t.Helper()
	for i := range 10_000 {
		batch := entries(20, from.Add(time.Duration(20*i)*time.Second), 2000)
		err := a.Put(t.Context(), batch)
		if err == nil {
			acked = append(acked, batch...)
			continue
		}
		var full *store.FullError
		require.ErrorAs(t, err, &full)
		require.ErrorContains(t, err, "no room")
		return acked
	}
	t.Fatal("there is no end to this disk")
	return nil
}

// requireFull requires that nothing acknowledged is lost on a full disk.
func requireFull(t *testing.T, a *sqlite.Archive, since time.Time, acked []store.Entry) {
	t.Helper()
	c := a.Condition()
	assert.Equal(t, store.Full, c.State)
	assert.Error(t, c.Err)
	assert.Equal(t, since, c.Since)
	assert.NotZero(t, c.Refused)
	requireServed(t, a, acked)
}

func requireServed(t testing.TB, a *sqlite.Archive, acked []store.Entry) {
	t.Helper()
	found := served(t, a, acked)
	for _, e := range acked {
		require.Equal(t, e.Message, found[e.Hash])
	}
}

func TestFullThenRoom(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "archive.db"), sqlite.Config{})
	require.NoError(t, sqlite.LimitPages(a, 60))
	acked := fill(t, a, origin)
	requireFull(t, a, origin.Add(24*time.Hour), acked)

	require.NoError(t, sqlite.LimitPages(a, 1<<20))
	more := entries(50, origin.Add(20*time.Hour), 2000)
	require.NoError(t, a.Put(t.Context(), more))
	assert.Equal(t, store.Ready, a.Condition().State)
	requireServed(t, a, append(acked, more...))
}

func TestFullThenPruned(t *testing.T) {
	policy := store.Policy{Default: store.Retention{MaxMessages: 60}}
	a := open(t, filepath.Join(t.TempDir(), "archive.db"), sqlite.Config{Policy: policy})
	require.NoError(t, sqlite.LimitPages(a, 100))
	fill(t, a, origin)
	pruned, err := a.Prune(t.Context())
	require.NoError(t, err)
	assert.NotZero(t, pruned.Messages)
	more := entries(50, origin.Add(20*time.Hour), 2000)
	require.NoError(t, a.Put(t.Context(), more))
	assert.Equal(t, store.Ready, a.Condition().State)
	requireServed(t, a, more)
}

// TestFullDisk fills a small disk of its own, where the system lets it have one.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("the round without -short runs it: with the race detector SQLite takes its time")
	}
	dir := smallDisk(t, 24<<20)
	policy := store.Policy{Default: store.Retention{MaxAge: 30 * 24 * time.Hour}}
	var clock atomic.Int64
	clock.Store(int64(24 * time.Hour))
	clockNow := func() time.Time { return origin.Add(time.Duration(clock.Load())) }
	now := clockNow()
	path := filepath.Join(dir, "archive.db")
	a := open(t, path, sqlite.Config{Policy: policy, Now: clockNow})
	acked := fill(t, a, origin)
	requireFull(t, a, now, acked)

	t.Log("reopened on a full disk")
	require.NoError(t, a.Close())
	a = open(t, path, sqlite.Config{Policy: policy, Now: clockNow})
	requireServed(t, a, acked)
	acked = append(acked, fill(t, a, origin.Add(10*time.Hour))...)

	t.Log("the policy makes room")
	clock.Store(int64(31 * 24 * time.Hour))
	now = clockNow()
	pruned, err := a.Prune(context.Background())
	require.NoError(t, err)
	assert.EqualValues(t, len(acked), pruned.Messages)
	acked = fill(t, a, now.Add(-10*time.Hour))
	assert.Greater(t, len(acked), 1000)
	requireFull(t, a, now, acked)
	require.NoError(t, a.Close())
	_, err = os.Stat(path + "-wal")
	assert.ErrorIs(t, err, os.ErrNotExist)
}
