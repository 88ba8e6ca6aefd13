package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/store"
)

// counted counts what an archive is asked.
type counted struct {
	store.Source
	n atomic.Int64
}

func (c *counted) Query(ctx context.Context, q store.Query) (store.Page, error) {
	c.n.Add(1)
	return c.Source.Query(ctx, q)
}

// largePages is an archive whose pages are longer than what is sent to somebody
// who reads nothing.
func largePages() *counted {
	var list []store.Entry
	for i := range 20 {
		list = append(list, large(i))
	}
	return &counted{Source: archive(list...)}
}

// stall asks for a page and doesn't read it.
func stall(t *testing.T, from, server host.Host) network.Stream {
	s, err := p2ptest.OpenStream(t.Context(), from, server.ID(), store.ID)
	require.NoError(t, err)
	t.Cleanup(func() { s.Reset() })
	require.NoError(t, wire.WriteFrame(s, unhex("0a0131 1001 a80364")))
	synctest.Wait()
	return s
}

// While answers that nobody takes fill the memory for them, the archive isn't
// asked. Then they are cut off, and those who waited are served.
func TestAnswerBytes(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const stalled, honest = 3, 10
		hosts := p2ptest.Hosts(t, 1+stalled+honest)
		p2ptest.Star(t, hosts)
		a := largePages()
		s := serve(t, hosts[0], a, store.ServerConfig{AnswerBytes: 3 << 20})
		for _, h := range hosts[1 : 1+stalled] {
			stall(t, h, hosts[0])
		}
		require.Equal(t, int64(stalled), a.n.Load())
		began := time.Now()
		var wg sync.WaitGroup
		for _, h := range hosts[1+stalled:] {
			wg.Go(func() {
				p, err := store.NewClient(h, fast).Query(t.Context(), hosts[0].ID(), store.Query{Limit: 100})
				assert.NoError(t, err)
				assert.Len(t, p.Entries, 7)
				assert.Equal(t, 5*time.Second, time.Since(began))
			})
		}
		synctest.Wait()
		time.Sleep(5*time.Second - time.Millisecond)
		synctest.Wait()
		require.Equal(t, int64(stalled), a.n.Load(), "nobody else's turn has come")
		wg.Wait()
		synctest.Wait()
		require.Equal(t, int64(stalled+honest), a.n.Load())
		require.Equal(t, uint64(stalled), s.Stats().Failed)
		require.Zero(t, s.Stats().Unavailable)
		require.Zero(t, s.Held())
	})
}

// One peer fills no more than a share, and keeps nobody else waiting.
func TestAnswerBytesOfOnePeer(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		a := largePages()
		s := serve(t, hosts[0], a, store.ServerConfig{AnswerBytes: 8 << 20})
		for range 4 {
			stall(t, hosts[1], hosts[0])
		}
		require.Equal(t, int64(1), a.n.Load(), "the others wait for the first")
		began := time.Now()
		require.Len(t, collect(t, store.NewClient(hosts[2], fast), hosts[0], store.Query{}), 20)
		require.Zero(t, time.Since(began))
		require.Equal(t, int64(4), a.n.Load())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, int64(5), a.n.Load(), "the second's turn comes when the first is cut off")
		require.Equal(t, uint64(2), s.Stats().Failed)
		require.Equal(t, uint64(2), s.Stats().Unavailable, "eight seconds are enough")
		require.Zero(t, s.Held())
	})
}

// frank is an archive that knows how it is.
type frank struct {
	source
	state store.State
}

func (f frank) Condition() store.Condition { return store.Condition{State: f.state} }

// An archive that answers nobody for a while hangs, unless it says that it is
// ready: then it is given as long as the question that was asked first.
func TestBusyOrHanging(t *testing.T) {
	for name, c := range map[string]struct {
		state store.State
		takes time.Duration
		after []time.Duration // those who wait are told
		pages int64
	}{
		"busy":  {store.Ready, 3 * time.Second, []time.Duration{6 * time.Second, 8 * time.Second, 9 * time.Second}, 2},
		"hangs": {store.Ready, time.Minute, []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second}, 0},
		"away":  {store.Spooling, 3 * time.Second, []time.Duration{time.Second, time.Second, time.Second}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				hosts := p2ptest.Hosts(t, 5)
				p2ptest.Star(t, hosts)
				s := serve(t, hosts[0], frank{func(context.Context, store.Query) (store.Page, error) {
					time.Sleep(c.takes)
					return store.Page{}, nil
				}, c.state}, store.ServerConfig{Rate: -1, Queries: 1})
				query := func(h host.Host) error {
					_, err := store.NewClient(h, fast).Query(t.Context(), hosts[0].ID(), store.Query{})
					return err
				}
				time.Sleep(time.Hour)
				var wg sync.WaitGroup
				wg.Go(func() { query(hosts[1]) })
				synctest.Wait()
				began := time.Now()
				var mu sync.Mutex
				var after []time.Duration
				var pages int64
				for _, h := range hosts[2:] {
					wg.Go(func() {
						err := query(h)
						mu.Lock()
						defer mu.Unlock()
						after = append(after, time.Since(began))
						if err == nil {
							pages++
						} else {
							assert.ErrorIs(t, err, store.ErrUnavailable)
						}
					})
				}
				wg.Wait()
				require.Equal(t, c.after, after)
				require.Equal(t, c.pages, pages)
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Zero(t, s.Held())
			})
		})
	}
}

// slow is an archive that takes its time.
type slow struct {
	store.Source
	each time.Duration
}

func (s slow) Query(ctx context.Context, q store.Query) (store.Page, error) {
	time.Sleep(s.each)
	return s.Source.Query(ctx, q)
}

// Peers that always have questions waiting, and fill the queue with them, neither delay
// nor displace one who asks now and then.
func TestWhoAsksSeldomIsFirst(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const hostile, each = 10, 8
		const took = 100 * time.Millisecond
		hosts := p2ptest.Hosts(t, 2+hostile)
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], slow{archive(), took}, store.ServerConfig{Queries: 1, Waiting: 40, Rate: -1})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var refused, answered atomic.Int64
		for _, h := range hosts[2:] {
			c := store.NewClient(h, fast)
			for range each {
				wg.Go(func() {
					for ctx.Err() == nil {
						if _, err := c.Query(ctx, hosts[0].ID(), store.Query{}); err != nil {
							refused.Add(1)
							time.Sleep(took)
							continue
						}
						answered.Add(1)
					}
				})
			}
		}
		time.Sleep(5 * time.Second)
		c := store.NewClient(hosts[1], fast)
		for range 6 {
			began := time.Now()
			_, err := c.Query(t.Context(), hosts[0].ID(), store.Query{})
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(began), 2*took)
			time.Sleep(2 * time.Second)
		}
		stop()
		wg.Wait()
		time.Sleep(10 * time.Second) // for those whom nobody waits for any more
		require.NotZero(t, refused.Load())
		require.Greater(t, answered.Load(), int64(100))
		synctest.Wait()
		require.Zero(t, s.Held())
	})
}

// Between two turns there is a breath, and who comes in it and asks seldom is next, also
// while there are turns to be had.
func TestBreaths(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		asked, end := make(chan int, 4), make(chan struct{})
		s := serve(t, hosts[0], source(func(_ context.Context, q store.Query) (store.Page, error) {
			asked <- q.Limit
			<-end
			return store.Page{}, nil
		}), store.ServerConfig{})
		breath := make(chan struct{})
		s.Breathe(func() { <-breath })
		var wg sync.WaitGroup
		ask := func(h host.Host, limit int) {
			wg.Go(func() {
				_, err := store.NewClient(h, fast).Query(t.Context(), hosts[0].ID(), store.Query{Limit: limit})
				assert.NoError(t, err)
			})
			synctest.Wait()
		}
		ask(hosts[1], 1)
		require.Equal(t, 1, <-asked, "who is alone doesn't wait")
		ask(hosts[1], 2)
		ask(hosts[1], 3)
		ask(hosts[2], 4)
		require.Empty(t, asked)
		for _, next := range []int{4, 2, 3} {
			breath <- struct{}{}
			synctest.Wait()
			require.Equal(t, next, <-asked)
			require.Empty(t, asked)
		}
		close(breath)
		close(end)
		wg.Wait()
		synctest.Wait()
		require.Zero(t, s.Held())
	})
}
