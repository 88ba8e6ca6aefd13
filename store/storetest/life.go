package storetest

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// closed: a closed archive says so, whatever it is asked.
func closed(e *env) {
	a := e.open(store.Policy{Default: store.Retention{MaxMessages: 7}})
	e.put(a, e.entries(3, shardA, e.clock.Now(), 1)...)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { assert.NoError(e, a.Close()) })
	}
	all.Wait()
	require.NoError(e, a.Close())
	x := e.entry(shardA, topics[0], e.clock.Now())
	for name, err := range calls(e.ctx, a, x) {
		assert.ErrorIs(e, err, net.ErrClosed, name)
	}
	assert.EqualValues(e, 7, a.Retention(shardA).MaxMessages)
	a.Condition()
}

// closing: Close comes in the middle of everything. What was acknowledged stays.
func closing(e *env) {
	a := e.open(store.Policy{})
	list := e.entries(2000, shardA, e.clock.Now().Add(-time.Hour), time.Second)
	var acked atomic.Int64
	begun := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i, x := range list {
			err := a.Put(e.ctx, []store.Entry{x})
			if i == 5 || err != nil && i < 5 {
				close(begun)
			}
			if err != nil {
				assert.ErrorIs(e, err, net.ErrClosed)
				return
			}
			acked.Add(1)
		}
	})
	var isClosed atomic.Bool
	for range 2 {
		all.Go(func() {
			for {
				was := isClosed.Load()
				if _, err := a.Query(e.ctx, store.Query{Limit: 20}); err != nil || was {
					assert.ErrorIs(e, err, net.ErrClosed)
					return
				}
			}
		})
	}
	<-begun
	require.NoError(e, a.Close())
	isClosed.Store(true)
	all.Wait()
	a = e.open(store.Policy{})
	require.NoError(e, a.Flush(e.ctx))
	got := e.walk(a, store.Query{Limit: store.MaxPageSize})
	n := int(acked.Load())
	require.GreaterOrEqual(e, len(got), n, "what was acknowledged")
	require.LessOrEqual(e, len(got), n+1, "and what was under way")
	e.same(list[:n], got[:n])
}

// marks: a mark moves forward only, and outlives the archive.
func marks(e *env) {
	a := e.open(store.Policy{})
	mark := func(s sharding.Shard, want time.Time) {
		e.Helper()
		got, err := a.Mark(e.ctx, s)
		require.NoError(e, err)
		require.Truef(e, got.Equal(want), "mark of %v: %v, want %v", s, got, want)
		require.Equal(e, want.IsZero(), got.IsZero())
	}
	set := func(s sharding.Shard, t time.Time) {
		e.Helper()
		require.NoError(e, a.SetMark(e.ctx, s, t))
	}
	now := e.clock.Now()
	mark(shardA, time.Time{})
	set(shardA, now)
	mark(shardA, now)
	mark(shardB, time.Time{})
	set(shardA, now.Add(-1))
	mark(shardA, now)
	set(shardA, time.Time{})
	mark(shardA, now)
	set(shardA, now.Add(1))
	mark(shardA, now.Add(1))
	set(shardC, time.Unix(0, 1))
	a = e.reopen(a, store.Policy{})
	mark(shardA, now.Add(1))
	mark(shardB, time.Time{})
	mark(shardC, time.Unix(0, 1))
	set(shardA, now)
	mark(shardA, now.Add(1))
	if e.place.Shared {
		other := e.open(store.Policy{})
		require.NoError(e, other.SetMark(e.ctx, shardB, now))
		mark(shardB, now)
		set(shardB, now.Add(-time.Hour))
		got, err := other.Mark(e.ctx, shardB)
		require.NoError(e, err)
		require.True(e, got.Equal(now))
	}
}

// stats: the counts are exact, and the condition is good.
func stats(e *env) {
	a := e.open(store.Policy{})
	e.counts(a, nil)
	now := e.clock.Now()
	list := slices.Concat(
		e.entries(12, shardC, now.Add(-time.Hour), time.Second),
		e.entries(1, shardA, now, 1),
		e.entries(30, shardB, now.Add(-100*24*time.Hour), 24*time.Hour+1),
		e.entries(2, sharding.Shard{Cluster: 2, Index: 900}, now, 0),
	)
	large := e.entry(shardA, topics[1], now)
	large.Message.Payload = payload(1, 100_000)
	list = append(list, store.NewEntry(shardA, large.Message))
	e.put(a, list...)
	e.counts(a, list)
	s, err := a.Stats(e.ctx)
	require.NoError(e, err)
	assert.GreaterOrEqual(e, s.DiskBytes, s.Bytes, "random bytes take their room")
	c := a.Condition()
	assert.Equal(e, store.Ready, c.State)
	assert.NoError(e, c.Err)
	assert.Zero(e, c.Pending, "after Flush")
	assert.Zero(e, c.PendingBytes)
	assert.Zero(e, c.Refused)
	e.counts(e.reopen(a, store.Policy{}), list)
}

// counts requires of the statistics what these entries make.
func (e *env) counts(a store.Archive, list []store.Entry) {
	e.Helper()
	m := NewModel(Config{Now: e.clock.Now})
	require.NoError(e, m.Put(context.Background(), list))
	e.sameStats(m, a)
}

// sameStats requires an archive to count as a model does.
func (e *env) sameStats(m *Model, a store.Archive) {
	e.Helper()
	want, err := m.Stats(context.Background())
	require.NoError(e, err)
	got, err := a.Stats(e.ctx)
	require.NoError(e, err)
	require.Equal(e, want.Messages, got.Messages, "messages kept")
	require.Equal(e, want.Bytes, got.Bytes, "bytes kept")
	require.Len(e, got.Shards, len(want.Shards), "shards with messages")
	for i, x := range want.Shards {
		y := got.Shards[i]
		require.Equal(e, x.Shard, y.Shard)
		require.Equal(e, x.Messages, y.Messages, "messages of %v", x.Shard)
		require.Equal(e, x.Bytes, y.Bytes, "bytes of %v", x.Shard)
		require.Truef(e, x.Oldest.Equal(y.Oldest), "oldest of %v: %v, want %v", x.Shard, y.Oldest, x.Oldest)
		require.Truef(e, x.Newest.Equal(y.Newest), "newest of %v: %v, want %v", x.Shard, y.Newest, x.Newest)
	}
}
