package lightpush_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// refuseUnread is what go-waku does when there are too many requests.
func refuseUnread(s network.Stream) {
	wire.WriteFrame(s, unhex("0a034e2f41 1a18 1216 65786365656473207468652072617465206c696d6974"))
	s.Close()
}

// A refusal may come before the request is read, and while the rest of it, more than
// a stream takes at once, is still to be sent.
func TestEarlyRefusal(t *testing.T) {
	for _, size := range []int{100, message.DefaultMaxSize, message.LargeMaxSize} {
		pair(t, func(t *testing.T, client, server host.Host) {
			server.SetStreamHandler(lightpush.LegacyID, refuseUnread)
			c := lightpush.NewClient(client, lightpush.ClientConfig{MaxMessageSize: message.LargeMaxSize})
			_, err := c.Push(t.Context(), server.ID(), shard, large(size))
			require.ErrorIs(t, err, lightpush.ErrTooManyRequests, size)
		})
	}
}

// old is a service like go-waku: one request a second and no more, which it answers
// unread.
type old struct {
	mu       sync.Mutex
	tokens   float64
	at       time.Time
	accepted int
	refused  int
}

func (o *old) handle(s network.Stream) {
	o.mu.Lock()
	now := time.Now()
	o.tokens, o.at = min(1, o.tokens+now.Sub(o.at).Seconds()), now
	ok := o.tokens >= 1
	if ok {
		o.tokens--
		o.accepted++
	} else {
		o.refused++
	}
	o.mu.Unlock()
	if !ok {
		refuseUnread(s)
		return
	}
	b, err := wire.ReadFrame(s, 1<<20)
	if err != nil {
		s.Reset()
		return
	}
	wire.WriteFrame(s, append(lengthed(1, idOf(b)), unhex("1a06 0801 12024f4b")...))
	s.Close()
}

// A client on its own doesn't exceed what a service allows, of either version.
func TestPace(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		o := &old{}
		server.SetStreamHandler(lightpush.LegacyID, o.handle)
		c := lightpush.NewClient(client, lightpush.ClientConfig{})
		start := time.Now()
		var wg sync.WaitGroup
		for range 21 {
			wg.Go(func() {
				_, err := c.Push(t.Context(), server.ID(), shard, hello())
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		require.Equal(t, 25*time.Second, time.Since(start))
		require.Equal(t, 21, o.accepted)
		require.Zero(t, o.refused)
		require.Equal(t, uint64(21), c.Stats().Legacy)
	})
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{Patience: -1})
		c := lightpush.NewClient(client, lightpush.ClientConfig{})
		start := time.Now()
		for range 50 {
			_, err := c.Push(t.Context(), server.ID(), shard, hello())
			require.NoError(t, err)
		}
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 50}, s.Stats().Answers)
	})
}

// Pushes to one peer are made one after the other, in the order of the calls; those
// to others don't wait for it.
func TestOrder(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		var (
			got     []int
			running int
			mu      sync.Mutex
		)
		relay := func(_ context.Context, _ peer.ID, _ sharding.Shard, m *message.Message) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			running++
			require.Equal(t, 1, running)
			mu.Unlock()
			time.Sleep(time.Duration(30-len(got)) * 10 * time.Millisecond)
			mu.Lock()
			running--
			got = append(got, int(m.Timestamp))
			return 1, nil
		}
		serve(t, hosts[1], relay, lightpush.ServerConfig{})
		serve(t, hosts[2], to(1), lightpush.ServerConfig{})
		c := lightpush.NewClient(hosts[0], fast)
		var want []int
		var wg sync.WaitGroup
		for i := range 20 {
			m := hello()
			m.Timestamp = int64(i)
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				defer cancel()
				_, err := c.Push(ctx, hosts[1].ID(), shard, m)
				if i == 7 {
					assert.ErrorIs(t, err, context.Canceled)
					return
				}
				assert.NoError(t, err)
			})
			synctest.Wait()
			if i == 7 {
				cancel() // it leaves the line, which closes up
			} else {
				want = append(want, i)
			}
		}
		start := time.Now()
		_, err := c.Push(t.Context(), hosts[2].ID(), shard, hello())
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		wg.Wait()
		require.Equal(t, want, got)
		require.Equal(t, 2, c.Lanes())
	})
}

// The next push comes when the peer has asked for it, and not before.
func TestRetryAfterIsHonoured(t *testing.T) {
	both(t, func(t *testing.T, version int) {
		pair(t, func(t *testing.T, client, server host.Host) {
			var wish error
			serve(t, server, func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
				return 1, wish
			}, lightpush.ServerConfig{Rate: -1})
			only(server, version)
			c := lightpush.NewClient(client, fast)
			push := func(ctx context.Context) (time.Duration, error) {
				start := time.Now()
				_, err := c.Push(ctx, server.ID(), shard, hello())
				return time.Since(start), err
			}
			for _, step := range []struct{ asked, next time.Duration }{
				{7 * time.Second, 7 * time.Second},
				{time.Hour, time.Minute}, // so much and no more is believed
				{0, 2 * time.Second},     // no time named
			} {
				wish = &lightpush.RefusedError{Code: 429, RetryAfter: step.asked}
				_, err := push(t.Context())
				require.ErrorIs(t, err, lightpush.ErrTooManyRequests)
				wish = nil
				took, err := push(t.Context())
				require.NoError(t, err)
				require.Equal(t, step.next, took)
				took, err = push(t.Context())
				require.NoError(t, err)
				require.Zero(t, took)
			}

			wish = lightpush.Refuse(429, "no time named, again and again")
			var pauses []time.Duration
			for range 7 {
				took, err := push(t.Context())
				require.ErrorIs(t, err, lightpush.ErrTooManyRequests)
				pauses = append(pauses, took/time.Second)
			}
			require.Equal(t, []time.Duration{0, 2, 4, 8, 16, 30, 30}, pauses)

			// Whoever can't wait so long knows at once, and leaves the line to others.
			ctx, cancel := context.WithTimeout(t.Context(), 29*time.Second)
			defer cancel()
			took, err := push(ctx)
			var turn *lightpush.TurnError
			require.ErrorAs(t, err, &turn)
			require.Equal(t, &lightpush.TurnError{Peer: server.ID(), After: 30 * time.Second}, turn)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Zero(t, took)

			ctx, stop := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { stop(errGone) })
			took, err = push(ctx)
			require.ErrorIs(t, err, errGone)
			require.Equal(t, time.Second, took)
		})
	})
}

var errGone = errors.New("gone")

// A client forgets the peers that it has nothing to remember about.
func TestClientForgets(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		h := p2ptest.Hosts(t, 1)[0]
		c := lightpush.NewClient(h, lightpush.ClientConfig{})
		for i := range 5000 {
			_, err := c.Push(network.WithNoDial(t.Context(), "test"), peer.ID(string(rune(0x10000+i))), shard, hello())
			require.Error(t, err)
			time.Sleep(20 * time.Millisecond)
		}
		require.Less(t, c.Lanes(), 1000)
	})
}
