package scorecard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
	"github.com/status-im/shoal/waku"
)

// storeTown is a service node with an archive on PostgreSQL, an author and a
// reader, on sockets.
type storeTown struct {
	t               *testing.T
	server          *pgtest.Cluster
	node            *waku.Node
	author, reader  *waku.Membership
	client          *store.Client // the reader's
	mu              sync.Mutex
	sent            []message.Hash
	slowestDelivery time.Duration
}

func newStoreTown(t *testing.T) *storeTown {
	w := &storeTown{t: t, server: pgtest.Start(t, pgtest.Config{})}
	archive, err := postgres.Open(t.Context(), w.server.URL(), postgres.Config{
		SpoolDir: t.TempDir(),
		Policy:   store.Policy{Default: store.Retention{MaxAge: 30 * 24 * time.Hour}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, archive.Close()) })
	w.node = w.start(waku.WithArchive(archive), waku.WithProtectedShard(shard, key.PublicKey()))
	w.join(w.node)
	author := w.start()
	w.author = w.join(author, waku.SignWith(key))
	host := p2ptest.TCPHosts(t, 1)[0]
	w.client = store.NewClient(host, store.ClientConfig{})
	reader := w.start(waku.WithHost(host))
	w.reader = w.join(reader, waku.SignWith(key))
	for _, n := range []*waku.Node{author, reader} {
		_, err := n.Connect(t.Context(), w.node.Addrs()[0])
		require.NoError(t, err)
	}
	for _, n := range []*waku.Node{w.node, author, reader} {
		p2ptest.Eventually(t, func() bool { return n.Health().Shards[0].Mesh > 0 }, "no mesh")
	}
	return w
}

func (w *storeTown) start(opts ...waku.Option) *waku.Node {
	n, err := waku.New(w.t.Context(), opts...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, n.Close()) })
	return n
}

func (w *storeTown) join(n *waku.Node, opts ...waku.JoinOption) *waku.Membership {
	m, err := n.Join(w.t.Context(), waku.Community{Shard: shard}, opts...)
	require.NoError(w.t, err)
	return m
}

// talk sends messages and has each of them delivered, until ctx ends.
func (w *storeTown) talk(ctx context.Context, done chan<- error) {
	reader, err := w.reader.Subscribe(contentTopic)
	if err != nil {
		done <- err
		return
	}
	defer reader.Close()
	for i := 0; ctx.Err() == nil; i++ {
		began := time.Now()
		d, err := w.author.Send(context.Background(), contentTopic, fmt.Appendf(nil, "message %d", i))
		if err != nil {
			done <- err
			return
		}
		env, err := reader.Next(context.Background())
		if err != nil || env.Hash != d.Hash {
			done <- fmt.Errorf("message %d wasn't delivered: %w", i, err)
			return
		}
		w.mu.Lock()
		w.sent = append(w.sent, d.Hash)
		w.slowestDelivery = max(w.slowestDelivery, time.Since(began))
		w.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
	done <- nil
}

// The database goes away under a service node: relay goes on, members who ask are
// told soon, the node says so, and when the database is back history is whole.
func TestStoreNodeOutlivesItsDatabase(t *testing.T) {
	w := newStoreTown(t)
	ask := func() error {
		_, err := w.client.Query(t.Context(), w.node.PeerID(), store.Query{Shard: new(shard), Limit: 1})
		return err
	}
	for name, outage := range map[string]struct{ begin, end func() error }{
		"frozen": {w.server.Pause, w.server.Resume},
		"killed": {w.server.Kill, w.server.Restart},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go w.talk(ctx, done)
			p2ptest.Eventually(t, func() bool { return ask() == nil }, "no answer")

			require.NoError(t, outage.begin())
			began := time.Now()
			var status *store.StatusError
			for {
				asked := time.Now()
				err := ask()
				require.Less(t, time.Since(asked), 30*time.Second, "an answer comes, whatever it is")
				if errors.As(err, &status) {
					require.Equal(t, store.StatusServiceUnavailable, status.Code)
					break
				}
				require.Less(t, time.Since(began), time.Minute)
			}
			t.Logf("told after %v: %v", time.Since(began), status)
			p2ptest.Eventually(t, func() bool { return w.node.Health().Archive.State == store.Spooling }, "the archive is as it was")
			require.Contains(t, w.node.Health().Summary, "the archive is spooling")
			p2ptest.Eventually(t, func() bool { return w.node.Health().Archive.Pending > 20 }, "messages go on meanwhile")

			require.NoError(t, outage.end())
			p2ptest.Eventually(t, func() bool {
				h := w.node.Health().Archive
				return h.State == store.Ready && ask() == nil
			}, "not all is kept")
			cancel()
			require.NoError(t, <-done)
			require.Zero(t, w.node.Health().Archive.Lost)
			w.everything(t)
			t.Logf("%d messages, the slowest delivered after %v", len(w.sent), w.slowestDelivery)
		})
	}
}

// everything reads back what was sent: all of it, in order, once.
func (w *storeTown) everything(t *testing.T) {
	p2ptest.Eventually(t, func() bool {
		h := w.node.Health().Archive
		return h.Pending == 0 && h.Kept >= uint64(len(w.sent))
	}, "not all is kept")
	var got []message.Hash
	for env, err := range w.reader.History(t.Context(), waku.HistoryQuery{}) {
		require.NoError(t, err)
		got = append(got, env.Hash)
	}
	require.Equal(t, w.sent, got)
}
