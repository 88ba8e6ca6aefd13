package postgres_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// Two hundred who page while messages come in as fast as they can: slow, and no
// error.
func TestBusy(t *testing.T) {
	a := open(t, pgtest.Shared(t).Database(t), postgres.Config{PruneEvery: 50 * time.Millisecond, Logger: logger(t)})
	list := entries(2000, 1000)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.Flush(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	var putters, readers sync.WaitGroup
	for range 4 {
		putters.Go(func() {
			for ctx.Err() == nil {
				assert.NoError(t, a.Put(t.Context(), entries(20, 1000)))
			}
		})
	}
	for range 200 {
		readers.Go(func() {
			q := store.Query{Shard: &shard, Backward: rand.IntN(2) == 0, Limit: 100, HashesOnly: rand.IntN(2) == 0}
			for range 5 {
				p, err := a.Query(t.Context(), q)
				assert.NoError(t, err)
				if q.Cursor = p.Cursor; q.Cursor == nil {
					break
				}
			}
		})
	}
	readers.Wait()
	cancel()
	putters.Wait()
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	require.Equal(t, store.Ready, a.Condition().State)
	requireHeld(t, a, hashes(list))
}

// A server whose statements wait for a lock answers when it is asked whether it
// lives.
func TestLockedIsNotAway(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a := open(t, url, postgres.Config{StatementTimeout: time.Minute})
	since := a.Condition().Since
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE shoal_messages`)
	require.NoError(t, err)
	list := entries(1, 100)
	require.NoError(t, a.Put(t.Context(), list))
	unlocked := make(chan error)
	time.AfterFunc(1500*time.Millisecond, func() { unlocked <- tx.Rollback(context.Background()) })
	_, err = a.Query(t.Context(), store.Query{})
	require.NoError(t, err)
	require.NoError(t, <-unlocked)
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	require.Equal(t, since, a.Condition().Since)
	requireHeld(t, a, hashes(list))
}

// A statement that takes too long is the database's trouble, not the caller's.
func TestStatementTimeout(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a := open(t, url, postgres.Config{StatementTimeout: 100 * time.Millisecond})
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE shoal_messages`)
	require.NoError(t, err)
	_, err = a.Query(t.Context(), store.Query{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = a.Query(ctx, store.Query{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, store.ErrUnavailable)
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = a.Query(t.Context(), store.Query{})
	require.NoError(t, err)
	require.Equal(t, store.Ready, a.Condition().State)
}
