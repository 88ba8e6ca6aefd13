package relay_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/relay"
)

// Passive subscriptions get what comes while others hold the mesh, and what is
// brought another way; they hold nothing themselves.
func TestPassive(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		rs := relays(t, hosts, relay.Config{})
		p2ptest.Full(t, hosts)
		passive, err := rs[0].Subscribe(shard, relay.SubscribeConfig{Passive: true})
		require.NoError(t, err)
		far := subscribe(t, rs[1], shard)
		settle()
		require.Empty(t, rs[1].Peers(shard), "nobody holds the shard")
		_, err = rs[0].Publish(t.Context(), shard, newMessage("no"))
		require.ErrorIs(t, err, relay.ErrNotSubscribed)

		hold := subscribe(t, rs[0], shard)
		settle()
		publish(t, rs[1], shard, newMessage("one"))
		require.Equal(t, "one", string(next(t, passive).Message.Payload))
		require.NoError(t, hold.Close())
		require.NoError(t, hold.Close(), "twice is once")
		settle()
		require.Empty(t, rs[1].Peers(shard), "the last that isn't passive has gone")
		publish(t, rs[1], shard, newMessage("two"))
		settle()
		require.Empty(t, drain(passive))
		require.NoError(t, passive.Close())
		require.NoError(t, far.Close())
	})
}

// What came one way isn't delivered again when it comes another.
func TestDeliver(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		rs := relays(t, hosts, relay.Config{})
		p2ptest.Full(t, hosts)
		sub, far := subscribe(t, rs[0], shard), subscribe(t, rs[1], shard)
		elsewhere := subscribe(t, rs[0], shard, "/chat/1/elsewhere/proto")
		settle()
		from := hosts[1].ID()
		m := newMessage("by filter")
		h := m.Hash(shard.PubsubTopic())
		_, known := rs[0].Delivered(shard, h)
		require.False(t, known)
		require.True(t, rs[0].Deliver(shard, from, m))
		at, known := rs[0].Delivered(shard, h)
		require.True(t, known)
		require.Equal(t, m.Timestamp, at)
		require.False(t, rs[0].Deliver(shard, from, m))
		env := next(t, sub)
		require.Equal(t, h, env.Hash)
		require.Equal(t, from, env.From)
		require.Equal(t, shard, env.Shard)
		require.Empty(t, drain(elsewhere))

		publish(t, rs[1], shard, m) // by the mesh as well
		next(t, far)
		settle()
		require.Empty(t, drain(sub))
		require.False(t, rs[0].Deliver(other, from, newMessage("unknown shard")))

		// The memory lasts as long as a message may be on its way.
		m = newMessage("by the mesh")
		publish(t, rs[1], shard, m)
		next(t, sub)
		time.Sleep(10*time.Minute - 10*time.Second) // virtual
		require.False(t, rs[0].Deliver(shard, from, m))
		time.Sleep(21 * time.Minute) // virtual
		require.True(t, rs[0].Deliver(shard, from, newMessage("later")))
		time.Sleep(11 * time.Minute) // virtual
		require.True(t, rs[0].Deliver(shard, from, newMessage("later still")))
		_, known = rs[0].Delivered(shard, m.Hash(shard.PubsubTopic()))
		require.False(t, known)

		require.NoError(t, rs[0].Close())
		require.False(t, rs[0].Deliver(shard, from, newMessage("closed")))
	})
}
