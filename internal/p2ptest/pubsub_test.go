package p2ptest_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
)

const topic = "/waku/2/rs/16/128"

// gossip runs a plain GossipSub that speaks RelayID with every feature on, and
// subscribes it.
func gossip(t *testing.T, ctx context.Context, h host.Host, opts ...pubsub.Option) (*pubsub.Topic, *pubsub.Subscription) {
	t.Helper()
	all := func(pubsub.GossipSubFeature, protocol.ID) bool { return true }
	opts = append([]pubsub.Option{
		pubsub.WithGossipSubProtocols([]protocol.ID{p2ptest.RelayID}, all),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string { return string(m.Data[:min(8, len(m.Data))]) }),
		pubsub.WithNoAuthor(),
	}, opts...)
	ps, err := pubsub.NewGossipSub(ctx, h, opts...)
	require.NoError(t, err)
	tp, err := ps.Join(topic)
	require.NoError(t, err)
	sub, err := tp.Subscribe(pubsub.WithBufferSize(1024))
	require.NoError(t, err)
	return tp, sub
}

func TestRawPubsubAgainstGossipSub(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		hosts := p2ptest.Hosts(t, 3)
		victim := hosts[0].ID()
		tp, sub := gossip(t, ctx, hosts[0])
		attacker := p2ptest.NewRawPubsub(t, hosts[1])
		ear := p2ptest.NewRawPubsub(t, hosts[2])
		p2ptest.Star(t, hosts)
		synctest.Wait()
		require.Equal(t, 1, ear.Tally().Subscribes, "the victim says hello first")

		require.NoError(t, attacker.Send(victim, p2ptest.Subscribe(topic), p2ptest.Graft(topic)))
		require.NoError(t, ear.Send(victim, p2ptest.Subscribe(topic), p2ptest.Graft(topic)))
		synctest.Wait()
		ear.Forget()

		// What one end sends the other receives, and is called off where it came from.
		big := make([]byte, 4096)
		copy(big, "01234567")
		require.NoError(t, attacker.Send(victim, p2ptest.Publish(topic, big, []byte("small"))))
		synctest.Wait()
		m, err := sub.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, big, m.Data)
		require.Len(t, ear.Messages(), 2)
		got := ear.Tally(victim)
		require.Equal(t, 2, got.Messages)
		require.Greater(t, got.MessageBytes, 4096)
		require.LessOrEqual(t, got.MessageBytes+got.ControlBytes, got.Bytes)
		require.Equal(t, 1, got.IDontWants, "only the large one")
		require.Greater(t, got.IDontWantBytes, 8)
		require.LessOrEqual(t, got.IDontWantBytes, got.ControlBytes)
		require.Zero(t, ear.Tally(hosts[1].ID()))

		// The victim's own message reaches everyone who grafted.
		require.NoError(t, tp.Publish(ctx, []byte("from the victim")))
		synctest.Wait()
		require.Equal(t, 1, attacker.Tally().Messages)
		require.Equal(t, 3, ear.Tally().Messages)

		// Control both ways: what IHAVE offers is asked for, IWANT is answered.
		ear.Forget()
		require.NoError(t, ear.Send(victim, p2ptest.IHave(topic, "unknown1"), p2ptest.IWant("01234567")))
		synctest.Wait()
		require.Equal(t, 1, ear.Tally().IWants)
		require.Equal(t, 1, ear.Tally().Messages)
		require.NoError(t, ear.Send(victim, p2ptest.IDontWant("somethng"), p2ptest.Prune(topic, 60), p2ptest.Unsubscribe(topic)))

		// Garbage costs the attacker its stream, not the process.
		require.NoError(t, attacker.SendBytes(victim, p2ptest.Frame([]byte{0xff, 0xff, 0xff})))
		synctest.Wait()
		require.Error(t, attacker.Send(victim, p2ptest.Subscribe(topic)))
		require.NoError(t, attacker.Send(victim, p2ptest.Subscribe(topic)), "on a new stream")
	})
}

func TestRawPubsubPause(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		hosts := p2ptest.Hosts(t, 2)
		tp, _ := gossip(t, ctx, hosts[0])
		raw := p2ptest.NewRawPubsub(t, hosts[1])
		p2ptest.Line(t, hosts)
		require.NoError(t, raw.Send(hosts[0].ID(), p2ptest.Subscribe(topic), p2ptest.Graft(topic)))
		synctest.Wait()
		raw.Pause()
		publish := func(from, to int) {
			for i := from; i < to; i++ {
				require.NoError(t, tp.Publish(ctx, fmt.Appendf(nil, "%08d", i)))
				synctest.Wait()
			}
		}
		publish(0, 5)
		require.LessOrEqual(t, raw.Tally().Messages, 1, "one may have been on its way")
		raw.Resume()
		synctest.Wait()
		require.Equal(t, 5, raw.Tally().Messages)
	})
}

// Many may send to one peer at once, over one stream, also while it is slow.
func TestRawPubsubSendersTakeTurns(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		slow := p2ptest.NewRawPubsub(t, hosts[0])
		raw := p2ptest.NewRawPubsub(t, hosts[1])
		p2ptest.Line(t, hosts)
		slow.Pause()
		time.AfterFunc(5*time.Second, slow.Resume)
		var senders sync.WaitGroup
		for i := range 20 {
			senders.Go(func() {
				data := make([]byte, 100_000)
				data[0] = byte(i)
				require.NoError(t, raw.Send(hosts[0].ID(), p2ptest.Publish(topic, data)))
			})
		}
		senders.Wait()
		synctest.Wait()
		seen := make(map[byte]bool)
		for _, m := range slow.Messages() {
			seen[m.Data[0]] = true
		}
		require.Len(t, seen, 20)
		raw.Close()
		require.ErrorIs(t, raw.Send(hosts[0].ID(), p2ptest.Subscribe(topic)), net.ErrClosed)
	})
}

// Virtual time over real hosts: fifty of them, one message, one hour.
func TestFiftyHosts(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		hosts := p2ptest.Hosts(t, 50)
		var first *pubsub.Topic
		var subs []*pubsub.Subscription
		for i, h := range hosts {
			tp, sub := gossip(t, ctx, h)
			if i == 0 {
				first = tp
			}
			subs = append(subs, sub)
		}
		p2ptest.Degree(t, hosts, 6)
		time.Sleep(time.Minute)
		require.NoError(t, first.Publish(ctx, []byte("hi")))
		for _, s := range subs {
			_, err := s.Next(ctx)
			require.NoError(t, err)
		}
		require.Less(t, time.Since(start), 2*time.Minute)
	})
}
