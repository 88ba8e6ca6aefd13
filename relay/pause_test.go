package relay_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// Between Pause and Resume there is no router; what was subscribed, remembered and
// counted is there afterwards.
func TestPause(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		rs := relays(t, hosts, relay.Config{})
		asked := 0
		rs[0].SetRules(shard, relay.Rules{Validator: func(context.Context, *message.Received) message.Verdict {
			asked++
			return message.Accept
		}})
		reader := subscribe(t, rs[0], shard)
		gone := subscribe(t, rs[0], other)
		for _, r := range rs[1:] {
			subscribe(t, r, shard)
			subscribe(t, r, other)
		}
		p2ptest.Full(t, hosts)
		settle()
		before := newMessage("before")
		publish(t, rs[1], shard, before)
		require.Equal(t, []string{"before"}, drain(reader))
		counted := rs[0].Stats()

		conns := hosts[0].Network().Conns()
		rs[0].Pause()
		rs[0].Pause()
		time.Sleep(time.Second)
		for _, c := range conns {
			require.True(t, c.IsClosed())
		}
		require.NotContains(t, hosts[0].Mux().Protocols(), relay.ID)
		require.Empty(t, rs[0].Mesh(shard))
		require.Empty(t, rs[0].Peers(shard))
		_, err := rs[0].Publish(t.Context(), shard, newMessage("lost"))
		require.ErrorIs(t, err, relay.ErrPaused)
		require.NoError(t, gone.Close())
		later := subscribe(t, rs[0], other)
		for _, sh := range counted.Shards {
			for _, now := range rs[0].Stats().Shards {
				if now.Shard == sh.Shard {
					require.Equal(t, sh.In, now.In)
				}
			}
		}

		require.NoError(t, rs[0].Resume())
		require.NoError(t, rs[0].Resume())
		p2ptest.Full(t, hosts)
		settle()
		require.Len(t, rs[0].Mesh(shard), 2)
		publish(t, rs[1], shard, newMessage("after"))
		publish(t, rs[1], other, newMessage("elsewhere"))
		publish(t, rs[0], shard, newMessage("own"))
		require.ElementsMatch(t, []string{"after", "own"}, drain(reader))
		require.Equal(t, []string{"elsewhere"}, drain(later))
		require.Equal(t, 3, asked)
		require.False(t, rs[0].Deliver(shard, hosts[1].ID(), before), "it is remembered")

		rs[0].Pause()
		require.NoError(t, rs[0].Close())
		require.ErrorIs(t, rs[0].Resume(), net.ErrClosed)
		rs[0].Pause()
	})
}

// Pausing and resuming beside everything else: no race, no deadlock, no leak, and at
// the end all works.
func TestPauseBesideEverything(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		rs := relays(t, hosts, relay.Config{})
		for _, r := range rs {
			subscribe(t, r, shard)
		}
		p2ptest.Full(t, hosts)
		settle()
		before := p2ptest.Goroutines()
		over := make(chan struct{})
		var wg sync.WaitGroup
		for i, r := range rs {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-over:
						return
					case <-time.After(7 * time.Millisecond):
					}
					m := &message.Message{Payload: fmt.Append(nil, i, n), ContentTopic: topic, Timestamp: time.Now().UnixNano()}
					if _, err := r.Publish(t.Context(), shard, m); err != nil {
						require.ErrorIs(t, err, relay.ErrPaused)
					}
				}
			})
		}
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(3 * time.Millisecond):
				}
				sub := subscribe(t, rs[0], other)
				require.NoError(t, sub.Close())
			}
		})
		for i := range 50 {
			rs[0].Pause()
			time.Sleep(time.Duration(i) * time.Millisecond)
			require.NoError(t, rs[0].Resume())
			if i%5 == 0 {
				p2ptest.Full(t, hosts)
			}
			time.Sleep(time.Duration(i) * time.Millisecond)
		}
		close(over)
		wg.Wait()
		time.Sleep(time.Second)
		p2ptest.Full(t, hosts)
		time.Sleep(time.Minute) // back-offs end
		require.Len(t, rs[0].Mesh(shard), 2)
		require.InDelta(t, before, p2ptest.Goroutines(), 4)
		sub := subscribe(t, rs[0], shard)
		publish(t, rs[1], shard, newMessage("well"))
		require.Equal(t, []string{"well"}, drain(sub))
	})
}

// Pause doesn't wait for validators, not even for such as ignore their context.
func TestPauseWithHangingValidator(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		over := make(chan struct{})
		hosts := p2ptest.Hosts(t, 2)
		rs := relays(t, hosts, relay.Config{})
		rs[0].SetRules(shard, relay.Rules{Validator: func(context.Context, *message.Received) message.Verdict {
			<-over
			return message.Accept
		}})
		reader := subscribe(t, rs[0], shard)
		subscribe(t, rs[1], shard)
		p2ptest.Full(t, hosts)
		settle()
		publish(t, rs[1], shard, newMessage("stuck"))
		synctest.Wait()
		began := time.Now()
		rs[0].Pause()
		require.Zero(t, time.Since(began))
		require.NoError(t, rs[0].Resume())
		close(over)
		require.Equal(t, []string{"stuck"}, drain(reader), "who was judged is delivered")
	})
}
