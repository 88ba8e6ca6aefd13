package filter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/sharding"
)

// Every code as a client meets it, through streams, with its sentinel.
func TestErrors(t *testing.T) {
	sentinels := []error{filter.ErrNotSubscribed, filter.ErrTooMany, filter.ErrUnavailable, filter.ErrUnsupported, filter.ErrMalformed}
	bubble(t, 4, func(t *testing.T, hosts []host.Host) {
		c, _ := client(t, hosts[0])
		serve(t, hosts[1], filter.ServerConfig{MaxSubscribers: 1, MaxTopics: 2, Rate: 1, Burst: 8, Patience: -1})
		p2ptest.Full(t, hosts[:3])
		p := hosts[1].ID()
		ctx := t.Context()
		answer := func(b string) error {
			answerBy(hosts[2], func([]byte) []byte { return unhex(b) })
			synctest.Wait()
			return c.Ping(ctx, hosts[2].ID())
		}
		check := func(err error, code filter.StatusCode, is error) {
			t.Helper()
			var (
				status   *filter.StatusError
				exchange *filter.ExchangeError
			)
			switch {
			case errors.As(err, &status):
				require.Equal(t, code, status.Code)
			case errors.As(err, &exchange):
				require.Equal(t, code, exchange.Code)
			default:
				require.Fail(t, "another error", "%v", err)
			}
			for _, s := range sentinels {
				require.Equal(t, s == is, errors.Is(err, s), "%v is %v", err, s)
			}
		}
		check(c.Ping(ctx, p), 404, filter.ErrNotSubscribed)
		check(c.Unsubscribe(ctx, p, shard, []string{"a"}), 404, filter.ErrNotSubscribed)
		check(c.UnsubscribeAll(ctx, p), 404, filter.ErrNotSubscribed)
		check(c.Subscribe(ctx, p, shard, []string{"a", "b", "c"}), 400, nil)
		want(t, hosts[2], hosts[1], "a")
		check(c.Subscribe(ctx, p, shard, []string{"a"}), 503, filter.ErrUnavailable)
		ask(t, hosts[2], hosts[1], unhex("0a0131 1003"))
		require.NoError(t, c.Subscribe(ctx, p, shard, []string{"a"}))
		require.NoError(t, c.Ping(ctx, p))
		require.NoError(t, c.Ping(ctx, p))
		err := c.Ping(ctx, p)
		check(err, 429, filter.ErrTooMany)
		require.Equal(t, &filter.StatusError{Peer: p, Code: 429, Desc: "TOO_MANY_REQUESTS, retry after 1s", RetryAfter: time.Second}, err)

		check(c.Ping(ctx, hosts[2].ID()), 504, filter.ErrUnsupported)
		check(c.Ping(ctx, hosts[3].ID()), 504, nil) // nobody knows where
		check(answer("ff"), 300, filter.ErrMalformed)
		check(answer("0a0132 50c801"), 300, filter.ErrMalformed) // to another request
		check(answer("5001ff"), 300, filter.ErrMalformed)
		check(answer("0a034e2f41 508004 5a 04 6e6f2e0a"), 512, nil)
		check(answer(""), 0, nil)
		hosts[2].SetStreamHandler(filter.SubscribeID, func(s network.Stream) { s.Write(p2ptest.Bombs()[0]) })
		check(c.Ping(ctx, hosts[2].ID()), 300, filter.ErrMalformed)
		hosts[2].SetStreamHandler(filter.SubscribeID, func(s network.Stream) { s.Reset() })
		check(c.Ping(ctx, hosts[2].ID()), 504, nil)
		hosts[2].SetStreamHandler(filter.SubscribeID, func(s network.Stream) {})
		began := time.Now()
		check(c.Ping(ctx, hosts[2].ID()), 504, nil)
		require.Equal(t, 10*time.Second, since(began))

		for _, bad := range [][]string{nil, {}, {""}, {"a", ""}, {strings.Repeat("x", 1025)}, {"\xff"}} {
			require.ErrorIs(t, c.Subscribe(ctx, p, shard, bad), filter.ErrTopics)
			require.ErrorIs(t, c.Unsubscribe(ctx, p, shard, bad), filter.ErrTopics)
		}
		require.Error(t, c.Unsubscribe(ctx, p, sharding.Shard{Index: 2000}, []string{"a"}))
	})
}

func TestErrorsRead(t *testing.T) {
	for want, err := range map[string]error{
		"filter: asking : malformed":                       &filter.ExchangeError{Err: filter.ErrMalformed},
		"filter:  answers 429 (slow)":                      &filter.StatusError{Code: 429, Desc: "slow"},
		"filter: 3 messages dropped for a slow subscriber": &filter.OverflowError{Dropped: 3},
		"filter: callback panicked: boom":                  &filter.PanicError{Value: "boom"},
	} {
		require.EqualError(t, err, want)
	}
	require.ErrorIs(t, &filter.ExchangeError{Err: filter.ErrMalformed}, filter.ErrMalformed)
	for code, want := range map[filter.StatusCode]string{
		200: "OK", 300: "BAD_RESPONSE", 400: "BAD_REQUEST", 404: "NOT_FOUND", 429: "TOO_MANY_REQUESTS",
		503: "SERVICE_UNAVAILABLE", 504: "PEER_DIAL_FAILURE", 0: "0", 418: "418",
	} {
		require.Equal(t, want, code.String())
	}
}

// What a peer says of its failures is text of any kind.
func TestDescriptions(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		for in, want := range map[string]filter.StatusError{
			"503|":                            {Code: 503},
			"503|later, retry after 1.5s":     {Code: 503, Desc: "later, retry after 1.5s", RetryAfter: 1500 * time.Millisecond},
			"503|retry after never":           {Code: 503, Desc: "retry after never"},
			"503|retry after -5s":             {Code: 503, Desc: "retry after -5s"},
			"503|retry after 100h":            {Code: 503, Desc: "retry after 100h", RetryAfter: time.Minute},
			"0|\x1b[31mred\n\xff":             {Desc: " [31mred "},
			"400|" + strings.Repeat("x", 999): {Code: 400, Desc: strings.Repeat("x", 256)},
			"4294967295|":                     {Code: 4294967295},
		} {
			number, desc, _ := strings.Cut(in, "|")
			var code uint32
			fmt.Sscan(number, &code)
			answerBy(hosts[0], func([]byte) []byte { return filter.AppendResponse("N/A", filter.StatusCode(code), desc) })
			c, _ := client(t, hosts[1])
			err := c.Ping(t.Context(), hosts[0].ID())
			want.Peer = hosts[0].ID()
			require.Equal(t, &want, err)
		}
	})
}

// log is what a peer was asked, and when.
type log struct {
	mu    sync.Mutex
	asked []filter.Request
	at    []time.Time
}

func (l *log) note(b []byte) filter.Request {
	r, _, _, _ := filter.RequestOf(b, 1000)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, r)
	l.at = append(l.at, time.Now())
	return r
}

func yes(id string) []byte { return filter.AppendResponse(id, 200, "OK") }

// However many ask at once, a peer is asked one thing after the other, in order, and
// below what go-waku (one a second) and nwaku (thirty a minute) allow.
func TestInOrderAndPaced(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := p2ptest.New(t, p2ptest.Config{Latency: 150 * time.Millisecond})
		hosts := n.Hosts(2)
		p2ptest.Star(t, hosts)
		var l log
		var running int
		answerBy(hosts[0], func(b []byte) []byte {
			r := l.note(b)
			running++
			require.Equal(t, 1, running)
			time.Sleep(time.Duration(len(l.asked)%5) * 100 * time.Millisecond)
			running--
			return yes(r.ID)
		})
		c := clientWith(t, hosts[1], filter.ClientConfig{})
		const calls = 40
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				if err := c.Subscribe(t.Context(), hosts[0].ID(), shard, []string{fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		for i, r := range l.asked {
			require.Equal(t, []string{fmt.Sprint(i)}, r.ContentTopics)
			if i > 0 {
				require.GreaterOrEqual(t, l.at[i].Sub(l.at[i-1]), time.Second)
			}
			if i >= 30 {
				require.Greater(t, l.at[i].Sub(l.at[i-30]), time.Minute)
			}
		}
		require.Equal(t, uint64(calls), c.Stats().Requests)
		require.Less(t, l.at[9].Sub(l.at[0]), 20*time.Second, "a handful needn't wait long")
		require.Len(t, c.Topics(hosts[0].ID(), shard), calls)
	})
}

// Who gives up loses its place and nobody else does.
func TestGiveUp(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		var l log
		answerBy(hosts[0], func(b []byte) []byte {
			time.Sleep(time.Second)
			return yes(l.note(b).ID)
		})
		c, _ := client(t, hosts[1])
		errs := make([]error, 20)
		var wg sync.WaitGroup
		for i := range errs {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			wg.Go(func() { errs[i] = c.Subscribe(ctx, hosts[0].ID(), shard, []string{fmt.Sprint(i)}) })
			synctest.Wait()
			if i%3 == 2 {
				time.AfterFunc(2500*time.Millisecond, func() { cancel(errors.New("enough")) })
			}
		}
		wg.Wait()
		var asked []string
		for _, r := range l.asked {
			asked = append(asked, r.ContentTopics[0])
		}
		for i, err := range errs {
			switch {
			case i < 2 || i%3 != 2:
				require.NoError(t, err)
				require.Contains(t, asked, fmt.Sprint(i))
			case i > 2:
				require.EqualError(t, err, "enough")
				require.NotContains(t, asked, fmt.Sprint(i))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.ErrorIs(t, c.Ping(ctx, hosts[0].ID()), context.DeadlineExceeded)
		time.Sleep(time.Second)
	})
}

// A peer that says when to come back is left alone until then, and one that doesn't
// for longer and longer.
func TestTooMany(t *testing.T) {
	for desc, want := range map[string][]time.Duration{
		"slow down, retry after 3s": {3 * time.Second, 3 * time.Second, 3 * time.Second},
		"slow down":                 {2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute},
	} {
		bubble(t, 3, func(t *testing.T, hosts []host.Host) {
			p2ptest.Full(t, hosts)
			var l log
			refuse := true
			answerBy(hosts[0], func(b []byte) []byte {
				r := l.note(b)
				if refuse {
					return filter.AppendResponse("N/A", 429, desc)
				}
				return yes(r.ID)
			})
			answerBy(hosts[2], func(b []byte) []byte { return yes(l.note(b).ID) })
			c, _ := client(t, hosts[1])
			require.ErrorIs(t, c.Ping(t.Context(), hosts[0].ID()), filter.ErrTooMany)
			for _, d := range want {
				began := time.Now()
				require.NoError(t, c.Ping(t.Context(), hosts[2].ID()), "others are asked")
				require.ErrorIs(t, c.Ping(t.Context(), hosts[0].ID()), filter.ErrTooMany)
				require.Equal(t, d, since(began))
			}
			refuse = false
			require.NoError(t, c.Ping(t.Context(), hosts[0].ID()))
			began := time.Now()
			require.NoError(t, c.Ping(t.Context(), hosts[0].ID()))
			require.Zero(t, since(began))
		})
	}
}

// Many topics take several requests; a peer that takes few at a time gets few.
func TestManyTopics(t *testing.T) {
	for most, parts := range map[int][]int{
		100: {90, 90, 70}, 30: {90, 30, 30, 30, 30, 30, 30, 30, 30, 10}, 20: {90, 30},
	} {
		bubble(t, 2, func(t *testing.T, hosts []host.Host) {
			p2ptest.Star(t, hosts)
			var l log
			answerBy(hosts[0], func(b []byte) []byte {
				r := l.note(b)
				if len(r.ContentTopics) > most {
					return filter.AppendResponse(r.ID, 400, "exceeds maximum content topics")
				}
				return yes(r.ID)
			})
			c, _ := client(t, hosts[1])
			var topics []string
			for i := range 250 {
				topics = append(topics, named(i), named(i/2)) // many twice
			}
			err := c.Subscribe(t.Context(), hosts[0].ID(), shard, topics)
			var sizes []int
			var all []string
			for _, r := range l.asked {
				sizes = append(sizes, len(r.ContentTopics))
				if len(r.ContentTopics) <= most {
					all = append(all, r.ContentTopics...)
				}
			}
			require.Equal(t, parts, sizes)
			held := c.Topics(hosts[0].ID(), shard)
			if most == 20 {
				var status *filter.StatusError
				require.ErrorAs(t, err, &status)
				require.Empty(t, held)
				return
			}
			require.NoError(t, err)
			require.Len(t, held, 250)
			slices.Sort(all)
			require.Equal(t, held, all)
			require.NoError(t, c.Unsubscribe(t.Context(), hosts[0].ID(), shard, topics))
			require.Empty(t, c.Topics(hosts[0].ID(), shard))
		})
	}
	bubble(t, 2, func(t *testing.T, hosts []host.Host) { // by their length
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], filter.ServerConfig{Rate: -1})
		c, _ := client(t, hosts[1])
		var topics []string
		for i := range 250 {
			topics = append(topics, fmt.Sprintf("%01024d", i))
		}
		require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, topics))
		require.Equal(t, 250, s.Stats().Criteria)
	})
}

// What isn't granted isn't held, and what was held before remains.
func TestRefusedSubscription(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		p := hosts[0].ID()
		code := filter.StatusCode(200)
		answerBy(hosts[0], func(b []byte) []byte { return filter.AppendResponse("N/A", code, "") })
		c, _ := client(t, hosts[1])
		require.NoError(t, c.Subscribe(t.Context(), p, shard, []string{"a"}))
		for _, code = range []filter.StatusCode{400, 404, 429, 503, 300} {
			require.Error(t, c.Subscribe(t.Context(), p, shard, []string{"a", "b"}))
			require.Equal(t, []string{"a"}, c.Topics(p, shard))
		}
		require.Error(t, c.Unsubscribe(t.Context(), p, shard, []string{"a"}))
		require.Empty(t, c.Topics(p, shard))
		code = 200
		require.NoError(t, c.Subscribe(t.Context(), p, shard, []string{"a"}))
		require.NoError(t, c.Subscribe(t.Context(), p, other, []string{"b"}))
		code = 503
		require.Error(t, c.UnsubscribeAll(t.Context(), p))
		require.Empty(t, c.Topics(p, shard))
		require.Empty(t, c.Topics(p, other))
	})
}

// Close ends requests that wait and those under way.
func TestClientCloses(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		hosts[0].SetStreamHandler(filter.SubscribeID, func(network.Stream) {})
		c := filter.NewClient(hosts[1], filter.ClientConfig{})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := c.Ping(t.Context(), hosts[0].ID()); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v", err)
				}
			})
		}
		time.Sleep(time.Second)
		require.NoError(t, c.Close())
		wg.Wait()
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.Ping(t.Context(), hosts[0].ID()), net.ErrClosed)
	})
}

// Peers that were asked once are forgotten (C8).
func TestContactsAreBounded(t *testing.T) {
	bubble(t, 1, func(t *testing.T, hosts []host.Host) {
		c := clientWith(t, hosts[0], filter.ClientConfig{})
		for i := range 5000 {
			require.Error(t, c.Ping(t.Context(), peer.ID(fmt.Sprintf("peer %d", i))))
			if i%100 == 0 {
				time.Sleep(5 * time.Second)
			}
		}
		require.LessOrEqual(t, c.Contacts(), 600)
	})
}
