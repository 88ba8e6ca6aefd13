package storetest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("rapid.nofailfile", "true") // mutants fail on purpose
	os.Exit(m.Run())
}

// mutant is a model with a fault.
type mutant struct {
	*Model
	put     func(m *Model, ctx context.Context, entries []store.Entry) error
	query   func(m *Model, ctx context.Context, q store.Query) (store.Page, error)
	prune   func(m *Model, ctx context.Context) (store.Pruned, error)
	stats   func(m *Model, ctx context.Context) (store.Stats, error)
	setMark func(m *Model, ctx context.Context, s sharding.Shard, t time.Time) error
	reopen  func(m *Model)
	close   func(m *Model) error
}

func (m *mutant) Put(ctx context.Context, entries []store.Entry) error {
	if m.put != nil {
		return m.put(m.Model, ctx, entries)
	}
	return m.Model.Put(ctx, entries)
}

func (m *mutant) Query(ctx context.Context, q store.Query) (store.Page, error) {
	if m.query != nil {
		return m.query(m.Model, ctx, q)
	}
	return m.Model.Query(ctx, q)
}

func (m *mutant) Prune(ctx context.Context) (store.Pruned, error) {
	if m.prune != nil {
		return m.prune(m.Model, ctx)
	}
	return m.Model.Prune(ctx)
}

func (m *mutant) Stats(ctx context.Context) (store.Stats, error) {
	if m.stats != nil {
		return m.stats(m.Model, ctx)
	}
	return m.Model.Stats(ctx)
}

func (m *mutant) SetMark(ctx context.Context, s sharding.Shard, t time.Time) error {
	if m.setMark != nil {
		return m.setMark(m.Model, ctx, s, t)
	}
	return m.Model.SetMark(ctx, s, t)
}

func (m *mutant) Close() error {
	if m.close != nil {
		return m.close(m.Model)
	}
	return m.Model.Close()
}

// changed files messages changed.
func changed(change func(x *message.Message)) mutant {
	return mutant{put: func(m *Model, ctx context.Context, entries []store.Entry) error {
		if err := m.policy.CheckEntries(entries, m.now()); err != nil {
			return err
		}
		if err := m.enter(ctx); err != nil {
			return err
		}
		defer m.data.mu.Unlock()
		for _, e := range entries {
			e.Message = e.Message.Clone()
			change(e.Message)
			m.data.file(e)
		}
		return nil
	}}
}

// asked changes questions.
func asked(change func(q *store.Query)) mutant {
	return mutant{query: func(m *Model, ctx context.Context, q store.Query) (store.Page, error) {
		change(&q)
		return m.Query(ctx, q)
	}}
}

// answered changes answers.
func answered(change func(m *Model, q store.Query, p *store.Page)) mutant {
	return mutant{query: func(m *Model, ctx context.Context, q store.Query) (store.Page, error) {
		p, err := m.Query(ctx, q)
		if err == nil {
			change(m, q, &p)
		}
		return p, err
	}}
}

// forgets changes what is known of pruned messages.
func forgets(change func(m *Model)) mutant {
	return mutant{prune: func(m *Model, ctx context.Context) (store.Pruned, error) {
		p, err := m.Prune(ctx)
		if err == nil {
			m.data.mu.Lock()
			defer m.data.mu.Unlock()
			change(m)
		}
		return p, err
	}}
}

// pruned prunes by another policy.
func pruned(change func(p *store.Policy)) mutant {
	return mutant{prune: func(m *Model, ctx context.Context) (store.Pruned, error) {
		policy := m.policy
		change(&policy)
		return m.pruneBy(ctx, policy)
	}}
}

// mutants are faults by the test that is there to notice them.
var mutants = map[string]map[string]mutant{
	"RoundTrip": {
		"meta lost":      changed(func(x *message.Message) { x.Meta = nil }),
		"proof lost":     changed(func(x *message.Message) { x.RateLimitProof = nil }),
		"version lost":   changed(func(x *message.Message) { x.Version = 0 }),
		"presence lost":  changed(func(x *message.Message) { x.Explicit = 0 }),
		"microseconds":   changed(func(x *message.Message) { x.Timestamp -= x.Timestamp % 1000 }),
		"topic at zero":  changed(func(x *message.Message) { x.ContentTopic, _, _ = strings.Cut(x.ContentTopic, "\x00") }),
		"payload capped": changed(func(x *message.Message) { x.Payload = x.Payload[:min(len(x.Payload), 1<<20-4096)] }),
	},
	"Reopen": {
		"data are lost": {reopen: func(m *Model) { m.data.rows = m.data.rows[:max(0, len(m.data.rows)-1)] }},
	},
	"PutTwice": {
		"last of a batch lost": {put: func(m *Model, ctx context.Context, entries []store.Entry) error {
			err := m.Put(ctx, entries)
			if n := len(entries); err == nil && n > 19 {
				m.lose(entries[n-1])
			}
			return err
		}},
		"doubles are an error": {put: func(m *Model, ctx context.Context, entries []store.Entry) error {
			seen := make(map[message.Hash]bool)
			for _, e := range entries {
				if seen[e.Hash] {
					return fmt.Errorf("a double")
				}
				seen[e.Hash] = true
			}
			return m.Put(ctx, entries)
		}},
		"the last one wins": {put: func(m *Model, ctx context.Context, entries []store.Entry) error {
			if err := m.policy.CheckEntries(entries, m.now()); err == nil {
				for _, e := range entries {
					m.lose(e)
				}
			}
			return m.Put(ctx, entries)
		}},
	},
	"Refuse": {
		"batch is kept in part": {put: func(m *Model, ctx context.Context, entries []store.Entry) error {
			for _, e := range entries {
				if err := m.Put(ctx, []store.Entry{e}); err != nil {
					return err
				}
			}
			return ctx.Err()
		}},
		"hash not checked": {put: func(m *Model, ctx context.Context, entries []store.Entry) error {
			entries = slices.Clone(entries)
			for i, e := range entries {
				if e.Message != nil && e.Shard.Valid() == nil {
					entries[i].Hash = e.Message.Hash(e.Shard.PubsubTopic())
				}
			}
			return m.Put(ctx, entries)
		}},
	},
	"OneHash": {
		"one shard a hash": {put: func(m *Model, ctx context.Context, entries []store.Entry) error {
			m.data.mu.Lock()
			fresh := slices.DeleteFunc(slices.Clone(entries), func(e store.Entry) bool {
				return slices.ContainsFunc(m.data.rows, func(r row) bool { return r.Hash == e.Hash })
			})
			m.data.mu.Unlock()
			if err := m.policy.CheckEntries(entries, m.now()); err != nil {
				return err
			}
			return m.Put(ctx, fresh)
		}},
		"shard ignored by hash": asked(func(q *store.Query) {
			if len(q.Hashes) > 0 {
				q.Shard = nil
			}
		}),
	},
	"Order": {
		"descending pages": answered(func(_ *Model, q store.Query, p *store.Page) {
			if q.Backward {
				slices.Reverse(p.Entries)
			}
		}),
	},
	"Pages": {
		"limit is a page more":   asked(func(q *store.Query) { q.Limit = min(q.Limit+1, 100) }),
		"always hashes and data": asked(func(q *store.Query) { q.HashesOnly = false }),
		"cursor at the last page": answered(func(_ *Model, q store.Query, p *store.Page) {
			if len(p.Entries) == q.Limit {
				p.Cursor = new(edge(q, *p))
			}
		}),
		"cursor at the other edge": answered(func(_ *Model, q store.Query, p *store.Page) {
			if p.Cursor != nil && q.Backward {
				p.Cursor = new(p.Entries[len(p.Entries)-1].Hash)
			}
		}),
		"cursor by time alone": {query: func(m *Model, ctx context.Context, q store.Query) (store.Page, error) {
			p, err := m.Query(ctx, q)
			if err == nil && q.Cursor != nil && !q.HashesOnly {
				m.data.mu.Lock()
				k := m.data.place(*q.Cursor, func(gone) bool { return true })
				m.data.mu.Unlock()
				p.Entries = slices.DeleteFunc(p.Entries, func(e store.Entry) bool { return e.Message.Timestamp == k.Time })
			}
			return p, err
		}},
	},
	"Limits": {
		"default limit is 100": asked(func(q *store.Query) {
			if q.Limit == 0 {
				q.Limit = 100
			}
		}),
	},
	"MaxBytes": {
		"bytes ignored":    asked(func(q *store.Query) { q.MaxBytes = 0 }),
		"one byte too few": asked(func(q *store.Query) { q.MaxBytes = min(q.MaxBytes, 500) }),
		"no cursor when bytes end a page": answered(func(_ *Model, q store.Query, p *store.Page) {
			if len(p.Entries) < q.Limit {
				p.Cursor = nil
			}
		}),
	},
	"TimeBounds": {
		"end is included": asked(func(q *store.Query) {
			if !q.End.IsZero() && q.End.Year() < 2200 {
				q.End = q.End.Add(1)
			}
		}),
		"start is not included": asked(func(q *store.Query) {
			if !q.Start.IsZero() && q.Start.Before(q.End) {
				q.Start = q.Start.Add(1)
			}
		}),
	},
	"Filters": {
		"topics ignored": asked(func(q *store.Query) { q.ContentTopics = nil }),
		"topics without case": asked(func(q *store.Query) {
			for _, t := range q.ContentTopics {
				if t == topics[1] && len(q.ContentTopics) == 1 {
					q.ContentTopics = topics[1:3]
				}
			}
		}),
	},
	"ManyTopics": {
		"a topic has twice its share of a page at most": answered(func(_ *Model, q store.Query, p *store.Page) {
			has := make(map[string]int)
			p.Entries = slices.DeleteFunc(p.Entries, func(x store.Entry) bool {
				if q.HashesOnly || len(q.ContentTopics) < 3 {
					return false
				}
				has[x.Message.ContentTopic]++
				return has[x.Message.ContentTopic] > 2*q.Limit/len(q.ContentTopics)
			})
		}),
	},
	"WrongQuestions": {
		"questions aren't checked": {query: func(m *Model, ctx context.Context, q store.Query) (store.Page, error) {
			if q.Limit < 0 {
				return store.Page{}, nil
			}
			return m.Query(ctx, q)
		}},
	},
	"AnyCursor": {
		"forward by hash": asked(func(q *store.Query) { q.Backward = q.Backward && len(q.Hashes) == 0 }),
		"cursor ignored by hash": asked(func(q *store.Query) {
			if len(q.Hashes) > 0 {
				q.Cursor = nil
			}
		}),
		"cursor of another shard is unknown": {query: func(m *Model, ctx context.Context, q store.Query) (store.Page, error) {
			if q.Cursor != nil && q.Shard != nil {
				m.data.mu.Lock()
				other := slices.ContainsFunc(m.data.rows, func(r row) bool { return r.Hash == *q.Cursor && r.Shard != *q.Shard })
				m.data.mu.Unlock()
				if other {
					return store.Page{}, store.ErrUnknownCursor
				}
			}
			return m.Query(ctx, q)
		}},
	},
	"UnknownCursor": {
		"unknown cursor is the beginning": {query: func(m *Model, ctx context.Context, q store.Query) (store.Page, error) {
			p, err := m.Query(ctx, q)
			if err == store.ErrUnknownCursor {
				q.Cursor = nil
				return m.Query(ctx, q)
			}
			return p, err
		}},
		"unknown cursor is the end": {query: func(m *Model, ctx context.Context, q store.Query) (store.Page, error) {
			p, err := m.Query(ctx, q)
			if err == store.ErrUnknownCursor {
				return store.Page{}, nil
			}
			return p, err
		}},
	},
	"ExpiredCursor": {
		"grace of half a day": forgets(func(m *Model) {
			for h, g := range m.data.gone {
				if m.now().Sub(g.at) > 12*time.Hour {
					delete(m.data.gone, h)
				}
			}
		}),
		"grace counts from the timestamp": forgets(func(m *Model) {
			for h, g := range m.data.gone {
				if m.now().Sub(time.Unix(0, g.key.Time)) > 24*time.Hour {
					delete(m.data.gone, h)
				}
			}
		}),
		"expired places move": forgets(func(m *Model) {
			for h, g := range m.data.gone {
				g.key.Time += int64(time.Hour)
				m.data.gone[h] = g
			}
		}),
		"grace ends with the process": {reopen: func(m *Model) { clear(m.data.gone) }},
	},
	"Retention": {
		"nothing is pruned":  pruned(func(p *store.Policy) { *p = store.Policy{} }),
		"number ignored":     pruned(func(p *store.Policy) { p.Default.MaxMessages = 0 }),
		"size ignored":       pruned(func(p *store.Policy) { p.Default.MaxBytes = 0 }),
		"shards ignored":     pruned(func(p *store.Policy) { p.Shards = nil }),
		"total ignored":      pruned(func(p *store.Policy) { p.Total = store.Retention{} }),
		"total size ignored": pruned(func(p *store.Policy) { p.Total.MaxBytes = 0 }),
		"one too many": pruned(func(p *store.Policy) {
			if p.Default.MaxMessages > 0 {
				p.Default.MaxMessages++
			}
		}),
		"pruning isn't told": {prune: func(m *Model, ctx context.Context) (store.Pruned, error) {
			_, err := m.Prune(ctx)
			return store.Pruned{}, err
		}},
	},
	"AgeBound": {
		"age ignored":       pruned(func(p *store.Policy) { p.Default.MaxAge = 0 }),
		"an hour too early": pruned(func(p *store.Policy) { p.Default.MaxAge = max(0, p.Default.MaxAge-time.Hour) }),
		"a nanosecond late": pruned(func(p *store.Policy) {
			if p.Default.MaxAge > 0 {
				p.Default.MaxAge++
			}
		}),
	},
	"SameTime": {
		"total before shards": {prune: totalFirst},
	},
	"BetweenPages": {
		"cursors don't expire with grace": forgets(func(m *Model) { clear(m.data.gone) }),
	},
	"Marks": {
		"marks go back": {setMark: func(m *Model, ctx context.Context, s sharding.Shard, t time.Time) error {
			m.data.mu.Lock()
			delete(m.data.marks, s)
			m.data.mu.Unlock()
			return m.SetMark(ctx, s, t)
		}},
		"marks in seconds": {setMark: func(m *Model, ctx context.Context, s sharding.Shard, t time.Time) error {
			return m.SetMark(ctx, s, t.Truncate(time.Second))
		}},
		"marks are lost": {reopen: func(m *Model) { clear(m.data.marks) }},
	},
	"Stats": {
		"stats forget a shard": {stats: func(m *Model, ctx context.Context) (store.Stats, error) {
			s, err := m.Stats(ctx)
			if len(s.Shards) > 2 {
				s.Shards = s.Shards[1:]
			}
			return s, err
		}},
		"stats in disorder": {stats: func(m *Model, ctx context.Context) (store.Stats, error) {
			s, err := m.Stats(ctx)
			slices.Reverse(s.Shards)
			return s, err
		}},
		"stats count payloads": {stats: func(m *Model, ctx context.Context) (store.Stats, error) {
			s, err := m.Stats(ctx)
			s.Bytes -= s.Messages
			return s, err
		}},
	},
	"Cancelled": {
		"contexts ignored": {put: func(m *Model, _ context.Context, entries []store.Entry) error {
			return m.Put(context.Background(), entries)
		}},
	},
	"Closed": {
		"never closed": {close: func(*Model) error { return nil }},
		"closed once": {close: func(m *Model) error {
			if _, err := m.Stats(context.Background()); err != nil {
				return net.ErrClosed
			}
			return m.Close()
		}},
	},
}

// TestMutants: no fault goes unnoticed.
func TestMutants(t *testing.T) {
	for _, c := range checks {
		for name, fault := range mutants[c.name] {
			t.Run(c.name+"/"+name, func(t *testing.T) { require.NotEmpty(t, attempt(t, c, fault)) })
		}
	}
}

// TestRandomMutants: what is done at random finds what the other tests look for.
func TestRandomMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("the round without -short runs it: with it too little is done at random")
	}
	shrink := flag.Lookup("rapid.shrinktime").Value
	before := shrink.String()
	require.NoError(t, shrink.Set("0s"))
	t.Cleanup(func() { require.NoError(t, shrink.Set(before)) })
	c := checks[slices.IndexFunc(checks, func(c check) bool { return c.name == "Random" })]
	for _, of := range []string{"Pages", "Retention", "SameTime", "Marks"} {
		for name, fault := range mutants[of] {
			t.Run(name, func(t *testing.T) {
				noticed := false
				for range 4 {
					noticed = noticed || len(attempt(t, c, fault)) > 0
				}
				require.True(t, noticed, "not in four rounds")
			})
		}
	}
}

// attempt is a test of the suite on a mutant. It returns what failed.
func attempt(t *testing.T, c check, fault mutant) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.cleanUp()
		c.run(newEnv(r, func(testing.TB) Place {
			data := NewModel(Config{})
			opened := false
			return Place{Shared: true, Open: func(c Config) (store.Archive, error) {
				a := fault
				a.Model = data.Reopen(c)
				if opened && fault.reopen != nil {
					fault.reopen(a.Model)
				}
				opened = true
				return &a, nil
			}}
		}))
	}()
	<-done
	return r.said.String()
}

// recorder is a test that fails in silence.
type recorder struct {
	testing.TB
	mu      sync.Mutex
	said    bytes.Buffer
	failed  bool
	cleanup []func()
}

func (r *recorder) Helper()             {}
func (r *recorder) Log(...any)          {}
func (r *recorder) Logf(string, ...any) {}
func (r *recorder) Cleanup(f func())    { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Fail()               { r.Errorf("failed") }
func (r *recorder) FailNow()            { r.Fail(); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	fmt.Fprintf(&r.said, format+"\n", args...)
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) cleanUp() {
	for _, f := range slices.Backward(r.cleanup) {
		f()
	}
}

// lose drops a row.
func (m *Model) lose(e store.Entry) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.data.rows = slices.DeleteFunc(m.data.rows, func(r row) bool { return r.Hash == e.Hash && r.Shard == e.Shard })
}

// totalFirst applies the bounds in the wrong order.
func totalFirst(m *Model, ctx context.Context) (store.Pruned, error) {
	p, err := m.pruneBy(ctx, store.Policy{Total: m.policy.Total})
	if err != nil {
		return p, err
	}
	q, err := m.Prune(ctx)
	return store.Pruned{Messages: p.Messages + q.Messages, Bytes: p.Bytes + q.Bytes}, err
}
