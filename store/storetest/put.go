package storetest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// putTwice: what is kept already is no error and changes nothing.
func putTwice(e *env) {
	a := e.open(store.Policy{})
	list := e.entries(20, shardA, e.clock.Now().Add(-time.Minute), time.Second)
	require.NoError(e, a.Put(e.ctx, nil))
	require.NoError(e, a.Put(e.ctx, []store.Entry{}))
	e.holds(a, nil)
	e.put(a, append(slices.Clone(list[:12]), list[:12]...)...)
	e.holds(a, list[:12], "doubles in one call")
	e.put(a, list[5:]...)
	e.holds(a, list, "some of them again")
	e.put(a, list...)
	e.holds(a, list, "all of them again")
	e.counts(a, list)

	// No hash covers these fields: the first one who brings the message decides.
	x := list[0]
	x.Message = x.Message.Clone()
	x.Message.Version, x.Message.RateLimitProof = 1, []byte("proof")
	require.Equal(e, x.Hash, x.Message.Hash(x.Shard.PubsubTopic()))
	e.put(a, x)
	e.holds(a, list, "with another version")
	a = e.reopen(a, store.Policy{})
	e.put(a, list...)
	e.holds(a, list, "again after opening again")
	e.counts(a, list)
}

// putTogether: several put the same messages at the same time, in any order.
func putTogether(e *env) {
	archives := []store.Archive{e.open(store.Policy{})}
	if e.place.Shared {
		archives = append(archives, e.open(store.Policy{}), e.open(store.Policy{}))
	}
	list := e.entries(400, shardA, e.clock.Now().Add(-time.Hour), time.Second)
	var all sync.WaitGroup
	for i := range 6 {
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		mine := slices.Clone(list)
		rnd.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		a := archives[i%len(archives)]
		all.Go(func() {
			for part := range slices.Chunk(mine, 1+rnd.IntN(40)) {
				assert.NoError(e, a.Put(e.ctx, part))
			}
		})
	}
	all.Wait()
	for _, a := range archives {
		require.NoError(e, a.Flush(e.ctx))
	}
	for _, a := range archives {
		e.holds(a, list)
		e.counts(a, list)
	}
}

// putAndFind: what Put acknowledged is found at once, or, where archives share
// what they hold, by all of them when Flush has returned.
func putAndFind(e *env) {
	a := e.open(store.Policy{})
	b := a
	if e.place.Shared {
		b = e.open(store.Policy{})
	}
	for range 10 {
		list := e.entries(5, shardA, e.clock.Now(), 0)
		want := hashes(list)
		require.NoError(e, a.Put(e.ctx, list))
		if !e.place.Shared {
			e.same(list, e.walk(a, store.Query{Hashes: want}), "before Flush")
		}
		require.NoError(e, a.Flush(e.ctx))
		e.same(list, e.walk(a, store.Query{Hashes: want}), "where it was put")
		e.same(list, e.walk(b, store.Query{Hashes: want}), "elsewhere, after Flush")
	}
}

// putBack: messages of any age, when no age is named, go where they belong.
func putBack(e *env) {
	a := e.open(store.Policy{})
	var list []store.Entry
	day := 24 * time.Hour
	for _, ago := range []time.Duration{0, 400 * day, day, 20 * 365 * day, 3 * day, 40 * day, -time.Hour, 2 * day} {
		list = append(list, e.entries(3, shardA, e.clock.Now().Add(-ago-time.Minute), time.Second)...)
		e.put(a, list[len(list)-3:]...)
		e.holds(a, list, "%v ago", ago)
	}
	for range 3 { // the clock goes on, also by leaps
		e.clock.advance(9 * day)
		list = append(list, e.entries(3, shardA, e.clock.Now(), time.Second)...)
		e.put(a, list[len(list)-3:]...)
		e.holds(a, list)
	}
	e.holds(e.reopen(a, store.Policy{}), list)
}

// refuse: what can't be kept is named, with the reason, and nothing else of the
// call is kept either.
func refuse(e *env) {
	policy := store.Policy{
		Default: store.Retention{MaxAge: 24 * time.Hour},
		Shards:  map[sharding.Shard]store.Retention{shardB: {}, shardC: {MaxAge: time.Hour}},
	}
	a := e.open(policy)
	now := e.clock.Now()
	with := func(s sharding.Shard, change func(m *message.Message)) store.Entry {
		m := e.entry(s, topics[0], now).Message
		change(m)
		return store.NewEntry(s, m)
	}
	at := func(s sharding.Shard, t time.Time) store.Entry { return e.entry(s, topics[0], t) }
	wrongHash := at(shardA, now)
	wrongHash.Hash[31]++
	otherShard := at(shardA, now)
	otherShard.Shard = shardB
	tooLarge := with(shardA, func(m *message.Message) { m.Payload = payload(1, message.LargeMaxSize) })

	good := e.entries(4, shardA, now, time.Nanosecond)
	for name, c := range map[string]struct {
		entry store.Entry
		err   error
	}{
		"ephemeral":           {with(shardA, func(m *message.Message) { m.Ephemeral = true }), store.ErrEphemeral},
		"no timestamp":        {with(shardA, func(m *message.Message) { m.Timestamp = 0 }), store.ErrNoTimestamp},
		"before 1970":         {with(shardB, func(m *message.Message) { m.Timestamp = -1 }), store.ErrNoTimestamp},
		"too old":             {at(shardA, now.Add(-24*time.Hour-1)), store.ErrTooOld},
		"too old for a shard": {at(shardC, now.Add(-time.Hour-1)), store.ErrTooOld},
		"from the future":     {at(shardB, now.Add(store.MaxFuture+1)), store.ErrFuture},
		"end of time":         {with(shardB, func(m *message.Message) { m.Timestamp = 1<<63 - 1 }), store.ErrFuture},
		"wrong hash":          {wrongHash, store.ErrHashMismatch},
		"another shard":       {otherShard, store.ErrHashMismatch},
		"no payload":          {with(shardA, func(m *message.Message) { m.Payload = nil }), message.ErrEmptyPayload},
		"no topic":            {with(shardA, func(m *message.Message) { m.ContentTopic = "" }), message.ErrEmptyContentTopic},
		"topic not UTF-8":     {with(shardA, func(m *message.Message) { m.ContentTopic = "/\xff" }), message.ErrContentTopicUTF8},
		"long meta":           {with(shardA, func(m *message.Message) { m.Meta = make([]byte, 65) }), message.ErrMetaTooLong},
		"too large":           {tooLarge, tooLarge.Message.CheckSize(message.LargeMaxSize)},
		"no message":          {store.Entry{Hash: good[0].Hash, Shard: shardA}, message.ErrEmptyPayload},
	} {
		for _, list := range [][]store.Entry{
			{c.entry}, {c.entry, good[0]}, {good[0], c.entry}, {good[1], good[0], c.entry, good[2], good[3]},
		} {
			err := a.Put(e.ctx, list)
			var refused *store.EntryError
			require.ErrorAs(e, err, &refused, name)
			assert.Equal(e, c.entry.Hash, refused.Hash, name)
			assert.Equal(e, c.err, refused.Err, name)
		}
	}
	var shard *sharding.IndexError
	x := good[0]
	x.Shard.Index = sharding.MaxIndex + 1
	require.ErrorAs(e, a.Put(e.ctx, []store.Entry{x}), &shard)
	require.NoError(e, a.Flush(e.ctx))
	e.holds(a, nil)

	edges := []store.Entry{
		at(shardA, now.Add(-24*time.Hour)), at(shardC, now.Add(-time.Hour)), at(shardB, time.Unix(0, 1)),
		at(shardA, now.Add(store.MaxFuture)),
	}
	e.put(a, edges...)
	e.holds(a, edges, "exactly at the bounds")
	assert.Zero(e, a.Condition().Refused, "entries that nobody can keep are no gap")
}

// oneHash: nothing separates the parts that a hash covers, so two shards may have
// messages of one hash. Whoever wants a message forgotten could publish its like
// on another shard.
func oneHash(e *env) {
	a := e.open(store.Policy{})
	first, second := sharding.Shard{Cluster: 16, Index: 12}, sharding.Shard{Cluster: 16, Index: 128}
	m := e.entry(second, topics[0], e.clock.Now()).Message
	fake := m.Clone()
	fake.Payload = append([]byte("8"), m.Payload...)
	x, y := store.NewEntry(first, fake), store.NewEntry(second, m)
	require.Equal(e, x.Hash, y.Hash)
	e.put(a, x)
	e.put(a, y)
	e.same([]store.Entry{x}, e.walk(a, store.Query{Shard: &first}))
	e.same([]store.Entry{y}, e.walk(a, store.Query{Shard: &second}))
	e.same([]store.Entry{x}, e.walk(a, store.Query{Shard: &first, Hashes: hashes([]store.Entry{x})}))
	e.same([]store.Entry{y}, e.walk(a, store.Query{Shard: &second, Hashes: hashes([]store.Entry{x})}))
	assert.Len(e, e.page(a, store.Query{}).Entries, 2)
}

// cancelled: a context that has ended ends the call.
func cancelled(e *env) {
	a := e.open(store.Policy{})
	list := e.entries(3, shardA, e.clock.Now(), 1)
	e.put(a, list...)
	done, cancel := context.WithCancel(e.ctx)
	cancel()
	late, cancel := context.WithDeadline(e.ctx, time.Unix(1, 0))
	defer cancel()
	for ctx, want := range map[context.Context]error{done: context.Canceled, late: context.DeadlineExceeded} {
		for name, err := range calls(ctx, a, e.entry(shardA, topics[0], e.clock.Now())) {
			assert.ErrorIs(e, err, want, name)
		}
	}
	e.same(list, e.walk(a, store.Query{Hashes: hashes(list)}), "afterwards")
}

// calls makes every call that may fail, and returns what it got.
func calls(ctx context.Context, a store.Archive, x store.Entry) map[string]error {
	errs := map[string]error{"Put": a.Put(ctx, []store.Entry{x})}
	_, errs["Query"] = a.Query(ctx, store.Query{Limit: 1})
	_, errs["Query by hash"] = a.Query(ctx, store.Query{Limit: 1, Hashes: []message.Hash{x.Hash}})
	_, errs["Query with a cursor"] = a.Query(ctx, store.Query{Limit: 1, Cursor: &x.Hash})
	_, errs["Prune"] = a.Prune(ctx)
	_, errs["Stats"] = a.Stats(ctx)
	_, errs["Mark"] = a.Mark(ctx, shardA)
	errs["SetMark"] = a.SetMark(ctx, shardA, time.Unix(1, 0))
	errs["Flush"] = a.Flush(ctx)
	return errs
}
