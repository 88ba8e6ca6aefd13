package storetest

import (
	"flag"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// randomTime is how long the suite does at random what may be done with an
// archive. rapid.checks above 100, its default, lengthens it.
func randomTime() time.Duration {
	d := 2 * time.Second
	if f := flag.Lookup("rapid.checks"); f != nil {
		if n, err := strconv.Atoi(f.Value.String()); err == nil && n > 100 {
			d *= time.Duration(n) / 100
		}
	}
	if testing.Short() {
		d /= 4
	}
	return d
}

// random: whatever is done in whatever order, an archive is as the model is.
func random(e *env) {
	end := time.Now().Add(randomTime())
	failed := false
	rapid.Check(e, func(t *rapid.T) {
		if time.Now().After(end) && !failed {
			return // a failure is made smaller for as long as that takes
		}
		tb := rapidTB{e.TB, t}
		defer func() { failed = failed || t.Failed() }()
		newWalker(newEnv(tb, func(testing.TB) Place { return e.newPlace(e.TB) }), t).run(t)
	})
}

// rapidTB lets one random run fail as a test does.
type rapidTB struct {
	testing.TB
	t *rapid.T
}

func (r rapidTB) Helper()                           {}
func (r rapidTB) Errorf(format string, args ...any) { r.t.Errorf(format, args...) }
func (r rapidTB) Logf(format string, args ...any)   { r.t.Logf(format, args...) }
func (r rapidTB) FailNow()                          { r.t.FailNow() }
func (r rapidTB) Failed() bool                      { return r.t.Failed() }
func (r rapidTB) Cleanup(f func())                  { r.t.Cleanup(f) }

// walker does things with an archive and with its model.
type walker struct {
	*env
	policy store.Policy
	a      store.Archive
	m      *Model
	begun  time.Time
	ever   []store.Entry
	marks  map[sharding.Shard]time.Time
}

func newWalker(e *env, t *rapid.T) *walker {
	w := &walker{env: e, policy: drawPolicy(t), begun: e.clock.Now(), marks: make(map[sharding.Shard]time.Time)}
	w.a = e.open(w.policy)
	w.m = NewModel(Config{Policy: w.policy, Now: e.clock.Now})
	return w
}

func (w *walker) run(t *rapid.T) {
	t.Repeat(map[string]func(*rapid.T){
		"put":     w.put,
		"put2":    w.put, // more often than the others
		"ask":     w.ask,
		"ask2":    w.ask,
		"prune":   func(t *rapid.T) { w.prune(w.a, w.m) },
		"advance": func(t *rapid.T) { w.clock.advance(drawPause(t)) },
		"reopen": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "another policy") == 0 {
				w.policy = drawPolicy(t)
			}
			w.a = w.reopen(w.a, w.policy)
			w.m = w.m.Reopen(Config{Policy: w.policy, Now: w.clock.Now})
		},
		"mark": w.mark,
	})
	w.prune(w.a, w.m)
}

var (
	randomShards = []sharding.Shard{shardA, shardB, shardC}
	steps        = []time.Duration{0, 1, -1, time.Second, time.Minute, time.Hour, 6 * time.Hour, day, 3 * day}
)

func drawPause(t *rapid.T) time.Duration {
	return max(0, rapid.SampledFrom(steps).Draw(t, "pause")) * time.Duration(rapid.IntRange(1, 5).Draw(t, "times"))
}

func drawPolicy(t *rapid.T) store.Policy {
	bounds := rapid.Custom(func(t *rapid.T) store.Retention {
		return store.Retention{
			MaxAge:      rapid.SampledFrom([]time.Duration{0, 0, 7 * day, 2 * day, time.Hour}).Draw(t, "age"),
			MaxMessages: rapid.SampledFrom([]int64{0, 0, 0, 1, 10, 25}).Draw(t, "messages"),
			MaxBytes:    rapid.SampledFrom([]int64{0, 0, 0, 1, 1000, 5000}).Draw(t, "bytes"),
		}
	})
	p := store.Policy{Default: bounds.Draw(t, "default"), Total: bounds.Draw(t, "total")}
	if rapid.Bool().Draw(t, "per shard") {
		p.Shards = map[sharding.Shard]store.Retention{shardB: bounds.Draw(t, "shard B")}
	}
	return p
}

// put brings new messages, old ones, and some that can't be kept.
func (w *walker) put(t *rapid.T) {
	var list []store.Entry
	for range rapid.IntRange(1, 12).Draw(t, "entries") {
		if len(w.ever) > 0 && rapid.IntRange(0, 3).Draw(t, "again") == 0 {
			list = append(list, rapid.SampledFrom(w.ever).Draw(t, "which"))
			continue
		}
		// Few times, so that some are the same, and some too old.
		at := w.clock.Now()
		if rapid.Bool().Draw(t, "by the hour") {
			at = w.begun.Truncate(time.Hour)
		}
		at = at.Add(-rapid.SampledFrom(steps).Draw(t, "step") * time.Duration(rapid.IntRange(0, 3).Draw(t, "steps")))
		x := w.entry(rapid.SampledFrom(randomShards).Draw(t, "shard"), rapid.SampledFrom(topics).Draw(t, "topic"), at)
		x.Message.Payload = fmt.Appendf(x.Message.Payload, "%0*d", rapid.IntRange(1, 600).Draw(t, "size"), 0)
		list = append(list, store.NewEntry(x.Shard, x.Message))
	}
	want, got := w.m.Put(w.ctx, list), w.a.Put(w.ctx, list)
	require.Equal(w, want, got)
	if want == nil {
		w.ever = append(w.ever, list...)
	}
	require.NoError(w, w.a.Flush(w.ctx))
}

// ask asks for something and walks on to the end.
func (w *walker) ask(t *rapid.T) {
	q := store.Query{
		Limit:      rapid.SampledFrom([]int{0, 1, 2, 3, 7, 100}).Draw(t, "limit"),
		Backward:   rapid.Bool().Draw(t, "backward"),
		HashesOnly: rapid.Bool().Draw(t, "hashes only"),
	}
	if rapid.Bool().Draw(t, "one shard") {
		q.Shard = new(rapid.SampledFrom(randomShards).Draw(t, "shard"))
		q.ContentTopics = rapid.SliceOfN(rapid.SampledFrom(topics), 0, 3).Draw(t, "topics")
	}
	some := func() store.Entry { return rapid.SampledFrom(w.ever).Draw(t, "one of them") }
	known := len(w.ever) > 0
	switch {
	case known && q.ContentTopics == nil && rapid.Bool().Draw(t, "by hash"):
		for range rapid.IntRange(1, 20).Draw(t, "hashes") {
			q.Hashes = append(q.Hashes, some().Hash)
		}
	case known && rapid.Bool().Draw(t, "times"):
		q.Start = time.Unix(0, some().Message.Timestamp)
		q.End = time.Unix(0, some().Message.Timestamp)
		if q.Start.After(q.End) {
			q.Start, q.End = q.End, q.Start
		}
	}
	if known && rapid.Bool().Draw(t, "from within") {
		q.Cursor = new(some().Hash)
	}
	q, err := q.Check()
	require.NoError(w, err)
	if _, err := w.m.Query(w.ctx, q); err == nil {
		w.sameWalk(w.m, w.a, q)
		return
	}
	// Forgotten places may be remembered, and must then be the right ones.
	got, err := w.a.Query(w.ctx, q)
	if err != nil {
		require.ErrorIs(w, err, store.ErrUnknownCursor)
		return
	}
	w.m.data.mu.Lock()
	defer w.m.data.mu.Unlock()
	want, err := w.m.data.query(q, func(gone) bool { return true })
	require.NoError(w, err)
	w.same(want.Entries, got.Entries, say(q))
	require.Equal(w, want.Cursor, got.Cursor)
}

func (w *walker) mark(t *rapid.T) {
	s := rapid.SampledFrom(randomShards).Draw(t, "shard")
	at := time.Unix(0, rapid.Int64Range(1, math.MaxInt64).Draw(t, "mark"))
	require.NoError(w, w.a.SetMark(w.ctx, s, at))
	if at.After(w.marks[s]) {
		w.marks[s] = at
	}
	got, err := w.a.Mark(w.ctx, s)
	require.NoError(w, err)
	require.True(w, got.Equal(w.marks[s]))
}
