package storetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// both are the two directions.
var both = []bool{false, true}

// order: by timestamp, then by hash, whatever the order of putting.
func order(e *env) {
	a := e.open(store.Policy{})
	now := e.clock.Now()
	var list []store.Entry
	for i := range 12 { // ties, and neighbours a nanosecond apart
		list = append(list, e.entries(4, shardA, now.Add(time.Duration(i-6)), 0)...)
		list = append(list, e.entries(2, shardB, now.Add(time.Duration(i-6)), 0)...)
	}
	for i := range list { // neither the order of time nor that of hashes
		e.put(a, list[i*31%len(list)])
	}
	sortEntries(list)
	for _, backward := range both {
		e.same(list, e.walk(a, store.Query{Backward: backward, Limit: 100}))
		e.same(list, e.walk(a, store.Query{Backward: backward, Limit: 5}))
		e.same(of(list, shardB), e.walk(a, store.Query{Backward: backward, Limit: 5, Shard: new(shardB)}))
	}
}

// of are the entries of one shard.
func of(list []store.Entry, s sharding.Shard) (own []store.Entry) {
	for _, x := range list {
		if x.Shard == s {
			own = append(own, x)
		}
	}
	return own
}

// pages: pages of every size, in both directions, meet without a gap, and none is
// empty at the end.
func pages(e *env) {
	a := e.open(store.Policy{})
	const n = 24
	list := append(e.entries(n/2, shardA, e.clock.Now(), time.Second), e.entries(n/2, shardA, e.clock.Now().Add(time.Minute), 0)...)
	e.put(a, list...)
	for limit := 1; limit <= n+1; limit++ {
		for _, hashesOnly := range both {
			forward := store.Query{Limit: limit, HashesOnly: hashesOnly, Shard: new(shardA)}
			for rest := list; ; {
				p := e.page(a, forward)
				k := min(limit, len(rest))
				e.same(rest[:k], p.Entries, "forward by %d", limit)
				rest = rest[k:]
				require.Equal(e, len(rest) > 0, p.Cursor != nil, "a cursor, forward by %d, %d are left", limit, len(rest))
				if p.Cursor == nil {
					break
				}
				forward.Cursor = p.Cursor
			}
			backward := store.Query{Limit: limit, HashesOnly: hashesOnly, Shard: new(shardA), Backward: true}
			for rest := list; ; {
				p := e.page(a, backward)
				k := max(0, len(rest)-limit)
				e.same(rest[k:], p.Entries, "backward by %d", limit)
				rest = rest[:k]
				require.Equal(e, len(rest) > 0, p.Cursor != nil, "a cursor, backward by %d, %d are left", limit, len(rest))
				if p.Cursor == nil {
					break
				}
				backward.Cursor = p.Cursor
			}
		}
	}
	// Some compute the cursor themselves and stop at an empty page.
	for cursor, q := range map[message.Hash]store.Query{list[n-1].Hash: {}, list[0].Hash: {Backward: true}} {
		q.Cursor = &cursor
		p := e.page(a, q)
		assert.Empty(e, p.Entries, "behind the end")
		assert.Nil(e, p.Cursor, "behind the end")
	}
}

// limits: how many entries a page has when the question says nothing, or too much.
func limits(e *env) {
	a := e.open(store.Policy{})
	list := e.entries(store.MaxPageSize+5, shardA, e.clock.Now(), 1)
	e.put(a, list...)
	for asked, want := range map[int]int{
		0: store.DefaultPageSize, 1: 1, 99: 99, 100: 100, 101: 100, math.MaxInt32: 100, math.MaxInt: 100,
	} {
		for _, backward := range both {
			q := store.Query{Limit: asked, Backward: backward}
			p, err := a.Query(e.ctx, q) // not normalised
			require.NoError(e, err)
			assert.Len(e, p.Entries, want, "limit %d", asked)
			q.Hashes = hashes(list[:store.MaxHashes])
			p, err = a.Query(e.ctx, q)
			require.NoError(e, err)
			assert.Len(e, p.Entries, want, "limit %d, by hash", asked)
			assert.Equal(e, want < store.MaxHashes, p.Cursor != nil, "limit %d, by hash", asked)
		}
	}
}

// maxBytes: a page ends early when its messages become too large, never before it
// has begun.
func maxBytes(e *env) {
	a := e.open(store.Policy{})
	var list []store.Entry
	for i, size := range []int{100, 3000, 10, 10, 10, 150 << 10, 1, 900, 900, 900, 1 << 19, 20, 5000, 5000} {
		x := e.entry(shardA, topics[0], e.clock.Now().Add(time.Duration(i)))
		x.Message.Payload = payload(i, size)
		list = append(list, store.NewEntry(shardA, x.Message))
	}
	e.put(a, list...)
	for _, limit := range []int{1, 1000, 3300, 10_000, 160 << 10, 1 << 20, math.MaxInt} {
		for _, backward := range both {
			q := store.Query{Backward: backward, Limit: 9, MaxBytes: limit}
			for rest := list; len(rest) > 0; {
				p := e.page(a, q)
				e.endsRightly(q, p, rest)
				n := len(p.Entries)
				if backward {
					e.same(rest[len(rest)-n:], p.Entries, "in pages of %d bytes", limit)
					rest = rest[:len(rest)-n]
				} else {
					e.same(rest[:n], p.Entries, "in pages of %d bytes", limit)
					rest = rest[n:]
				}
				require.Equal(e, len(rest) > 0, p.Cursor != nil, "a cursor, %d are left", len(rest))
				q.Cursor = p.Cursor
			}
			byHash := store.Query{Backward: backward, MaxBytes: limit, Hashes: hashes(list)}
			e.same(list, e.walk(a, byHash), "by hash, in pages of %d bytes", limit)
		}
	}
}

// endsRightly requires a page to end neither too late nor too early, given what
// was left before it. The entry that reaches the bound may be in it or not.
func (e *env) endsRightly(q store.Query, p store.Page, rest []store.Entry) {
	e.Helper()
	page, rest := slices.Clone(p.Entries), slices.Clone(rest)
	if q.Backward {
		slices.Reverse(page)
		slices.Reverse(rest)
	}
	require.NotEmpty(e, page)
	sum := func(list []store.Entry) (n int) {
		for _, x := range list {
			n += x.Message.Size()
		}
		return n
	}
	n := len(page)
	require.Less(e, sum(page[:n-1]), q.MaxBytes, "before the page's last entry")
	if n < q.Limit && n < len(rest) {
		require.GreaterOrEqual(e, sum(rest[:n+1]), q.MaxBytes, "a page of %d, the next entry has room in it", n)
	}
}

// timeBounds: the start is included, the end isn't, to the nanosecond.
func timeBounds(e *env) {
	a := e.open(store.Policy{})
	now := e.clock.Now()
	var list []store.Entry
	for i := range 10 {
		list = append(list, e.entries(2, shardA, now.Add(time.Duration(i)), 0)...)
	}
	old := e.entry(shardA, topics[0], time.Unix(0, 1))
	e.put(a, append(slices.Clone(list), old)...)
	for from := range 11 {
		for to := from; to <= 11; to++ {
			q := store.Query{Start: now.Add(time.Duration(from)), End: now.Add(time.Duration(to)), Limit: 3}
			for _, q.Backward = range both {
				want := list[2*from : min(20, 2*to)]
				e.same(want, e.walk(a, q), "from %d to %d", from, to)
				q.Cursor = &old.Hash // before all of them
				if q.Backward {
					want = nil
				}
				e.same(want, e.walk(a, q), "from %d to %d, cursor before", from, to)
				q.Cursor = nil
			}
		}
	}
	all := append([]store.Entry{old}, list...)
	first, last := time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)
	for _, c := range []struct {
		start, end time.Time
		want       []store.Entry
	}{
		{time.Time{}, time.Time{}, all}, {first, last, all}, {first, time.Time{}, all}, {time.Time{}, last, all},
		{last, last, nil}, {first, first, nil}, {time.Time{}, first, nil}, {last, time.Time{}, nil},
		{time.Unix(0, 0), time.Unix(0, 1), nil}, {time.Unix(0, 0), time.Unix(0, 2), all[:1]}, {time.Unix(0, 1), time.Unix(0, 2), all[:1]},
		{time.Unix(0, 2), last, list}, {time.Time{}, now, all[:1]}, {now, time.Time{}, list},
	} {
		for _, backward := range both {
			q := store.Query{Start: c.start, End: c.end, Backward: backward, Limit: 7}
			e.same(c.want, e.walk(a, q), "from %v to %v", c.start, c.end)
		}
	}
}

// filters: every combination of criteria lets through what the model lets through.
func filters(e *env) {
	a, m := e.open(store.Policy{}), NewModel(Config{Now: e.clock.Now})
	now := e.clock.Now()
	var list []store.Entry
	for i, s := range []sharding.Shard{shardA, shardB, shardC} {
		for range 40 {
			at := now.Add(time.Duration(len(list)*7%20) * time.Minute)
			list = append(list, e.entry(s, topics[len(list)%(len(topics)-i)], at))
		}
	}
	e.put(a, list...)
	require.NoError(e, m.Put(e.ctx, list))
	shards := []*sharding.Shard{nil, &shardA, &shardB, {Cluster: 1}}
	topicSets := [][]string{nil, topics[:1], topics[1:2], topics[1:], {"/none"}, {"/app/1/chat/prot", "/App/1/chat/proto"}, {"%"}}
	times := [][2]time.Time{{}, {now.Add(5 * time.Minute), now.Add(15 * time.Minute)}, {now.Add(19 * time.Minute)}, {{}, now.Add(2 * time.Minute)}}
	cursors := []*message.Hash{nil, &list[3].Hash, &list[70].Hash}
	var asked []store.Query
	for _, s := range shards {
		for _, t := range topicSets {
			for _, bounds := range times {
				if s != nil || t == nil {
					asked = append(asked, store.Query{Shard: s, ContentTopics: t, Start: bounds[0], End: bounds[1]})
				}
			}
		}
		some := hashes(list[30:90])
		asked = append(asked, store.Query{Shard: s, Hashes: some[:1]}, store.Query{Shard: s, Hashes: some},
			store.Query{Shard: s, Hashes: append(some[:20:20], message.Hash{1}, some[0], message.Hash{})},
			store.Query{Shard: s, Hashes: []message.Hash{{2}}})
	}
	for i, q := range asked {
		for j, cursor := range cursors {
			q.Cursor, q.Limit = cursor, []int{7, 100, 20}[(i+j)%3]
			for _, q.Backward = range both {
				e.sameWalk(m, a, q)
			}
			q.Backward, q.HashesOnly = j == 1, true
			e.sameWalk(m, a, q)
		}
	}
}

// manyTopics: pages of many topics are what the model's are, though some topics
// have far more than others, some have nothing for long, and many share a time.
func manyTopics(e *env) {
	a, m := e.open(store.Policy{}), NewModel(Config{Now: e.clock.Now})
	random := rand.New(rand.NewPCG(1, 2))
	var names []string
	for i := range store.MaxContentTopics {
		names = append(names, fmt.Sprintf("/many/1/%d/proto", i))
	}
	var list []store.Entry
	for i := range 240 {
		topic := 0 // alone, first and last
		if i >= 60 && i < 200 {
			topic = random.IntN(1 + random.IntN(len(names)))
		}
		at := e.clock.Now().Add(time.Duration(i/10+random.IntN(3)-26) * 3 * time.Hour)
		list = append(list, e.entry(shardA, names[topic], at))
	}
	e.put(a, list...)
	require.NoError(e, m.Put(e.ctx, list))
	for i, asked := range [][]string{names, names[1:], names[:3], names[4:8]} {
		for j, limit := range []int{4, 15, 50, 100} {
			for _, backward := range both {
				q := store.Query{Shard: &shardA, ContentTopics: asked, Limit: limit, Backward: backward}
				e.sameWalk(m, a, q)
				q.Start, q.HashesOnly = time.Unix(0, list[70+10*i].Message.Timestamp), true
				q.End = q.Start.Add(time.Duration(3*j) * day)
				e.sameWalk(m, a, q)
			}
		}
	}
}

// sameWalk requires an archive to answer as a model does, page by page.
func (e *env) sameWalk(m *Model, a store.Archive, q store.Query) {
	e.Helper()
	for {
		want, err := m.Query(e.ctx, q)
		require.NoError(e, err)
		got := e.page(a, q)
		e.same(want.Entries, got.Entries, "%s", say(q))
		require.Equal(e, want.Cursor, got.Cursor, "cursor of %s", say(q))
		if got.Cursor == nil {
			return
		}
		q.Cursor = got.Cursor
	}
}

// say makes a question readable.
func say(q store.Query) string {
	text := fmt.Sprintf("shard %v, topics %q, from %v to %v, %d hashes %v, backward %v, limit %d",
		q.Shard, q.ContentTopics, q.Start, q.End, len(q.Hashes), q.Hashes, q.Backward, q.Limit)
	if q.Cursor != nil {
		text += ", cursor " + q.Cursor.String()
	}
	return text
}

// wrongQuestions: what makes no sense is said to make none.
func wrongQuestions(e *env) {
	a := e.open(store.Policy{})
	list := e.entries(3, shardA, e.clock.Now(), 1)
	e.put(a, list...)
	many := make([]message.Hash, store.MaxHashes+1)
	var tooMany []string
	for i := range many {
		many[i][0] = byte(i + 1)
		tooMany = append(tooMany, fmt.Sprint("/", i))
	}
	hash := many[:1]
	for name, c := range map[string]struct {
		q     store.Query
		field string
	}{
		"shard":             {store.Query{Shard: &sharding.Shard{Index: 1024}}, "Shard"},
		"topics":            {store.Query{Shard: &shardA, ContentTopics: tooMany[:store.MaxContentTopics+1]}, "ContentTopics"},
		"empty topic":       {store.Query{Shard: &shardA, ContentTopics: []string{""}}, "ContentTopics"},
		"topic, no shard":   {store.Query{ContentTopics: topics}, "ContentTopics"},
		"hashes":            {store.Query{Hashes: many}, "Hashes"},
		"hashes and topics": {store.Query{Shard: &shardA, Hashes: hash, ContentTopics: topics}, "Hashes"},
		"hashes and start":  {store.Query{Hashes: hash, Start: e.clock.Now()}, "Hashes"},
		"hashes and end":    {store.Query{Hashes: hash, End: e.clock.Now()}, "Hashes"},
		"end before start":  {store.Query{Start: time.Unix(0, 2), End: time.Unix(0, 1)}, "End"},
		"start":             {store.Query{Start: time.Unix(1<<40, 0)}, "Start"},
		"end":               {store.Query{End: time.Unix(-1<<40, 0)}, "End"},
		"limit":             {store.Query{Limit: -1}, "Limit"},
		"bytes":             {store.Query{MaxBytes: -1}, "MaxBytes"},
		"empty cursor":      {store.Query{Cursor: new(message.Hash)}, "Cursor"},
	} {
		_, err := a.Query(e.ctx, c.q)
		var wrong *store.QueryError
		require.ErrorAs(e, err, &wrong, name)
		assert.Equal(e, c.field, wrong.Field, name)
	}
	e.same(list, e.walk(a, store.Query{Shard: &shardA, ContentTopics: append(slices.Clone(topics), topics...)}), "topics named twice")
	e.same(list[:1], e.walk(a, store.Query{Hashes: append(hashes(list[:1]), many[:99]...)}), "as many hashes as may be")
}
