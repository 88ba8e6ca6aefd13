package waku_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/waku"
)

// Peers of no use that stop answering take nobody along when they go.
func TestUselessPeersThatFallSilent(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		honest := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		join(t, n, waku.Community{Shard: town})
		join(t, honest, waku.Community{Shard: town})
		connect(t, n, honest)
		for range 8 {
			h := net.Host(p2ptest.HostConfig{})
			var asked atomic.Int32
			h.SetStreamHandler("/vac/waku/metadata/1.0.0", func(s network.Stream) {
				b := make([]byte, 2048)
				_, _ = s.Read(b)
				if asked.Add(1) > 1 {
					_, _ = s.Read(b) // hang until reset
					_, _ = s.Read(b)
					time.Sleep(9 * time.Second)
					s.Reset()
					return
				}
				answer := []byte{0x08, 0x10, 0x10, 0x81, 0x01}
				_, _ = s.Write(append([]byte{byte(len(answer))}, answer...))
				s.Close()
			})
			raw := p2ptest.NewRawPubsub(t, h)
			defer raw.Close()
			require.NoError(t, h.Connect(within(t), addrInfo(t, n)))
		}
		time.Sleep(10 * time.Minute)
		for _, d := range n.Health().Disconnects {
			require.NotEqual(t, honest.PeerID(), d.Peer, d.Reason)
		}
		require.Len(t, n.Peers(), 1, "the silent ones are gone")
	})
}

// Replays of old messages on a quiet shard don't keep anybody from sending.
func TestReplaysDontDiscreditTheClock(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		key := newKey(t)
		net := p2ptest.New(t, p2ptest.Config{})
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		honest := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		c := waku.Community{Shard: town, PublicKey: key.PublicKey()}
		m := join(t, n, c, waku.SignWith(key))
		hm := join(t, honest, c, waku.SignWith(key))
		connect(t, n, honest)
		time.Sleep(3 * time.Second)
		_, err := hm.Send(within(t), lobby, []byte("fresh"))
		require.NoError(t, err)
		time.Sleep(time.Second)
		topic := town.PubsubTopic()
		var old [][]byte
		for i := range 4 { // captured yesterday, within one minute
			x := &message.Message{Payload: []byte{byte(i), 1}, ContentTopic: lobby, Timestamp: time.Now().Add(-24*time.Hour).UnixNano() + int64(i)*int64(time.Second)}
			require.NoError(t, key.Sign(topic, x))
			old = append(old, x.Encode())
		}
		time.Sleep(61 * time.Minute) // nobody says anything for an hour
		for range 2 {
			h := net.Host(p2ptest.HostConfig{})
			answerMetadata(h)
			raw := p2ptest.NewRawPubsub(t, h)
			defer raw.Close()
			for _, victim := range []*waku.Node{n, honest} {
				require.NoError(t, h.Connect(within(t), addrInfo(t, victim)))
				require.NoError(t, raw.Send(victim.PeerID(), p2ptest.Subscribe(topic)))
				for _, b := range old {
					require.NoError(t, raw.Send(victim.PeerID(), p2ptest.Publish(topic, b)))
					time.Sleep(1100 * time.Millisecond)
				}
			}
		}
		_, err = m.Send(within(t), lobby, []byte("hello"))
		require.NoError(t, err, "it knows a newer message")
		time.Sleep(10 * time.Minute)
		_, err = hm.Send(within(t), lobby, []byte("hello"))
		require.NoError(t, err, "who never heard anything is fooled for minutes, not for good")
	})
}

// What a removed key signed isn't delivered any more, however long a plug-in took
// to think about it.
func TestRemovedKeyWhileAPluginThinks(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		key := newKey(t)
		net := p2ptest.New(t, p2ptest.Config{})
		in := make(chan struct{}, 10)
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})), waku.WithValidator(town, func(ctx context.Context, _ *message.Received) message.Verdict {
			in <- struct{}{}
			time.Sleep(time.Second)
			return message.Accept
		}))
		c := waku.Community{Shard: town, PublicKey: key.PublicKey()}
		honest := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		m := join(t, n, c)
		hm := join(t, honest, c, waku.SignWith(key))
		connect(t, n, honest)
		time.Sleep(3 * time.Second)
		_, err := hm.Send(within(t), lobby, []byte("leaked"))
		require.NoError(t, err)
		<-in
		require.NoError(t, m.RemoveKey(key.PublicKey()))
		r := subscribe(t, m)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err = r.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// A second Join may not quietly ask for other times of a known key.
func TestJoinWithOtherBounds(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		key := newKey(t).PublicKey()
		n := start(t, waku.WithHost(p2ptest.Hosts(t, 1)[0]))
		join(t, n, waku.Community{Shard: town, PublicKey: key})
		until := time.Now().Add(time.Hour)
		_, err := n.Join(within(t), waku.Community{Shard: town, Keys: []waku.CommunityKey{{Key: key, Until: until}}})
		var conflict *waku.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Contains(t, conflict.Asked, until.Format(time.RFC3339))
		join(t, n, waku.Community{Shard: town, Keys: []waku.CommunityKey{{Key: key}}})
	})
}
