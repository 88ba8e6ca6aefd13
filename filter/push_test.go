package filter_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
)

// Everybody gets what is his, in order, on one stream, and nothing else.
func TestFanOut(t *testing.T) {
	const subscribers, messages = 20, 50
	bubble(t, subscribers+1, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{})
		var boxes []*box
		for i, h := range hosts[1:] {
			c, b := client(t, h)
			boxes = append(boxes, b)
			p2ptest.Connect(t, h, hosts[0])
			topics := []string{topicA}
			if i%2 == 1 {
				topics = []string{topicB, "unused"}
			}
			require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, topics))
		}
		for i := range messages {
			require.Equal(t, subscribers/2, s.Push(pubsub, number(topicA, i, 0)))
			require.Equal(t, subscribers/2, s.Push(pubsub, number(topicB, messages+i, 0)))
			require.Zero(t, s.Push(pubsub, number("nobody's", i, 0)))
			require.Zero(t, s.Push(other.PubsubTopic(), number(topicA, i, 0)))
			time.Sleep(100 * time.Millisecond)
		}
		for i, b := range boxes {
			for _, p := range b.all() {
				require.Equal(t, hosts[0].ID(), p.From)
				require.Equal(t, pubsub, p.PubsubTopic)
				require.Equal(t, p.Message.Hash(pubsub), p.Hash)
				require.Equal(t, p.Message.Encode(), p.Data)
			}
			from := messages * (i % 2)
			require.Equal(t, numbers(from, from+messages), b.payloads())
			require.Empty(t, b.told())
		}
		for _, c := range hosts[0].Network().Conns() {
			n := 0
			for _, st := range c.GetStreams() {
				if st.Protocol() == filter.PushID {
					n++
				}
			}
			require.Equal(t, 1, n)
		}
		got := s.Stats()
		require.Equal(t, uint64(subscribers*messages), got.Matched)
		require.Equal(t, uint64(subscribers*messages), got.Sent)
		require.Positive(t, got.Bytes)
		require.Zero(t, got.Dropped)
	})
}

// An idle subscriber costs no goroutine.
func TestIdle(t *testing.T) {
	bubble(t, 10, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{})
		for _, h := range hosts[1:] {
			h.SetStreamHandler(filter.PushID, func(network.Stream) {}) // keeps it, without a goroutine
		}
		p2ptest.Star(t, hosts)
		time.Sleep(time.Minute)
		before := p2ptest.Goroutines()
		for _, h := range hosts[1:] {
			want(t, h, hosts[0], "a")
		}
		s.Push(pubsub, text("a", "1"))
		synctest.Wait()
		require.Equal(t, before+1+9, p2ptest.Goroutines(), "the sweep, and a watch for each new stream")
		time.Sleep(4 * time.Second)
		require.Equal(t, before+1, p2ptest.Goroutines())
		s.Push(pubsub, text("a", "2"))
		synctest.Wait()
		require.Equal(t, before+1, p2ptest.Goroutines())
		for _, h := range hosts[1:] {
			ask(t, h, hosts[0], unhex("0a0131 1003"))
		}
		time.Sleep(time.Minute)
		require.Equal(t, before, p2ptest.Goroutines())
	})
}

// oneEach takes pushes as go-waku does: one for a stream, which it ends at once.
func oneEach(h host.Host, b *box, delay time.Duration) (streams *atomic.Int64) {
	streams = new(atomic.Int64)
	h.SetStreamHandler(filter.PushID, func(s network.Stream) {
		streams.Add(1)
		time.Sleep(delay)
		frame, err := wire.ReadFrame(s, 1<<20)
		if err != nil {
			s.Reset()
			return
		}
		s.Close()
		encoded, topic, err := filter.PushOf(frame)
		if err != nil {
			return
		}
		m := text("", string(encoded))
		b.push(filter.Push{PubsubTopic: topic, Message: m})
	})
	return streams
}

// Who reads one push for a stream gets them all, below the rate that it takes.
func TestOneStreamEach(t *testing.T) {
	for _, delay := range []time.Duration{0, 50 * time.Millisecond, 400 * time.Millisecond, time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, hosts []host.Host) {
				s := serve(t, hosts[0], filter.ServerConfig{})
				got := new(box)
				streams := oneEach(hosts[1], got, delay)
				p2ptest.Star(t, hosts)
				want(t, hosts[1], hosts[0], "a")
				const burst = 40
				began := time.Now()
				for i := range burst {
					s.Push(pubsub, number("a", i, 0))
				}
				synctest.Wait()
				if delay == 0 {
					require.Equal(t, 17, got.len(), "one to find out, and sixteen at once")
				}
				p2ptest.Eventually(t, func() bool { return got.len() == burst }, "all of them")
				require.InDelta(t, max((burst-17)/14.0, (burst-1)/8*delay.Seconds()), since(began).Seconds(), 2+2*delay.Seconds())
				require.Equal(t, int64(burst), streams.Load())
				seen := got.payloads()
				slices.Sort(seen)
				require.Len(t, slices.Compact(seen), burst)

				before := p2ptest.Goroutines()
				for i := range 100 { // at leisure
					time.Sleep(200 * time.Millisecond)
					s.Push(pubsub, number("a", burst+i, 0))
				}
				time.Sleep(3 * time.Second)
				require.Equal(t, 100, got.len())
				require.Equal(t, int64(burst+100), streams.Load())
				require.LessOrEqual(t, p2ptest.Goroutines(), before)
				require.Zero(t, s.Stats().Dropped)
			})
		})
	}
}

// Who never ends its side, as js-waku, gets all on one stream.
func TestNeverEnds(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{})
		var (
			mu      sync.Mutex
			streams int
			got     []string
		)
		hosts[1].SetStreamHandler(filter.PushID, func(s network.Stream) {
			mu.Lock()
			streams++
			mu.Unlock()
			all := pushes(s)
			mu.Lock()
			got = append(got, all...)
			mu.Unlock()
		})
		p2ptest.Star(t, hosts)
		want(t, hosts[1], hosts[0], "a")
		for i := range 300 {
			s.Push(pubsub, number("a", i, 0))
			time.Sleep(20 * time.Millisecond)
		}
		ask(t, hosts[1], hosts[0], unhex("0a0131 1003"))
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, streams)
		require.Equal(t, numbers(0, 300), got)
	})
}

// A peer that ends a stream later gets the rest on another.
func TestStreamEndedLater(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{})
		var got box
		hosts[1].SetStreamHandler(filter.PushID, func(s network.Stream) {
			for range 3 {
				if _, err := wire.ReadFrame(s, 1<<20); err != nil {
					break
				}
				got.push(filter.Push{Message: text("a", "x")})
			}
			s.Close()
		})
		p2ptest.Star(t, hosts)
		want(t, hosts[1], hosts[0], "a")
		for i := range 30 {
			s.Push(pubsub, number("a", i, 0))
			time.Sleep(4 * time.Second)
			require.Equal(t, i+1, got.len())
		}
	})
}

// Who doesn't read is forgotten, and nobody else notices.
func TestNeverReads(t *testing.T) {
	const healthy, stalled = 5, 5
	bubble(t, 1+healthy+stalled, func(t *testing.T, hosts []host.Host) {
		evicted := new(box)
		s := serve(t, hosts[0], filter.ServerConfig{OnEvict: evicted.failure, OnFailure: evicted.failure})
		var boxes []*box
		for _, h := range hosts[1 : 1+healthy] {
			c, b := client(t, h)
			boxes = append(boxes, b)
			p2ptest.Connect(t, h, hosts[0])
			require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, []string{"a"}))
		}
		for _, h := range hosts[1+healthy:] {
			h.SetStreamHandler(filter.PushID, func(network.Stream) {})
			p2ptest.Connect(t, h, hosts[0])
			want(t, h, hosts[0], "a")
		}
		began, gone := time.Now(), time.Duration(0)
		const messages = 25 * 40
		for i := range messages {
			s.Push(pubsub, number("a", i, 4<<10))
			time.Sleep(40 * time.Millisecond)
			for _, b := range boxes {
				require.Equal(t, i+1, b.len(), "at once")
			}
			if gone == 0 && s.Subscribers() == healthy {
				gone = since(began)
			}
		}
		require.NotZero(t, gone)
		require.Less(t, gone, 30*time.Second)
		for _, b := range boxes {
			require.Equal(t, len(b.payloads()), messages)
		}
		slow, dropped := 0, uint64(0)
		for _, err := range evicted.told() {
			if o, ok := err.(*filter.OverflowError); ok {
				dropped += o.Dropped
			} else {
				require.Equal(t, filter.ErrSlow, err)
				slow++
			}
		}
		require.Equal(t, stalled, slow)
		require.Equal(t, s.Stats().Dropped, dropped, "all that was dropped is told")
		require.Positive(t, dropped)
	})
}

// A slow reader loses the oldest, and is told to whom it matters.
func TestOverflow(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		told := new(box)
		s := serve(t, hosts[0], filter.ServerConfig{Queue: 10, OnFailure: told.failure, OnEvict: told.failure})
		gate := make(chan struct{}, 1000)
		var got box
		hosts[1].SetStreamHandler(filter.PushID, func(st network.Stream) {
			for range gate {
				b, err := wire.ReadFrame(st, 1<<20)
				if err != nil {
					return
				}
				encoded, _, _ := filter.PushOf(b)
				got.push(filter.Push{Message: text("a", string(encoded[len(encoded)-30:]))})
			}
		})
		p2ptest.Star(t, hosts)
		want(t, hosts[1], hosts[0], "a")
		const messages, size = 60, 100 << 10
		for i := range messages {
			s.Push(pubsub, number("a", i, size))
			synctest.Wait()
		}
		st := s.Stats()
		require.Positive(t, st.Dropped)
		require.Equal(t, 1, s.Subscribers())
		for range messages {
			gate <- struct{}{}
			time.Sleep(time.Second)
		}
		close(gate)
		require.Equal(t, messages, got.len()+int(s.Stats().Dropped))
		var sum uint64
		for _, err := range told.told() {
			o, ok := err.(*filter.OverflowError)
			require.True(t, ok, "%v", err)
			require.Contains(t, o.Error(), "dropped for a slow subscriber")
			sum += o.Dropped
		}
		require.Equal(t, s.Stats().Dropped, sum)
		require.Equal(t, 1, s.Subscribers())
	})
}

// What waits for a subscriber is bounded by its bytes as well, but one message is
// always let through.
func TestQueueBytes(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{QueueBytes: 1000})
		c, got := client(t, hosts[1])
		p2ptest.Star(t, hosts)
		require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, []string{"a"}))
		for i := range 10 {
			s.Push(pubsub, number("a", i, 5000))
			time.Sleep(4 * time.Second)
			require.Equal(t, i+1, got.len())
		}
		p2ptest.Disconnect(t, hosts[0], hosts[1])
		for i := range 10 {
			s.Push(pubsub, number("a", i, 400))
		}
		require.GreaterOrEqual(t, s.Stats().Dropped, uint64(7))
		require.Equal(t, 1, s.Subscribers())
	})
}

// Who resets every stream is forgotten, but not at once.
func TestRefuses(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		evicted := new(box)
		s := serve(t, hosts[0], filter.ServerConfig{OnEvict: evicted.failure})
		streams := 0
		hosts[1].SetStreamHandler(filter.PushID, func(s network.Stream) { streams++; s.Reset() })
		p2ptest.Star(t, hosts)
		want(t, hosts[1], hosts[0], "a")
		for i := range 10 {
			s.Push(pubsub, number("a", i, 0))
		}
		time.Sleep(3 * time.Second)
		require.Equal(t, 1, s.Subscribers())
		time.Sleep(3 * time.Second)
		require.Zero(t, s.Subscribers())
		require.Equal(t, []error{filter.ErrRefused}, evicted.told())
		require.LessOrEqual(t, streams, 5)
	})
}

// A subscriber that can't take one message gets the others, as far as they weren't on
// their way behind it.
func TestPoison(t *testing.T) {
	for _, single := range []bool{false, true} {
		bubble(t, 2, func(t *testing.T, hosts []host.Host) {
			evicted := new(box)
			s := serve(t, hosts[0], filter.ServerConfig{OnEvict: evicted.failure})
			var got box
			hosts[1].SetStreamHandler(filter.PushID, func(s network.Stream) {
				for {
					b, err := wire.ReadFrame(s, 1000)
					if err != nil {
						s.Reset()
						return
					}
					got.push(filter.Push{Message: text("a", string(b))})
					if single {
						s.Close()
						return
					}
				}
			})
			p2ptest.Star(t, hosts)
			want(t, hosts[1], hosts[0], "a")
			for i := range 12 {
				size := 0
				if i%6 == 0 {
					size = 10_000
				}
				s.Push(pubsub, number("a", i, size))
				time.Sleep(5 * time.Second)
			}
			require.Equal(t, 10, got.len())
			require.Empty(t, evicted.told())
			require.Equal(t, 1, s.Subscribers())
		})
	}
}

// A peer that is busy for a moment gets what it refused.
func TestRefusesForAWhile(t *testing.T) {
	for _, single := range []bool{false, true} {
		bubble(t, 2, func(t *testing.T, hosts []host.Host) {
			s := serve(t, hosts[0], filter.ServerConfig{})
			var got box
			began := time.Now()
			hosts[1].SetStreamHandler(filter.PushID, func(s network.Stream) {
				if d := since(began); d > time.Second && d < 2500*time.Millisecond {
					s.Reset()
					return
				}
				for {
					b, err := wire.ReadFrame(s, 1<<20)
					if err != nil {
						s.Reset()
						return
					}
					encoded, _, _ := filter.PushOf(b)
					got.push(filter.Push{Message: text("a", string(encoded))})
					if single {
						s.Close()
						return
					}
				}
			})
			p2ptest.Star(t, hosts)
			want(t, hosts[1], hosts[0], "a")
			for i := range 20 {
				if i == 10 && !single {
					for _, c := range hosts[1].Network().Conns() {
						for _, st := range c.GetStreams() {
							if st.Protocol() == filter.PushID {
								st.Reset()
							}
						}
					}
				}
				s.Push(pubsub, number("a", i, 0))
				time.Sleep(200 * time.Millisecond)
			}
			time.Sleep(10 * time.Second)
			seen := got.payloads()
			slices.Sort(seen)
			require.Len(t, slices.Compact(seen), 20)
			require.Zero(t, s.Stats().Dropped)
			require.Equal(t, 1, s.Subscribers())
		})
	}
}

// Who subscribes and takes no pushes at all is forgotten.
func TestNoPushProtocol(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		evicted := new(box)
		s := serve(t, hosts[0], filter.ServerConfig{OnEvict: evicted.failure})
		p2ptest.Star(t, hosts)
		want(t, hosts[1], hosts[0], "a")
		s.Push(pubsub, text("a", "1"))
		time.Sleep(time.Minute)
		require.Zero(t, s.Subscribers())
		told := evicted.told()
		require.Len(t, told, 1)
		require.ErrorIs(t, told[0], filter.ErrRefused)
		require.ErrorIs(t, told[0], filter.ErrUnsupported)
	})
}

// Unsubscribed is unsubscribed, with pushes on their way as well.
func TestUnsubscribeUnderWay(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{Rate: -1})
		hosts[1].SetStreamHandler(filter.PushID, func(network.Stream) {})
		p2ptest.Star(t, hosts)
		for range 20 {
			want(t, hosts[1], hosts[0], "a")
			for i := range 20 {
				s.Push(pubsub, number("a", i, 100<<10))
			}
			time.Sleep(10 * time.Millisecond)
			require.Equal(t, filter.StatusOK, parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131 1003"))).code)
			require.Zero(t, s.Subscribers())
		}
		time.Sleep(30 * time.Second)
		require.Zero(t, s.Stats().Evicted)
		for _, c := range hosts[0].Network().Conns() {
			for _, st := range c.GetStreams() {
				require.NotEqual(t, filter.PushID, st.Protocol())
			}
		}
	})
}

// Close ends pushes that nobody takes.
func TestCloseWhilePushing(t *testing.T) {
	bubble(t, 3, func(t *testing.T, hosts []host.Host) {
		s := filter.NewServer(hosts[0], filter.ServerConfig{})
		hosts[1].SetStreamHandler(filter.PushID, func(network.Stream) {})
		var got box
		oneEach(hosts[2], &got, time.Second)
		p2ptest.Star(t, hosts)
		want(t, hosts[1], hosts[0], "a")
		want(t, hosts[2], hosts[0], "a")
		for i := range 20 {
			s.Push(pubsub, number("a", i, 100<<10))
		}
		time.Sleep(1500 * time.Millisecond)
		began := time.Now()
		require.NoError(t, s.Close())
		require.Zero(t, since(began))
		time.Sleep(time.Second)
	})
}

// Pushes and requests from everywhere at once.
func TestConcurrent(t *testing.T) {
	const subscribers = 8
	bubble(t, subscribers+1, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{Rate: -1})
		var clients []*filter.Client
		for _, h := range hosts[1:] {
			c, _ := client(t, h)
			clients = append(clients, c)
		}
		p2ptest.Star(t, hosts)
		var wg sync.WaitGroup
		for i, c := range clients {
			wg.Go(func() {
				for j := range 30 {
					topics := []string{fmt.Sprint(j % 3), fmt.Sprint(j % 5)}
					if err := c.Subscribe(t.Context(), hosts[0].ID(), shard, topics); err != nil {
						t.Error(err)
					}
					switch (i + j) % 4 {
					case 0:
						c.UnsubscribeAll(t.Context(), hosts[0].ID())
					case 1:
						c.Unsubscribe(t.Context(), hosts[0].ID(), shard, topics[:1])
					}
				}
			})
			wg.Go(func() {
				for j := range 200 {
					s.Push(pubsub, number(fmt.Sprint(j%5), j, 0))
				}
			})
		}
		wg.Wait()
		require.True(t, s.Consistent())
	})
}

// Who takes one push for a stream and then none is forgotten in time.
func TestOneStreamEachStalls(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		evicted := new(box)
		s := serve(t, hosts[0], filter.ServerConfig{OnEvict: evicted.failure})
		var streams atomic.Int64
		hosts[1].SetStreamHandler(filter.PushID, func(s network.Stream) {
			if streams.Add(1) == 1 {
				wire.ReadFrame(s, 1<<20)
				s.Close()
			}
		})
		p2ptest.Star(t, hosts)
		want(t, hosts[1], hosts[0], "a")
		for i := range 30 {
			s.Push(pubsub, number("a", i, 0))
		}
		time.Sleep(20*time.Second - time.Millisecond)
		require.Equal(t, 1, s.Subscribers())
		require.LessOrEqual(t, streams.Load(), int64(9))
		time.Sleep(time.Second)
		require.Zero(t, s.Subscribers())
		require.Equal(t, []error{filter.ErrSlow}, evicted.told())
		require.Equal(t, uint64(1), s.Stats().Evicted)
	})
}
