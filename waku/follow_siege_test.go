package waku_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// follow follows for so long and returns what came, each once.
func follow(t testing.TB, m *waku.Membership, d time.Duration, q waku.HistoryQuery) (out []*waku.Envelope) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	q.Follow = true
	seen := map[message.Hash]bool{}
	for env, err := range m.History(ctx, q) {
		require.NoError(t, err, "after %d", len(out))
		require.False(t, seen[env.Hash], "twice: %s", env.Message.Payload)
		seen[env.Hash] = true
		out = append(out, env)
	}
	return out
}

// requireAll asks that exactly these came, in whatever order.
func requireAll(t testing.TB, want []message.Hash, got []*waku.Envelope) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	came := map[message.Hash]bool{}
	for _, env := range got {
		came[env.Hash] = true
	}
	for _, h := range want {
		require.True(t, came[h], "missing: %s", h)
	}
}

// One message in the past that isn't genuine ends no Follow.
func TestFollowBesideForgery(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		key := newKey(t)
		at := time.Now().Add(-time.Minute)
		genuine := signed(t, key, at, "signed")
		theirs := storetest.NewModel(storetest.Config{})
		require.NoError(t, theirs.Put(within(t), []store.Entry{said(at, "unsigned"), genuine}))
		s, _ := storeNode(t, net, theirs, waku.ArchiveResume(0))
		n, m := joined(t, net, waku.WithProtectedShard(town, key.PublicKey()))
		connect(t, n, s)
		requireAll(t, []message.Hash{genuine.Hash}, follow(t, m, time.Minute, waku.HistoryQuery{}))
	})
}

// A shard whose past isn't signed at all can be followed.
func TestFollowUnsignedPast(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		key := newKey(t)
		theirs := storetest.NewModel(storetest.Config{})
		require.NoError(t, theirs.Put(within(t), []store.Entry{said(time.Now().Add(-24*time.Hour), "before there was a key")}))
		s := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(theirs, waku.ArchiveResume(0)))
		sm := join(t, s, waku.Community{Shard: town}, waku.SignWith(key))
		n, m := joined(t, net, waku.WithProtectedShard(town, key.PublicKey()))
		connect(t, n, s)
		meshed(t, 1, n)
		time.Sleep(30 * time.Second)
		sent := make(chan []message.Hash, 1)
		time.AfterFunc(10*time.Second, func() { sent <- sendSome(t, sm, 0, 3) })
		got := follow(t, m, time.Minute, waku.HistoryQuery{})
		requireAll(t, <-sent, got)
	})
}

// What was said while a follower's mesh was away is read back from a store.
func TestFollowMeshAway(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		s, _ := storeNode(t, net, storetest.NewModel(storetest.Config{}))
		author, a := joined(t, net)
		connect(t, author, s)
		n, m := joined(t, net)
		connect(t, n, s)
		meshed(t, 1, author, n)
		sent := make(chan []message.Hash, 1)
		go func() {
			time.Sleep(time.Minute)
			all := sendSome(t, a, 0, 10)
			time.Sleep(time.Second)
			assert.NoError(t, n.Disconnect(s.PeerID()))
			time.Sleep(5 * time.Second)
			all = append(all, sendSome(t, a, 10, 300)...)
			time.Sleep(5 * time.Minute)
			connect(t, n, s)
			time.Sleep(time.Minute)
			sent <- append(all, sendSome(t, a, 310, 1)...)
		}()
		got := follow(t, m, 15*time.Minute, waku.HistoryQuery{})
		requireAll(t, <-sent, got)
	})
}

// Live messages come although there is no store node any more.
func TestFollowWithoutStore(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		archive := storetest.NewModel(storetest.Config{})
		all := fill(t, 5, 1, archive)
		s, _ := storeNode(t, net, archive, waku.ArchiveResume(0))
		author, a := joined(t, net)
		n, m := joined(t, net)
		connect(t, n, s, author)
		time.AfterFunc(2*time.Second, func() { s.Close() })
		sent := make(chan []message.Hash, 1)
		time.AfterFunc(2*time.Minute, func() { sent <- sendSome(t, a, 0, 3) })
		got := follow(t, m, 5*time.Minute, waku.HistoryQuery{})
		requireAll(t, append(hashes(all), <-sent...), got)
	})
}

// A store node that dies after it has named messages is replaced by another.
func TestFollowLookupDies(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		full := storetest.NewModel(storetest.Config{})
		n, m := joined(t, net)
		var lookups atomic.Int64
		for range 2 {
			s, _ := storeThat(t, net, func(q store.Query) (store.Page, error) {
				if len(q.Hashes) > 0 && lookups.Add(1) == 1 {
					return store.Page{}, errors.New("the database restarts")
				}
				return query(full, q)
			})
			connect(t, n, s)
		}
		late := said(time.Now(), "late")
		time.AfterFunc(2*time.Second, func() { assert.NoError(t, full.Put(t.Context(), []store.Entry{late})) })
		requireAll(t, []message.Hash{late.Hash}, follow(t, m, time.Minute, waku.HistoryQuery{}))
		require.Greater(t, lookups.Load(), int64(1))
	})
}

// A walk that must go on with a store node that doesn't know its place ends no
// Follow.
func TestFollowUnknownCursor(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		one, two := storetest.NewModel(storetest.Config{}), storetest.NewModel(storetest.Config{})
		var all []store.Entry
		for i := range 400 {
			all = append(all, said(time.Now().Add(time.Duration(i)), i))
			if i%2 == 1 {
				require.NoError(t, two.Put(t.Context(), all[i:]))
			}
		}
		require.NoError(t, one.Put(t.Context(), all))
		n, m := joined(t, net)
		died := make(chan struct{})
		var pages atomic.Int64
		s, _ := storeThat(t, net, func(q store.Query) (store.Page, error) {
			if q.HashesOnly {
				switch page := pages.Add(1); {
				case page == 2:
					close(died)
					fallthrough
				case page > 2:
					return store.Page{}, errors.New("the database is away")
				}
				q.Limit = 99 // the other store doesn't have the last one
			}
			return query(one, q)
		})
		connect(t, n, s)
		other, om := storeNode(t, net, two, waku.ArchiveResume(0))
		sent := make(chan []message.Hash, 1)
		go func() {
			<-died
			connect(t, n, other)
			time.Sleep(2 * time.Minute)
			sent <- sendSome(t, om, 400, 3)
		}()
		got := follow(t, m, 4*time.Minute, waku.HistoryQuery{})
		requireAll(t, append(hashes(all), <-sent...), got)
	})
}

// Live messages come although a store node names hashes without end.
func TestFollowBesideEndlessHashes(t *testing.T) {
	for name, real := range map[string]func(i int) store.Entry{ // the last hash of the i-th page
		"made up": func(i int) store.Entry { return store.Entry{Hash: madeUp(-i)} },
		"unsigned": func(i int) store.Entry {
			return said(time.Now().Add(time.Duration(i)-time.Minute), i)
		},
		"another shard": func(i int) store.Entry {
			e := said(time.Now(), i)
			return store.NewEntry(elsewhere, e.Message)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				key := newKey(t)
				var mu sync.Mutex
				asked := 0
				named := map[message.Hash]store.Entry{}
				model := storetest.NewModel(storetest.Config{})
				bad := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(scripted{model, func(q store.Query) (p store.Page, _ error) {
					mu.Lock()
					defer mu.Unlock()
					asked++
					for _, h := range q.Hashes {
						if e := named[h]; e.Message != nil {
							p.Entries = append(p.Entries, e)
						}
					}
					if !q.HashesOnly {
						return p, nil
					}
					for i := range 99 {
						p.Entries = append(p.Entries, store.Entry{Hash: madeUp(100*asked + i)})
					}
					e := real(asked)
					named[e.Hash] = e
					p.Entries = append(p.Entries, store.Entry{Hash: e.Hash})
					p.Cursor = new(e.Hash)
					return p, nil
				}}, waku.ArchiveResume(0)))
				a := join(t, bad, waku.Community{Shard: town}, waku.SignWith(key))
				n, m := joined(t, net, waku.WithProtectedShard(town, key.PublicKey()))
				connect(t, n, bad)
				sent := make(chan []message.Hash, 1)
				time.AfterFunc(time.Minute, func() { sent <- sendSome(t, a, 0, 10) })
				got := follow(t, m, 20*time.Minute, waku.HistoryQuery{})
				requireAll(t, <-sent, got)
				mu.Lock()
				defer mu.Unlock()
				require.Less(t, asked, 500)
			})
		})
	}
}

// Follow hands on nothing of another shard, another content topic, or from before
// Since.
func TestFollowTakesOnlyWhatItAskedFor(t *testing.T) {
	only := func(e store.Entry) func(store.Query) (store.Page, error) {
		return func(q store.Query) (p store.Page, _ error) {
			switch {
			case len(q.Hashes) > 0:
				p.Entries = []store.Entry{e}
			case q.HashesOnly:
				p.Entries = []store.Entry{{Hash: e.Hash}}
			}
			return p, nil
		}
	}
	for name, answer := range map[string]func() func(store.Query) (store.Page, error){
		"shard": func() func(store.Query) (store.Page, error) { return otherShard(5) },
		"topic": func() func(store.Query) (store.Page, error) {
			return only(store.NewEntry(town, &message.Message{
				Payload: []byte("x"), ContentTopic: "/chat/1/other/proto", Timestamp: time.Now().Add(time.Second).UnixNano()}))
		},
		"since": func() func(store.Query) (store.Page, error) { return only(said(time.Now().Add(-time.Hour), "old")) },
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				bad, _ := storeThat(t, net, answer())
				n, m := joined(t, net)
				connect(t, n, bad)
				got := follow(t, m, time.Minute, waku.HistoryQuery{ContentTopics: []string{lobby}, Since: time.Now()})
				require.Empty(t, got)
			})
		})
	}
}
