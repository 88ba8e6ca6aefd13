package waku_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// read reads a history to its end.
func read(t testing.TB, m *waku.Membership, q waku.HistoryQuery) (out []message.Hash) {
	t.Helper()
	for env, err := range m.History(within(t), q) {
		require.NoError(t, err)
		require.True(t, env.Stored)
		out = append(out, env.Hash)
	}
	return out
}

// fill puts n messages into archives, a second apart and ending an hour ago, on
// so many content topics.
func fill(t testing.TB, n, topics int, archives ...store.Archive) []store.Entry {
	t.Helper()
	var entries []store.Entry
	for i := range n {
		entries = append(entries, store.NewEntry(town, &message.Message{
			Payload:      fmt.Appendf(nil, "old %d", i),
			ContentTopic: fmt.Sprintf("/chat/1/room-%d/proto", i%topics),
			Timestamp:    time.Now().Add(-time.Hour - time.Duration(n-i)*time.Second).UnixNano(),
		}))
	}
	for _, a := range archives {
		require.NoError(t, a.Put(within(t), entries))
	}
	return entries
}

func TestHistory(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		archive := storetest.NewModel(storetest.Config{})
		all := fill(t, 550, 25, archive)
		n, _ := storeNode(t, net, archive)
		member := start(t, waku.WithHost(net.Hosts(1)[0]))
		m := join(t, member, waku.Community{Shard: town})
		connect(t, member, n)

		require.Equal(t, hashes(all), read(t, m, waku.HistoryQuery{}))
		back := read(t, m, waku.HistoryQuery{Backward: true})
		for i, h := range back {
			require.Equal(t, all[len(all)-1-i].Hash, h)
		}
		require.Len(t, back, len(all))
		require.Equal(t, hashes(all[:7]), read(t, m, waku.HistoryQuery{Limit: 7}))
		require.Equal(t, back[:150], read(t, m, waku.HistoryQuery{Limit: 150, Backward: true}))
		at := func(i int) time.Time { return time.Unix(0, all[i].Message.Timestamp) }
		require.Equal(t, hashes(all[100:300]), read(t, m, waku.HistoryQuery{Since: at(100), Until: at(300)}))

		// More topics than one question may have.
		var topics []string
		var want []message.Hash
		for i := range 23 {
			topics = append(topics, fmt.Sprintf("/chat/1/room-%d/proto", i))
		}
		for i, e := range all {
			if i%25 < 23 {
				want = append(want, e.Hash)
			}
		}
		require.Equal(t, want, read(t, m, waku.HistoryQuery{ContentTopics: topics}))
		require.Empty(t, read(t, m, waku.HistoryQuery{ContentTopics: []string{lobby}}))
	})
}

// A history says what is wrong, and never hangs.
func TestHistoryErrors(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		network := p2ptest.New(t, p2ptest.Config{})
		n := start(t, waku.WithHost(network.Hosts(1)[0]))
		m := join(t, n, waku.Community{Shard: town})
		fails := func(ctx context.Context, q waku.HistoryQuery) (err error) {
			for env, e := range m.History(ctx, q) {
				require.Nil(t, env)
				require.Error(t, e)
				require.NoError(t, err, "two errors")
				err = e
			}
			return err
		}
		var wrong *waku.HistoryError
		require.ErrorIs(t, fails(t.Context(), waku.HistoryQuery{}), waku.ErrNoStorePeer)
		for _, q := range []waku.HistoryQuery{
			{Follow: true, Backward: true}, {Follow: true, Until: time.Now()}, {Limit: -1},
			{Since: time.Now(), Until: time.Now().Add(-time.Hour)}, {ContentTopics: []string{""}},
		} {
			require.ErrorAs(t, fails(t.Context(), q), &wrong)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, fails(ctx, waku.HistoryQuery{}), "a context's end is no error")
		require.NoError(t, m.Leave())
		require.ErrorIs(t, fails(t.Context(), waku.HistoryQuery{}), net.ErrClosed)
	})
}

// A member that was away for 1,000 messages gets exactly these, in order and once,
// and then the live ones, while the store node it began with dies half-way.
func TestHistoryOutlivesStoreNode(t *testing.T) {
	old, young := 1000, 500
	if testing.Short() {
		old, young = 250, 150
	}
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond})
		key := newKey(t)
		fleet := map[string]*waku.Node{}
		var nodes []*waku.Node
		for range 2 {
			n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithProtectedShard(town, key.PublicKey()),
				waku.WithArchive(storetest.NewModel(storetest.Config{})))
			join(t, n, waku.Community{Shard: town})
			fleet[n.PeerID().String()] = n
			nodes = append(nodes, n)
		}
		author := start(t, waku.WithHost(net.Hosts(1)[0]))
		a := join(t, author, waku.Community{Shard: town}, waku.SignWith(key))
		connect(t, author, nodes...)
		connect(t, nodes[0], nodes[1])
		meshed(t, 1, author, nodes[0], nodes[1])
		want := sendSome(t, a, 0, old)

		member := start(t, waku.WithHost(net.Hosts(1)[0]))
		m := join(t, member, waku.Community{Shard: town, PublicKey: key.PublicKey()})
		connect(t, member, nodes...)
		done := make(chan []message.Hash, 1)
		go func() { done <- sendSome(t, a, old, young) }()

		var got []message.Hash
		seen := map[message.Hash]bool{}
		live := 0
		for env, err := range m.History(within(t), waku.HistoryQuery{Follow: true}) {
			require.NoError(t, err)
			require.False(t, seen[env.Hash], "twice: %s", env.Message.Payload)
			seen[env.Hash] = true
			got = append(got, env.Hash)
			if !env.Stored {
				live++
			}
			if len(got) == old/2 {
				require.NoError(t, fleet[env.From.String()].Close())
			}
			if len(got) == old+young {
				break
			}
		}
		want = append(want, <-done...)
		require.Equal(t, want[:old], got[:old])
		require.ElementsMatch(t, want, got)
		require.Positive(t, live)
	})
}

// liar is a store.Source that tells what isn't true.
type liar func(store.Query, store.Page) store.Page

type lyingArchive struct {
	*storetest.Model
	lie liar
}

func (a lyingArchive) Query(ctx context.Context, q store.Query) (store.Page, error) {
	page, err := a.Model.Query(ctx, q)
	if err != nil {
		return page, err
	}
	return a.lie(q, page), nil
}

// A store node that lies is noticed and left for an honest one.
func TestHistoryLeavesLiars(t *testing.T) {
	other := message.Message{Payload: []byte("another"), ContentTopic: "/chat/1/other/proto", Timestamp: 1}
	for name, lie := range map[string]liar{
		"wrong hash": func(_ store.Query, p store.Page) store.Page {
			p.Entries[0].Hash[0] ^= 1
			return p
		},
		"wrong message": func(_ store.Query, p store.Page) store.Page {
			p.Entries[0].Message = &other
			return p
		},
		"wrong topic": func(_ store.Query, p store.Page) store.Page {
			p.Entries[len(p.Entries)-1] = store.NewEntry(town, &message.Message{Payload: []byte("x"), ContentTopic: "/chat/1/other/proto",
				Timestamp: p.Entries[len(p.Entries)-1].Message.Timestamp})
			return p
		},
		"endless": func(_ store.Query, p store.Page) store.Page {
			p.Cursor = new(p.Entries[0].Hash)
			return p
		},
		"the same page again": func(q store.Query, p store.Page) store.Page { return p },
		"doubles": func(_ store.Query, p store.Page) store.Page {
			p.Entries[1] = p.Entries[0]
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				honest := storetest.NewModel(storetest.Config{})
				all := fill(t, 300, 1, honest)
				topic := all[0].Message.ContentTopic
				if name == "the same page again" {
					lie = func(q store.Query, p store.Page) store.Page {
						q.Cursor = nil
						again, err := honest.Query(t.Context(), q)
						require.NoError(t, err)
						return again
					}
				}
				bad := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(lyingArchive{honest, lie}))
				join(t, bad, waku.Community{Shard: town})
				good, _ := storeNode(t, net, honest)
				member := start(t, waku.WithHost(net.Hosts(1)[0]))
				m := join(t, member, waku.Community{Shard: town})
				left := make(chan waku.Event, 100)
				go func() {
					for e := range member.Events(t.Context()) {
						if e.Kind == waku.StorePeerLeft {
							left <- e
						}
					}
				}()
				connect(t, member, bad)
				go func() {
					time.Sleep(3 * time.Second) // the liar is asked first
					connect(t, member, good)
				}()
				require.Equal(t, hashes(all), read(t, m, waku.HistoryQuery{ContentTopics: []string{topic}}))
				e := <-left
				require.Equal(t, bad.PeerID(), e.Peer)
				t.Log(e)
			})
		})
	}
}

// A history that nobody follows to its end leaves nothing behind, and a plugged-in
// validator has its say.
func TestHistoryAsksValidators(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		archive := storetest.NewModel(storetest.Config{})
		all := fill(t, 100, 1, archive)
		n, _ := storeNode(t, net, archive)
		member := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithValidator(town, func(_ context.Context, in *message.Received) message.Verdict {
			if in.Message.Timestamp/int64(time.Second)%2 == 1 {
				return message.Reject
			}
			return message.Accept
		}))
		m := join(t, member, waku.Community{Shard: town})
		connect(t, member, n)
		for range m.History(within(t), waku.HistoryQuery{}) {
			break
		}
		require.Len(t, read(t, m, waku.HistoryQuery{}), 50)
		require.Len(t, all, 100)
	})
}

// Leave and Close end a history at once, whatever it waits for.
func TestHistoryEndsWithMembership(t *testing.T) {
	for name, end := range map[string]func(*waku.Node, *waku.Membership) error{
		"leave": func(_ *waku.Node, m *waku.Membership) error { return m.Leave() },
		"close": func(n *waku.Node, _ *waku.Membership) error { return n.Close() },
	} {
		for _, follow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, follow %v", name, follow), func(t *testing.T) {
				p2ptest.Bubble(t, func(t *testing.T) {
					network := p2ptest.New(t, p2ptest.Config{})
					n := start(t, waku.WithHost(network.Hosts(1)[0]))
					m := join(t, n, waku.Community{Shard: town})
					done := make(chan error, 1)
					go func() {
						for _, err := range m.History(t.Context(), waku.HistoryQuery{Follow: follow}) {
							done <- err
						}
					}()
					time.Sleep(3 * time.Second) // there is no store node
					began := time.Now()
					require.NoError(t, end(n, m))
					require.ErrorIs(t, <-done, net.ErrClosed)
					require.Zero(t, time.Since(began))
				})
			})
		}
	}
}
