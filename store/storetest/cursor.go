package storetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const day = 24 * time.Hour

// anyCursor: a cursor is a place, whatever else is asked and wherever its message
// is.
func anyCursor(e *env) {
	a, m := e.open(store.Policy{}), NewModel(Config{Now: e.clock.Now})
	now := e.clock.Now()
	list := e.entries(10, shardA, now, time.Second)
	list = append(list, e.entries(10, shardB, now, 1500*time.Millisecond)...)
	list = append(list, e.entries(5, shardB, now.Add(time.Second), 0)...)
	e.put(a, list...)
	require.NoError(e, m.Put(e.ctx, list))
	for i := 0; i < len(list); i += 4 {
		cursor := list[i].Hash
		for _, q := range []store.Query{
			{}, {Shard: &shardA}, {Shard: &shardB}, {Shard: &shardC},
			{Shard: &shardA, ContentTopics: topics[1:3]},
			{Start: now.Add(4 * time.Second), End: now.Add(6 * time.Second)},
			{Hashes: hashes(list[5:15])}, {Shard: &shardB, Hashes: hashes(list[5:15])}, {Hashes: []message.Hash{cursor}},
		} {
			q.Cursor, q.Limit = &cursor, 4
			for _, q.Backward = range both {
				e.sameWalk(m, a, q)
			}
		}
	}
}

// unknownCursor: a place that was never here is said to be unknown.
func unknownCursor(e *env) {
	a := e.open(store.Policy{})
	check := func(h message.Hash) {
		e.Helper()
		for _, backward := range both {
			for _, q := range []store.Query{{}, {Shard: &shardA}, {Hashes: []message.Hash{h}}} {
				q.Cursor, q.Backward, q.Limit = &h, backward, 20
				p, err := a.Query(e.ctx, q)
				assert.ErrorIs(e, err, store.ErrUnknownCursor)
				assert.Empty(e, p.Entries)
			}
		}
	}
	x := e.entry(shardA, topics[0], e.clock.Now())
	check(x.Hash)
	e.put(a, e.entries(3, shardA, e.clock.Now(), 1)...)
	check(x.Hash)
	for i := range x.Hash { // close to a known one
		near := x.Hash
		near[i] ^= 1
		e.put(a, x)
		check(near)
	}
	ephemeral := x.Message.Clone()
	ephemeral.Ephemeral, ephemeral.Payload = true, []byte("not kept")
	y := store.NewEntry(shardA, ephemeral)
	require.Error(e, a.Put(e.ctx, []store.Entry{y}))
	check(y.Hash)
	a = e.reopen(a, store.Policy{})
	check(y.Hash)
	e.page(a, store.Query{Cursor: &x.Hash})
}

// expiredCursor: the place of a message outlives it by a day, whatever ended its
// time.
func expiredCursor(e *env) {
	for name, policy := range map[string]store.Policy{
		"age":             {Default: store.Retention{MaxAge: 30 * day}},
		"number":          {Default: store.Retention{MaxMessages: 20}},
		"size":            {Default: store.Retention{MaxBytes: 20 * 2000}},
		"number, overall": {Total: store.Retention{MaxMessages: 20}},
	} {
		e := e.another()
		a, m := e.open(policy), NewModel(Config{Policy: policy, Now: e.clock.Now})
		now := e.clock.Now()
		var list []store.Entry
		for i := range 40 {
			at := now.Add(-30*day + time.Duration(i)*time.Minute)
			if i == 20 && name != "age" { // the edge parts two of the same time
				at = at.Add(-time.Minute)
			}
			x := e.entry(shardA, topics[0], at)
			x.Message.Payload = payload(i, 1900)
			list = append(list, store.NewEntry(shardA, x.Message))
		}
		sortEntries(list)
		e.put(a, list...)
		require.NoError(e, m.Put(e.ctx, list))
		cursors := hashes(list)
		e.clock.advance(20*time.Minute - 1)
		e.prune(a, m, name)
		require.Len(e, e.walk(a, store.Query{}), 20, name)

		ask := func(a store.Archive) {
			e.Helper()
			for _, i := range []int{0, 11, 18, 19, 20, 21, 39} { // 20 is the first that stays
				cursor := cursors[i]
				e.sameWalk(m, a, store.Query{Cursor: &cursor, Limit: 6})
				e.sameWalk(m, a, store.Query{Cursor: &cursor, Limit: 6, Backward: true})
				e.sameWalk(m, a, store.Query{Cursor: &cursor, Limit: 6, Shard: &shardA, ContentTopics: topics[:1]})
				e.sameWalk(m, a, store.Query{Cursor: &cursor, Limit: 20, Shard: &shardB})
				if i < 20 {
					p := e.page(a, store.Query{Cursor: &cursor, Backward: true})
					require.Empty(e, p.Entries, "older than what has expired")
					require.Nil(e, p.Cursor)
					p = e.page(a, store.Query{Cursor: &cursor, Limit: 1})
					require.Equal(e, list[20].Hash, p.Entries[0].Hash, "the oldest that is kept")
				}
			}
			// What was pruned isn't there for those who know its name.
			e.same(list[20:], e.walk(a, store.Query{Hashes: cursors}))
		}
		ask(a)
		a = e.reopen(a, policy)
		ask(a)
		if name == "age" { // the rest goes as well
			e.clock.advance(day - time.Hour)
			e.prune(a, m, name)
			require.Empty(e, e.walk(a, store.Query{}))
		} else {
			e.clock.advance(day - 1)
			e.prune(a, m, name)
			ask(a)
			a = e.reopen(a, policy)
			ask(a)
		}
		for _, cursor := range cursors {
			e.sameWalk(m, a, store.Query{Cursor: &cursor})
		}
		require.NoError(e, a.Close())
	}
}

// forgottenCursor: a day after the message, its place may be unknown, but never
// wrong.
func forgottenCursor(e *env) {
	policy := store.Policy{Default: store.Retention{MaxMessages: 3}}
	a, m := e.open(policy), NewModel(Config{Policy: policy, Now: e.clock.Now})
	list := e.entries(6, shardA, e.clock.Now(), time.Second)
	e.put(a, list...)
	require.NoError(e, m.Put(e.ctx, list))
	for range 5 {
		e.prune(a, m)
		for i, cursor := range hashes(list) {
			for _, backward := range both {
				q, err := store.Query{Cursor: &cursor, Backward: backward}.Check()
				require.NoError(e, err)
				_, wantErr := m.Query(e.ctx, q)
				got, err := a.Query(e.ctx, q)
				if wantErr != nil && err != nil {
					require.ErrorIs(e, err, store.ErrUnknownCursor)
					continue
				}
				require.NoError(e, err)
				want := list[max(3, i+1):]
				if backward {
					want = list[min(3, i):i]
				}
				e.same(want, got.Entries)
			}
		}
		e.clock.advance(9 * time.Hour)
	}
	// A message that comes back is known again.
	back := list[0]
	e.put(a, back)
	require.NoError(e, m.Put(e.ctx, list[:1]))
	e.sameWalk(m, a, store.Query{Cursor: &back.Hash, Limit: 2})
	e.sameWalk(m, a, store.Query{})
}
