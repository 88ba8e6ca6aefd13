package storetest

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// underFire: while messages arrive everywhere and the oldest go, whoever walks
// meets each message that is there throughout exactly once.
func underFire(e *env) {
	policy := store.Policy{Shards: map[sharding.Shard]store.Retention{shardA: {MaxAge: 2 * day}}}
	writer := e.open(policy)
	readers := []store.Archive{writer}
	if e.place.Shared {
		readers = append(readers, e.open(policy))
	}
	now := e.clock.Now()
	// From the oldest on: some that go at once and one after the other, then the
	// ones that stay.
	going := e.entries(120, shardA, now.Add(-2*day), time.Second)
	staying := e.entries(260, shardA, now.Add(-day), 100*time.Second)
	e.put(writer, slices.Concat(going, staying)...)
	wanted := make(map[message.Hash]bool)
	for _, x := range staying {
		wanted[x.Hash] = true
	}

	var all sync.WaitGroup
	var walking atomic.Int64
	stop := make(chan struct{})
	all.Go(func() { // what arrives, in the past and the present
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 400 {
			var batch []store.Entry
			for range 1 + rnd.IntN(3) {
				at := now.Add(-time.Duration(rnd.Int64N(int64(day + 20*time.Hour))))
				if rnd.IntN(4) == 0 { // beside one that stays
					at = time.Unix(0, staying[rnd.IntN(len(staying))].Message.Timestamp)
				}
				batch = append(batch, e.entry(shardA, topics[rnd.IntN(len(topics))], at))
			}
			assert.NoError(e, writer.Put(e.ctx, batch))
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	all.Go(func() { // what goes
		for range len(going) {
			e.clock.advance(time.Second)
			_, err := writer.Prune(e.ctx)
			assert.NoError(e, err)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	var walkers sync.WaitGroup
	for i, a := range slices.Concat(readers, readers) {
		for _, backward := range both {
			walking.Add(1)
			walkers.Go(func() {
				for round := range 3 {
					q := store.Query{Shard: &shardA, Backward: backward, Limit: []int{7, 50, 100}[(i+round)%3], HashesOnly: round == 1}
					e.meetsOnce(a, q, wanted)
				}
				if i >= len(readers) {
					some := make(map[message.Hash]bool)
					var list []message.Hash
					for j, x := range going {
						list = append(list, x.Hash, staying[j].Hash)
						some[staying[j].Hash] = true
						if len(list) == store.MaxHashes {
							break
						}
					}
					e.meetsOnce(a, store.Query{Hashes: list, Backward: backward, Limit: 9}, some)
					bounds := store.Query{
						Start: time.Unix(0, staying[20].Message.Timestamp), End: time.Unix(0, staying[200].Message.Timestamp),
						Backward: backward, Limit: 11,
					}
					some = make(map[message.Hash]bool)
					for _, x := range staying[20:200] {
						some[x.Hash] = true
					}
					e.meetsOnce(a, bounds, some)
				}
			})
		}
	}
	walkers.Wait()
	close(stop)
	all.Wait()
}

// betweenPages: the same, with all that happens happening between two pages.
func betweenPages(e *env) {
	policy := store.Policy{Default: store.Retention{MaxAge: 2 * day}}
	a := e.open(policy)
	e.put(a, e.entries(60, shardA, e.clock.Now().Add(-47*time.Hour), 10*time.Minute)...)
	for _, limit := range []int{1, 4, 9} {
		for _, backward := range both {
			now := e.clock.Now()
			going := e.entries(12, shardA, now.Add(-2*day), 10*time.Minute)
			staying := e.entries(40, shardA, now.Add(-40*time.Hour), 50*time.Minute)
			e.put(a, slices.Concat(going, staying)...)
			wanted := make(map[message.Hash]bool)
			for _, x := range staying {
				wanted[x.Hash] = true
			}
			steps := 0
			e.meetsOnce(a, store.Query{Limit: limit, Backward: backward}, wanted, func() {
				if steps++; steps*limit > 12 {
					return
				}
				// As many go as a page has: the cursor is the last of them.
				e.clock.advance(time.Duration(limit)*10*time.Minute + 1)
				_, err := a.Prune(e.ctx)
				require.NoError(e, err)
				for _, x := range []store.Entry{staying[0], staying[steps], staying[39]} {
					at := time.Unix(0, x.Message.Timestamp)
					e.put(a, e.entry(shardA, topics[0], at), e.entry(shardA, topics[0], at.Add(1)))
				}
			})
			e.clock.advance(3 * time.Hour)
		}
	}
}

// meetsOnce walks and requires to meet each of the wanted exactly once, and
// nothing twice. It calls between after each page, and may run beside the test.
func (e *env) meetsOnce(a store.Archive, q store.Query, wanted map[message.Hash]bool, between ...func()) {
	q, err := q.Check()
	if !assert.NoError(e, err) {
		return
	}
	met := make(map[message.Hash]bool)
	missing := len(wanted)
	for {
		p, err := a.Query(e.ctx, q)
		if !assert.NoError(e, err, "%s", say(q)) {
			return
		}
		for i, x := range p.Entries {
			if !assert.False(e, met[x.Hash], "met twice") {
				return
			}
			met[x.Hash] = true
			if wanted[x.Hash] {
				missing--
			}
			if i > 0 && !q.HashesOnly {
				assert.Negative(e, p.Entries[i-1].Key().Compare(x.Key()), "entries ascend")
			}
		}
		if p.Cursor == nil {
			break
		}
		if !assert.NotEmpty(e, p.Entries) || !assert.Equal(e, edge(q, p), *p.Cursor) {
			return
		}
		q.Cursor = p.Cursor
		for _, f := range between {
			f()
		}
	}
	assert.Zero(e, missing, "messages not met by %s", say(q))
}

// slowReader: who reads, and stops in the middle, holds up nobody who puts.
func slowReader(e *env) {
	a := e.open(store.Policy{})
	list := e.entries(300, shardA, e.clock.Now().Add(-time.Hour), time.Second)
	e.put(a, list...)
	// Walks that stand still after a page, in both directions and by hash.
	var open []store.Query
	for i := range 30 {
		q := store.Query{Limit: 10, Backward: i%2 == 1}
		if i%3 == 0 {
			q.Hashes = hashes(list[i : i+100])
		}
		p := e.page(a, q)
		q.Cursor = p.Cursor
		open = append(open, q)
	}
	// Readers that never stop.
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			for q := (store.Query{Limit: 100, Backward: i%2 == 1}); ; {
				select {
				case <-stop:
					return
				default:
				}
				p, err := a.Query(e.ctx, q)
				if !assert.NoError(e, err) {
					return
				}
				q.Cursor = p.Cursor
			}
		})
	}
	var more []store.Entry
	for range 50 {
		x := e.entry(shardA, topics[0], e.clock.Now())
		more = append(more, x)
		if err := a.Put(e.ctx, []store.Entry{x}); err != nil {
			e.Errorf("Put beside readers: %v", err)
			break
		}
	}
	assert.NoError(e, a.Flush(e.ctx))
	close(stop)
	readers.Wait()
	all := append(slices.Clone(list), more...)
	sortEntries(all)
	e.same(all, e.walk(a, store.Query{Limit: 100}))
	for _, q := range open { // and the walks go on
		rest := e.walk(a, q)
		if q.Hashes != nil {
			require.Len(e, rest, 90)
		}
	}
}
