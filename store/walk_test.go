package store_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

func reversed(list []store.Entry) []store.Entry {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

func TestAll(t *testing.T) {
	all := entries(250)
	b := entries(250)
	odd := slices.DeleteFunc(b, func(e store.Entry) bool { return e.Message.ContentTopic != topicB })
	elsewhere := store.NewEntry(other, all[0].Message)
	pair(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, archive(append(entries(250), elsewhere)...), store.ServerConfig{Rate: -1, PageBytes: 2000})
		c := store.NewClient(client, fast)
		for name, q := range map[string]struct {
			q    store.Query
			want []store.Entry
		}{
			"a shard":   {store.Query{Shard: &shard}, all},
			"a topic":   {store.Query{Shard: &shard, ContentTopics: []string{topicB}}, odd},
			"a range":   {store.Query{Start: at(100), End: at(200)}, all[100:200]},
			"nothing":   {store.Query{Start: at(300)}, nil},
			"by sevens": {store.Query{Shard: &shard, Limit: 7}, all},
			"by tens":   {store.Query{Shard: &shard, Limit: 10}, all},
			"behind":    {store.Query{Shard: &shard, Cursor: &all[99].Hash}, all[100:]},
			"the end":   {store.Query{Shard: &shard, Cursor: &all[249].Hash}, nil},
		} {
			require.Equal(t, q.want, collect(t, c, server, q.q), name)
			if q.q.Cursor != nil {
				continue
			}
			q.q.Backward = true
			require.Equal(t, reversed(q.want), collect(t, c, server, q.q), name)
			q.q.HashesOnly = true
			got := collect(t, c, server, q.q)
			require.Equal(t, hashes(reversed(q.want)), hashes(got), name)
			for _, e := range got {
				require.Nil(t, e.Message)
				require.Zero(t, e.Shard)
			}
		}
		require.Zero(t, c.Dropped())
	})
}

// ties is a history in which many messages share a timestamp.
func ties(n int) []store.Entry {
	var list []store.Entry
	for i := range n {
		e := entry(i)
		e.Message.Timestamp = epoch + int64(i/10)
		list = append(list, store.NewEntry(shard, e.Message))
	}
	slices.SortFunc(list, func(a, b store.Entry) int { return a.Key().Compare(b.Key()) })
	return list
}

// walk goes to the end, choosing the peer for each page, and turns to the next
// choice after an error.
func walk(t *testing.T, c *store.Client, q store.Query, choose func(page int) host.Host) (all []store.Entry) {
	t.Helper()
	w, err := c.Walk(q)
	require.NoError(t, err)
	for page, more := 0, true; more; page++ {
		require.Less(t, page, 1000)
		var list []store.Entry
		list, more, err = w.Next(t.Context(), choose(page).ID())
		if err != nil {
			require.Empty(t, list)
			require.True(t, more)
		}
		all = append(all, list...)
		if last, ok := w.Position(); ok {
			require.Equal(t, all[len(all)-1].Key(), last)
		}
	}
	list, more, err := w.Next(t.Context(), choose(0).ID())
	require.NoError(t, err)
	require.False(t, more)
	require.Empty(t, list)
	return all
}

// Peers may change at every page, whatever they hold of the message that the
// cursor names: nothing is lost and nothing comes twice.
func TestWalkChangesPeers(t *testing.T) {
	list := ties(200)
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 5)
		p2ptest.Star(t, hosts)
		full := archive(list...)
		serve(t, hosts[1], full, store.ServerConfig{Rate: -1})
		serve(t, hosts[2], full, store.ServerConfig{Rate: -1})
		// One has never heard of any cursor.
		serve(t, hosts[3], source(func(ctx context.Context, q store.Query) (store.Page, error) {
			if q.Cursor != nil {
				return store.Page{}, store.ErrUnknownCursor
			}
			return full.Query(ctx, q)
		}), store.ServerConfig{Rate: -1})
		// One is away every other time.
		sick := 0
		serve(t, hosts[4], source(func(ctx context.Context, q store.Query) (store.Page, error) {
			if sick++; sick%2 == 0 {
				return store.Page{}, store.ErrUnavailable
			}
			return full.Query(ctx, q)
		}), store.ServerConfig{Rate: -1})

		c := store.NewClient(hosts[0], fast)
		r := rand.New(rand.NewPCG(1, 2))
		for _, back := range []bool{false, true} {
			want := list
			if back {
				want = reversed(list)
			}
			for _, limit := range []int{11, 13, 37, 100} {
				q := store.Query{Shard: &shard, Limit: limit, Backward: back}
				for _, peers := range [][]host.Host{{hosts[1]}, {hosts[1], hosts[2]}, {hosts[3], hosts[1]}, {hosts[4], hosts[2]}, hosts[1:]} {
					got := walk(t, c, q, func(int) host.Host { return peers[r.IntN(len(peers))] })
					require.Equal(t, want, got)
				}
			}
			got := walk(t, c, store.Query{HashesOnly: true, Limit: 11, Backward: back},
				func(int) host.Host { return hosts[1+r.IntN(2)] })
			require.Equal(t, hashes(want), hashes(got))
		}
	})
}

// A peer that has lost its archive half-way, or is another one in truth, doesn't
// know its own cursor.
func TestUnknownCursor(t *testing.T) {
	list := ties(100)
	for name, q := range map[string]store.Query{
		"forward":  {Limit: 15},
		"backward": {Limit: 15, Backward: true},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				a, asked := archive(list...), 0
				serve(t, server, source(func(ctx context.Context, q store.Query) (store.Page, error) {
					if asked++; q.Cursor != nil && asked%2 == 0 {
						return store.Page{}, store.ErrUnknownCursor
					}
					return a.Query(ctx, q)
				}), store.ServerConfig{Rate: -1})
				want := list
				if q.Backward {
					want = reversed(list)
				}
				c := store.NewClient(client, fast)
				require.Equal(t, want, collect(t, c, server, q))

				_, err := c.Query(t.Context(), server.ID(), store.Query{Cursor: &message.Hash{1}})
				require.ErrorIs(t, err, store.ErrUnknownCursor)
				asked = 0
				q.HashesOnly = true
				for _, err = range c.All(t.Context(), server.ID(), q) {
				}
				require.ErrorIs(t, err, store.ErrUnknownCursor, "without times there's no way on")
			})
		})
	}
}

// Nothing is known of a cursor that comes with the question.
func TestUnknownCursorAtFirst(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, archive(entries(10)...), store.ServerConfig{})
		c := store.NewClient(client, fast)
		_, err := c.Query(t.Context(), server.ID(), store.Query{Cursor: &message.Hash{1}})
		require.ErrorIs(t, err, store.ErrUnknownCursor)
		for _, err = range c.All(t.Context(), server.ID(), store.Query{Cursor: &message.Hash{1}}) {
		}
		require.ErrorIs(t, err, store.ErrUnknownCursor)
	})
}

// What the retention takes meanwhile is gone; the rest comes.
func TestPrunedMeanwhile(t *testing.T) {
	list := entries(100)
	pair(t, func(t *testing.T, client, server host.Host) {
		a := archive(list...)
		serve(t, server, a, store.ServerConfig{Rate: -1})
		c := store.NewClient(client, fast)
		w, err := c.Walk(store.Query{Limit: 10})
		require.NoError(t, err)
		got, _, err := w.Next(t.Context(), server.ID())
		require.NoError(t, err)
		a.drop(50)
		for more := true; more; {
			var next []store.Entry
			next, more, err = w.Next(t.Context(), server.ID())
			require.NoError(t, err)
			got = append(got, next...)
		}
		require.Equal(t, slices.Concat(list[:10], list[50:]), got)
	})
}

// A cursor that leads far away harms nobody who turns to another peer, nor do
// messages that Verify refuses.
func TestLiarLeadsAstray(t *testing.T) {
	list := entries(100)
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		serve(t, hosts[1], archive(list...), store.ServerConfig{Rate: -1})
		forged := store.NewEntry(shard, &message.Message{Payload: []byte("far"), ContentTopic: "/forged/1/x/y", Timestamp: at(90).UnixNano() + 1})
		liar(hosts[2], store.Page{Entries: append(slices.Clone(list[:10]), forged), Cursor: &list[90].Hash})
		c := store.NewClient(hosts[0], store.ClientConfig{Rate: -1, Verify: func(_ string, m *message.Message) error {
			if m.ContentTopic == "/forged/1/x/y" {
				return context.Canceled
			}
			return nil
		}})
		got := walk(t, c, store.Query{Limit: 11}, func(page int) host.Host { return hosts[1+max(0, 1-page)] })
		require.Equal(t, list, got)
	})
}

// Pages too long to be read are asked for again with fewer messages.
func TestAnswersTooLarge(t *testing.T) {
	var list []store.Entry
	for i := range 120 {
		if i < 100 {
			list = append(list, entry(i))
			continue
		}
		e := large(i)
		e.Message.Timestamp = at(i).UnixNano()
		list = append(list, store.NewEntry(shard, e.Message))
	}
	for i := range 100 {
		list = append(list, entry(120+i))
	}
	pair(t, func(t *testing.T, client, server host.Host) {
		asked := map[int]int{}
		a := archive(list...)
		serve(t, server, source(func(ctx context.Context, q store.Query) (store.Page, error) {
			asked[q.Limit]++
			q.MaxBytes = 0 // as nwaku
			return a.Query(ctx, q)
		}), store.ServerConfig{Rate: -1, PageBytes: 64 << 20})
		c := store.NewClient(client, store.ClientConfig{Rate: -1, MaxAnswer: 1 << 20})
		require.Equal(t, list, collect(t, c, server, store.Query{}))
		require.Less(t, asked[6], 10)
		require.Greater(t, asked[100], 1, "small ones come by the hundred again")

		all, err := c.Lookup(t.Context(), server.ID(), hashes(list))
		require.NoError(t, err)
		require.Equal(t, list, all)

		c = store.NewClient(client, store.ClientConfig{Rate: -1, MaxAnswer: 1 << 10})
		for _, err = range c.All(t.Context(), server.ID(), store.Query{Start: at(100)}) {
		}
		require.ErrorIs(t, err, store.ErrTooLarge)
	})
}

// A client doesn't hurry, and stops when its context ends.
func TestClientRate(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, archive(entries(100)...), store.ServerConfig{Rate: -1})
		c := store.NewClient(client, store.ClientConfig{Rate: 2, Burst: 3})
		start := time.Now()
		require.Len(t, collect(t, c, server, store.Query{Limit: 10}), 100)
		require.Equal(t, 3500*time.Millisecond, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := c.Query(ctx, server.ID(), store.Query{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(400 * time.Millisecond)
		start = time.Now()
		_, err = c.Query(t.Context(), server.ID(), store.Query{})
		require.NoError(t, err)
		require.Zero(t, time.Since(start), "what wasn't asked isn't counted")
	})
}

func TestSilentPeer(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		hang := make(chan struct{})
		answerBy(server, func([]byte) []byte { <-hang; return nil })
		defer close(hang)
		c := store.NewClient(client, fast)
		start := time.Now()
		_, err := c.Query(t.Context(), server.ID(), store.Query{})
		var e *store.ExchangeError
		require.ErrorAs(t, err, &e)
		require.Equal(t, server.ID(), e.Peer)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 15*time.Second, time.Since(start))

		ctx, cancel := context.WithCancel(t.Context())
		go func() { synctest.Wait(); cancel() }()
		_, err = c.Query(ctx, server.ID(), store.Query{})
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestNoStore(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		_, err := store.NewClient(client, fast).Query(t.Context(), server.ID(), store.Query{})
		require.ErrorIs(t, err, store.ErrUnsupported)
	})
}

// Questions that make no sense aren't asked.
func TestQuestionsNotAsked(t *testing.T) {
	q := store.Query{ContentTopics: []string{topicA}}
	c := store.NewClient(nil, fast)
	var e *store.QueryError
	_, err := c.Query(t.Context(), "", q)
	require.ErrorAs(t, err, &e)
	_, err = c.Walk(q)
	require.ErrorAs(t, err, &e)
	for _, err = range c.All(t.Context(), "", q) {
	}
	require.ErrorAs(t, err, &e)
}

func TestAllStopsWhenNobodyListens(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, archive(entries(100)...), store.ServerConfig{})
		for e, err := range store.NewClient(client, fast).All(t.Context(), server.ID(), store.Query{Limit: 10, Backward: true}) {
			require.NoError(t, err)
			require.Equal(t, entry(99), e, "the newest comes first")
			break
		}
		require.Equal(t, uint64(1), s.Stats().Success)
	})
}

func TestLookup(t *testing.T) {
	list := entries(260)
	unknown := make([]message.Hash, 70)
	for i := range unknown {
		unknown[i] = message.Hash{byte(i), 1}
	}
	shuffled := append(hashes(list), unknown...)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(shuffled), func(i, j int) {
		shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
	})
	shuffled = append(shuffled, shuffled[:20]...)
	pair(t, func(t *testing.T, client, server host.Host) {
		for _, cfg := range []store.ServerConfig{{Rate: -1}, {Rate: -1, PageBytes: 500}} {
			s := store.NewServer(server, archive(list...), cfg)
			c := store.NewClient(client, fast)
			got, err := c.Lookup(t.Context(), server.ID(), shuffled)
			require.NoError(t, err)
			require.Equal(t, list, got)
			has, err := c.Has(t.Context(), server.ID(), shuffled)
			require.NoError(t, err)
			require.Len(t, has, len(list))
			for _, e := range list {
				require.True(t, has[e.Hash])
			}
			require.Equal(t, list[:100], collect(t, c, server, store.Query{Hashes: hashes(list[:100]), Shard: &shard}))
			p, err := c.Query(t.Context(), server.ID(), store.Query{Hashes: hashes(list[:90])})
			require.NoError(t, err)
			if cfg.PageBytes == 0 {
				require.Equal(t, list[:90], p.Entries)
			}
			got, err = c.Lookup(t.Context(), server.ID(), nil)
			require.NoError(t, err)
			require.Empty(t, got)
			require.NoError(t, s.Close())
		}
	})
}
