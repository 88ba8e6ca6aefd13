package lightpush_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// The two versions draw on one bucket for each peer.
func TestRateLimit(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], to(1), lightpush.ServerConfig{Rate: 4, Burst: 4, Patience: -1})
		good := func(h host.Host, version int) bool {
			return parse(t, version, ask(t, h, hosts[0], version, push(version, []byte("1"), []byte(topic), hello().Encode()))).desc == "OK"
		}
		for i, version := range []int{3, 2, 2, 3, 2, 3} {
			require.Equal(t, i < 4, good(hosts[1], version))
		}
		require.True(t, good(hosts[2], 2), "each peer has its own")
		for version, code := range map[int]uint64{3: 429, 2: 0} {
			for _, request := range [][]byte{push(version, []byte("1"), nil, nil), unhex("ff"), nil} {
				r := parse(t, version, ask(t, hosts[1], hosts[0], version, request))
				require.Equal(t, reply{id: "N/A", code: code, desc: "TOO_MANY_REQUESTS, retry after 250ms", peers: -1}, r)
			}
		}
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 5, 429: 8}, s.Stats().Answers)

		c := lightpush.NewClient(hosts[1], fast)
		_, err := c.Push(t.Context(), hosts[0].ID(), shard, hello())
		var status *lightpush.StatusError
		require.ErrorAs(t, err, &status)
		require.Equal(t, 250*time.Millisecond, status.RetryAfter)
		start := time.Now()
		_, err = c.Push(t.Context(), hosts[0].ID(), shard, hello())
		require.NoError(t, err)
		require.Equal(t, 250*time.Millisecond, time.Since(start))
	})
}

// Who pushes one thing after the other is slowed down and never refused.
func TestPatience(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{Rate: 4, Burst: 3})
		began := time.Now()
		c := lightpush.NewClient(client, fast)
		for range 23 {
			_, err := c.Push(t.Context(), server.ID(), shard, hello())
			require.NoError(t, err)
		}
		require.InDelta(t, 5, time.Since(began).Seconds(), 0.01)
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 23}, s.Stats().Answers)
	})
}

// A relayer may do what it likes; the peer gets an answer and no secrets.
func TestRelayerMisbehaves(t *testing.T) {
	secret := errors.New("open /var/lib/secret: the disk is on fire")
	both(t, func(t *testing.T, version int) {
		for name, c := range map[string]struct {
			relay lightpush.Relayer
			code  lightpush.StatusCode
			after time.Duration
			told  string
		}{
			"fails":            {failing(secret), 500, 0, "secret"},
			"wraps":            {failing(fmt.Errorf("relay: %w", secret)), 500, 0, "secret"},
			"panics":           {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { panic(secret) }, 500, 0, "secret"},
			"panics with nil":  {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { panic(nil) }, 500, 0, "panic"},
			"is none":          {nil, 500, 0, "nil pointer"},
			"hangs, but obeys": {slow, 503, 5 * time.Second, "too long"},
			"hangs": {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
				time.Sleep(time.Hour)
				return 1, nil
			}, 503, 5 * time.Second, "too long"},
			"says too much":   {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { return math.MaxInt, nil }, 200, 0, ""},
			"is of two minds": {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { return 5, secret }, 500, 0, "secret"},
			"ends at the limit": {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
				time.Sleep(5*time.Second - 1)
				return 1, nil
			}, 200, 5*time.Second - 1, ""},
		} {
			pair(t, func(t *testing.T, client, server host.Host) {
				told := ""
				s := serve(t, server, c.relay, lightpush.ServerConfig{OnFailure: func(from peer.ID, err error) {
					require.Equal(t, client.ID(), from)
					told += err.Error()
				}})
				only(server, version)
				start := time.Now()
				r, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
				require.Equal(t, c.after, time.Since(start), name)
				if c.code == 200 {
					require.NoError(t, err, name)
					require.NotZero(t, r.RelayPeers)
				} else {
					var status *lightpush.StatusError
					require.ErrorAs(t, err, &status, name)
					require.Equal(t, c.code, status.Code, name)
					want := "INTERNAL_SERVER_ERROR"
					if c.code == 503 {
						want = "SERVICE_NOT_AVAILABLE, retry after 1s"
					}
					require.Equal(t, want, status.Desc, name)
				}
				require.Contains(t, told, c.told, name)
				require.Equal(t, c.told == "", told == "", name)
				require.Equal(t, uint64(1), s.Stats().Answers[c.code])
			})
		}
	})
}

// Relayers that never return take up their turns and nobody's answer.
func TestBusyRelayer(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 6)
		p2ptest.Star(t, hosts)
		free := make(chan struct{})
		var running atomic.Int64
		s := serve(t, hosts[0], func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
			require.LessOrEqual(t, running.Add(1), int64(2))
			defer running.Add(-1)
			<-free
			return 1, nil
		}, lightpush.ServerConfig{Concurrency: 2})
		var wg sync.WaitGroup
		for i, h := range hosts[1:] {
			want := 5 * time.Second // its own time
			if i >= 2 {
				want = 2 * time.Second // waiting for a turn
			}
			wg.Go(func() {
				start := time.Now()
				_, err := lightpush.NewClient(h, fast).Push(t.Context(), hosts[0].ID(), shard, hello())
				assert.ErrorIs(t, err, lightpush.ErrUnavailable)
				assert.Equal(t, want, time.Since(start))
			})
			synctest.Wait()
		}
		wg.Wait()
		close(free)
		synctest.Wait()
		_, err := lightpush.NewClient(hosts[1], fast).Push(t.Context(), hosts[0].ID(), shard, hello())
		require.NoError(t, err)
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 1, 503: 5}, s.Stats().Answers)
	})
}

// A hundred peers who push as much as they can, at a relayer half as fast as
// what they may push, don't keep ten others from being served.
func TestFairness(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const honest = 10
		hostile := 100
		if testing.Short() || raceEnabled {
			hostile = 20
		}
		hosts := p2ptest.Hosts(t, hostile+honest+1)
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], func(ctx context.Context, _ peer.ID, _ sharding.Shard, _ *message.Message) (int, error) {
			time.Sleep(400 * time.Millisecond / time.Duration(hostile))
			return 1, nil
		}, lightpush.ServerConfig{Concurrency: 1})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var attack sync.WaitGroup
		var offered atomic.Int64
		for _, h := range hosts[1 : hostile+1] {
			for range 8 {
				attack.Go(func() {
					for ctx.Err() == nil {
						c := lightpush.NewClient(h, fast) // of its own: nothing is in order
						c.Push(ctx, hosts[0].ID(), shard, hello())
						offered.Add(1)
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
		}
		time.Sleep(time.Second)
		var (
			mu   sync.Mutex
			took []time.Duration
			wg   sync.WaitGroup
		)
		for _, h := range hosts[hostile+1:] {
			wg.Go(func() {
				c := lightpush.NewClient(h, lightpush.ClientConfig{})
				for range 10 {
					start := time.Now()
					_, err := c.Push(t.Context(), hosts[0].ID(), shard, hello())
					assert.NoError(t, err)
					mu.Lock()
					took = append(took, time.Since(start))
					mu.Unlock()
					time.Sleep(300 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		cancel()
		attack.Wait()
		slices.Sort(took)
		t.Logf("offered %d, answered %v; honest: median %v, worst %v", offered.Load(), s.Stats().Answers, took[len(took)/2], took[len(took)-1])
		require.Less(t, took[len(took)-1], time.Second)
	})
}

func TestClose(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		returned := false
		s := lightpush.NewServer(server, func(ctx context.Context, _ peer.ID, _ sharding.Shard, _ *message.Message) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			returned = true
			return 0, ctx.Err()
		}, lightpush.ServerConfig{})
		c := lightpush.NewClient(client, fast)
		result := make(chan error)
		go func() {
			_, err := c.Push(t.Context(), server.ID(), shard, hello())
			result <- err
		}()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.Close())
		require.True(t, returned, "Close waits for the relayer")
		require.NoError(t, s.Close())
		require.Equal(t, time.Second, time.Since(start))
		var exchange *lightpush.ExchangeError
		require.ErrorAs(t, <-result, &exchange)
		_, err := c.Push(t.Context(), server.ID(), shard, hello())
		require.ErrorIs(t, err, lightpush.ErrUnsupported)
	})
}

// Two dozen clients push in both versions; every message arrives once.
func TestManyClients(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const clients, each = 24, 20
		hosts := p2ptest.Hosts(t, clients+1)
		p2ptest.Star(t, hosts)
		var (
			mu  sync.Mutex
			got = map[string]int{}
		)
		s := serve(t, hosts[0], func(_ context.Context, from peer.ID, _ sharding.Shard, m *message.Message) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			got[string(from)+string(m.Payload)]++
			return 3, nil
		}, lightpush.ServerConfig{})
		synctest.Wait() // all know what the server speaks
		var wg sync.WaitGroup
		for i, h := range hosts[1:] {
			if i%2 == 0 {
				require.NoError(t, h.Peerstore().RemoveProtocols(hosts[0].ID(), lightpush.ID))
			}
			wg.Go(func() {
				c := lightpush.NewClient(h, lightpush.ClientConfig{})
				for j := range each {
					m := hello()
					m.Payload = fmt.Appendf(nil, "%d", j)
					r, err := c.Push(t.Context(), hosts[0].ID(), shard, m)
					if err != nil || r.Version != 3-(i+1)%2 {
						t.Errorf("%v %v", r, err)
						return
					}
				}
			})
		}
		wg.Wait()
		require.Len(t, got, clients*each)
		for k, n := range got {
			require.Equal(t, 1, n, k)
		}
		require.Equal(t, map[lightpush.StatusCode]uint64{200: clients * each}, s.Stats().Answers)
		require.Equal(t, uint64(clients*each/2), s.Stats().Legacy)
	})
}
