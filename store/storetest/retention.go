package storetest

import (
	"context"
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// policies are bounds of every kind, for the messages of retention.
var policies = map[string]store.Policy{
	"none":           {},
	"age":            {Default: store.Retention{MaxAge: 3 * day}},
	"age, long":      {Default: store.Retention{MaxAge: 290 * 365 * day}},
	"number":         {Default: store.Retention{MaxMessages: 17}},
	"one":            {Default: store.Retention{MaxMessages: 1}},
	"size":           {Default: store.Retention{MaxBytes: 9000}},
	"less than one":  {Default: store.Retention{MaxBytes: 10}},
	"overall age":    {Total: store.Retention{MaxAge: 36 * time.Hour}},
	"overall number": {Total: store.Retention{MaxMessages: 41}},
	"overall size":   {Total: store.Retention{MaxBytes: 20_000}},
	"per shard": {
		Default: store.Retention{MaxAge: 2 * day},
		Shards:  map[sharding.Shard]store.Retention{shardB: {MaxMessages: 11}, shardC: {MaxBytes: 4000}},
	},
	"one shard without bounds": {
		Default: store.Retention{MaxMessages: 3, MaxAge: 2 * day},
		Shards:  map[sharding.Shard]store.Retention{shardB: {}},
	},
	"overall age is shorter": {
		Shards: map[sharding.Shard]store.Retention{shardB: {MaxAge: 5 * day}, shardA: {MaxAge: day}},
		Total:  store.Retention{MaxAge: 2 * day},
	},
	"everything": {
		Default: store.Retention{MaxAge: 6 * day, MaxMessages: 30, MaxBytes: 20_000},
		Shards:  map[sharding.Shard]store.Retention{shardB: {MaxMessages: 13}, shardC: {MaxBytes: 9000, MaxAge: 2 * day}},
		Total:   store.Retention{MaxAge: 5 * day, MaxMessages: 45, MaxBytes: 30_000},
	},
}

// retention: what is too old or too much goes, the oldest first, and nothing else.
func retention(e *env) {
	for name, policy := range policies {
		e := e.another()
		m := NewModel(Config{Policy: policy, Now: e.clock.Now})
		a := e.open(store.Policy{})
		list := e.week()
		e.put(a, list...)
		// What is too old for Put has been put under another policy.
		require.NoError(e, m.Reopen(Config{Now: e.clock.Now}).Put(e.ctx, list))
		a = e.reopen(a, policy)
		e.prune(a, m, name)
		e.sameWalk(m, a, store.Query{Limit: 100})
		e.clock.advance(7 * time.Hour)
		for i := range 3 {
			more := e.entries(9, []sharding.Shard{shardA, shardB, shardC}[i], e.clock.Now().Add(-30*time.Hour), 3*time.Hour)
			more = slices.DeleteFunc(more, func(x store.Entry) bool {
				return policy.CheckEntries([]store.Entry{x}, e.clock.Now()) != nil
			})
			e.put(a, more...)
			require.NoError(e, m.Put(e.ctx, more))
			e.prune(a, m, name)
			e.clock.advance(day)
		}
		require.NoError(e, a.Close())
	}
}

// week are messages of three shards over a week, of all sizes, with gaps, some of
// the same time.
func (e *env) week() (list []store.Entry) {
	now := e.clock.Now()
	for i := range 90 {
		s := []sharding.Shard{shardA, shardA, shardB, shardC, shardA}[i%5]
		ago := time.Duration(i*i%91) * 2 * time.Hour
		x := e.entry(s, topics[i%3], now.Add(-ago).Truncate(time.Hour*time.Duration(1+i%4)))
		x.Message.Payload = payload(i, 50+i*37%900)
		list = append(list, store.NewEntry(s, x.Message))
	}
	return list
}

// ageBound: a message that is as old as the bound says is kept, and one a
// nanosecond older isn't.
func ageBound(e *env) {
	policy := store.Policy{
		Default: store.Retention{MaxAge: time.Hour},
		Shards:  map[sharding.Shard]store.Retention{shardB: {MaxAge: 40 * day}},
	}
	a, m := e.open(policy), NewModel(Config{Policy: policy, Now: e.clock.Now})
	for s, age := range map[sharding.Shard]time.Duration{shardA: time.Hour, shardB: 40 * day} {
		list := e.entries(20, s, e.clock.Now().Add(-age), 1)
		e.put(a, list...)
		require.NoError(e, m.Put(e.ctx, list))
	}
	for _, step := range []time.Duration{0, 1, 9, 5, 5} {
		e.clock.advance(step)
		e.prune(a, m)
	}
}

// sameTime: messages of one time are dropped by their order, too.
func sameTime(e *env) {
	policy := store.Policy{Shards: map[sharding.Shard]store.Retention{shardA: {MaxMessages: 7}}, Total: store.Retention{MaxMessages: 12}}
	m := NewModel(Config{Policy: policy, Now: e.clock.Now})
	a := e.open(policy)
	list := append(e.entries(20, shardA, e.clock.Now(), 0), e.entries(20, shardB, e.clock.Now(), 0)...)
	e.put(a, list...)
	require.NoError(e, m.Put(e.ctx, list))
	e.prune(a, m)
	e.sameWalk(m, a, store.Query{})
}

// gaps: a long silence takes nothing along.
func gaps(e *env) {
	policy := store.Policy{Default: store.Retention{MaxAge: 30 * day, MaxMessages: 60}}
	m := NewModel(Config{Policy: policy, Now: e.clock.Now})
	a := e.open(policy)
	for _, pause := range []time.Duration{0, 29 * day, 20 * day, 400 * day, time.Nanosecond, day, 30 * day, 30*day + 1} {
		e.clock.advance(pause)
		more := e.entries(20, shardA, e.clock.Now().Add(-time.Minute), time.Second)
		e.put(a, more...)
		require.NoError(e, m.Put(e.ctx, more))
		e.prune(a, m, pause)
		a = e.reopen(a, policy)
	}
}

// prune applies the policy in an archive and in the model that holds the same, and
// requires the same of both. Once is enough.
func (e *env) prune(a store.Archive, m *Model, about ...any) {
	e.Helper()
	want, err := m.Prune(context.Background())
	require.NoError(e, err)
	got, err := a.Prune(e.ctx)
	require.NoError(e, err, about...)
	e.sameStats(m, a)
	require.Equal(e, want, got, about...)
	again, err := a.Prune(e.ctx)
	require.NoError(e, err, about...)
	require.Zero(e, again, "pruned at once once more")
	e.same(m.all(), e.walk(a, store.Query{Limit: store.MaxPageSize}), about...)
}

// all is everything a model holds.
func (m *Model) all() (list []store.Entry) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	for _, r := range m.data.rows {
		list = append(list, r.Entry)
	}
	return list
}

// policyInForce: the retention that is told is the one in force.
func policyInForce(e *env) {
	for _, p := range policies {
		a := e.open(p)
		for _, s := range []sharding.Shard{shardA, shardB, shardC} {
			assert.Equal(e, p.For(s), a.Retention(s))
		}
		require.NoError(e, a.Close())
	}
}
