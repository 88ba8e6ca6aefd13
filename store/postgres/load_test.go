package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

var shard = sharding.Shard{Cluster: 16, Index: 32}

// month keeps what these tests put.
var month = store.Policy{Default: store.Retention{MaxAge: 30 * 24 * time.Hour}}

// entry is a message of about size bytes, like no other.
func entry(at time.Time, size int) store.Entry {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	return store.NewEntry(shard, &message.Message{
		Payload:      payload,
		ContentTopic: fmt.Sprintf("/test/1/%d/proto", rand.IntN(50)),
		Timestamp:    at.UnixNano(),
		Meta:         payload[:min(size, message.MaxMetaLen)],
	})
}

// entries are messages a millisecond apart, the last of now.
func entries(n, size int) []store.Entry {
	list := make([]store.Entry, n)
	now := time.Now()
	for i := range list {
		list[i] = entry(now.Add(time.Duration(i-n)*time.Millisecond), size)
	}
	return list
}

func hashes(list []store.Entry) []message.Hash {
	out := make([]message.Hash, len(list))
	for i, e := range list {
		out[i] = e.Hash
	}
	return out
}

// walk pages through everything that q asks for, with the archive that next says.
func walk(t testing.TB, q store.Query, next func() store.Archive) []store.Entry {
	t.Helper()
	var all []store.Entry
	for {
		p, err := next().Query(t.Context(), q)
		require.NoError(t, err)
		if q.Backward {
			all = append(p.Entries, all...)
		} else {
			all = append(all, p.Entries...)
		}
		if p.Cursor == nil {
			return all
		}
		q.Cursor = p.Cursor
	}
}

func of(a store.Archive) func() store.Archive { return func() store.Archive { return a } }

// requireHeld requires an archive to hold messages, each once.
func requireHeld(t testing.TB, a store.Archive, want []message.Hash) {
	t.Helper()
	missing := 0
	for len(want) > 0 {
		n := min(len(want), store.MaxHashes)
		p, err := a.Query(t.Context(), store.Query{Hashes: want[:n], Limit: store.MaxPageSize})
		require.NoError(t, err)
		seen := make(map[message.Hash]int)
		for _, e := range p.Entries {
			seen[e.Hash]++
		}
		for _, h := range want[:n] {
			if seen[h] != 1 {
				missing++
			}
		}
		want = want[n:]
	}
	require.Zero(t, missing, "acknowledged messages that aren't there exactly once")
}

// load puts messages at a rate and asks for the newest ones, until stopped.
type load struct {
	t      testing.TB
	a      store.Archive
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	acked   []message.Hash
	refused int
	slowest time.Duration // query
	answers int
	away    int // queries that said so
	lastOK  bool
	turned  chan struct{} // closed when lastOK changes
}

func startLoad(t testing.TB, a store.Archive, perSecond int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, a: a, cancel: cancel, turned: make(chan struct{})}
	l.done.Go(func() { l.put(ctx, perSecond) })
	for range 3 {
		l.done.Go(func() { l.ask(ctx) })
	}
	return l
}

func (l *load) put(ctx context.Context, perSecond int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began, put := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := int(time.Since(began).Seconds()*float64(perSecond)) - put
		if n <= 0 {
			continue
		}
		put += n
		list := entries(n, 2000)
		err := l.a.Put(context.Background(), list)
		l.mu.Lock()
		if err == nil {
			l.acked = append(l.acked, hashes(list)...)
		} else {
			l.refused += n
			assert.NoError(l.t, err, "the spool has room")
		}
		l.mu.Unlock()
	}
}

func (l *load) ask(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		_, err := l.a.Query(ctx, store.Query{Shard: &shard, Backward: true, Limit: 20})
		took := time.Since(began)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.slowest = max(l.slowest, took)
		l.answers++
		if err != nil {
			assert.ErrorIs(l.t, err, store.ErrUnavailable)
			l.away++
		}
		if ok := err == nil; ok != l.lastOK {
			l.lastOK = ok
			close(l.turned)
			l.turned = make(chan struct{})
		}
		l.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

// await waits until queries succeed, or fail, and says how long it took.
func (l *load) await(ok bool, patience time.Duration) time.Duration {
	l.t.Helper()
	began := time.Now()
	for {
		l.mu.Lock()
		is, turned := l.lastOK, l.turned
		l.mu.Unlock()
		if is == ok {
			return time.Since(began)
		}
		select {
		case <-turned:
		case <-time.After(patience - time.Since(began)):
			require.Fail(l.t, "queries don't change", "in %v", patience)
		}
	}
}

func (l *load) stop() []message.Hash {
	l.cancel()
	l.done.Wait()
	return l.acked
}

var errPatience = errors.New("patience is at its end")

// patient bounds what would otherwise hang.
func patient(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errPatience)
	t.Cleanup(cancel)
	return ctx
}
