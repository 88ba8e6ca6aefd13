package waku_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// openTown is a town whose service nodes don't hold the community's key: they pass on
// whatever is published.
type openTown struct {
	*lightTown
	flooder *waku.Node
}

func newOpenTown(t *testing.T, servers int) *openTown {
	key := newKey(t)
	w := &openTown{lightTown: &lightTown{
		net: p2ptest.New(t, p2ptest.Config{}), key: key, c: waku.Community{Shard: town, PublicKey: key.PublicKey()},
	}}
	node := func(opts ...waku.Option) *waku.Node {
		n := start(t, append(opts, waku.WithHost(w.net.Hosts(1)[0]))...)
		join(t, n, waku.Community{Shard: town})
		connect(t, n, w.servers...)
		return n
	}
	for range servers {
		w.servers = append(w.servers, node(services()...))
	}
	w.flooder = node()
	w.author = join(t, w.flooder, waku.Community{Shard: town})
	meshed(t, 1, append(w.servers, w.flooder)...)
	w.host = w.net.Hosts(1)[0]
	w.member = start(t, waku.WithHost(w.host))
	w.light = join(t, w.member, w.c, waku.AsLight())
	connect(t, w.member, w.servers...)
	return w
}

// publish publishes a message, signed by the community or not.
func (w *openTown) publish(t testing.TB, genuine bool) message.Hash {
	w.sent++
	m := &message.Message{ContentTopic: lobby, Payload: fmt.Append(nil, w.sent), Timestamp: time.Now().UnixNano(), Meta: make([]byte, 64)}
	if genuine {
		require.NoError(t, w.key.Sign(town.PubsubTopic(), m))
	}
	_, err := waku.RelayOf(w.flooder).Publish(within(t), town, m)
	require.NoError(t, err)
	return m.Hash(town.PubsubTopic())
}

// Somebody floods a shard that the service nodes don't protect. They pass forgeries
// on in good faith, and the member keeps having service peers: nothing is lost, and
// nothing forged is delivered.
func TestForgeriesPassedOn(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newOpenTown(t, 3)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		left := w.count(t, waku.ServicePeerLeft)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		var sent []message.Hash
		for range 180 { // three minutes
			w.publish(t, false)
			time.Sleep(500 * time.Millisecond) // virtual
			sent = append(sent, w.publish(t, true))
			time.Sleep(500 * time.Millisecond) // virtual
			h := w.member.Health().Shards[0]
			require.NotEmpty(t, h.Light.ServicePeers, "%+v", h)
		}
		require.Less(t, left.Load(), int64(16))
		time.Sleep(3 * time.Minute) // virtual
		w.served(t, waku.Sufficient)
		deafen()
		same(t, sent, <-heard)
	})
}

// count counts events of one kind.
func (w *lightTown) count(t testing.TB, kind waku.EventKind) *atomic.Int64 {
	n := new(atomic.Int64)
	events := w.member.Events(t.Context())
	go func() {
		for e := range events {
			if e.Kind == kind {
				n.Add(1)
			}
		}
	}()
	return n
}

// serves tells whether a service node pushes for the light member, and whether that has
// hung up on it for a forgery.
func (w *lightTown) serves(n *waku.Node) (serves, dropped bool) {
	h := w.member.Health()
	for _, p := range h.Shards[0].Light.ServicePeers {
		serves = serves || p.Peer == n.PeerID()
	}
	for _, d := range h.Disconnects {
		dropped = dropped || d.Peer == n.PeerID() && strings.Contains(d.Reason, "isn't genuine")
	}
	return serves, dropped
}

// A liar is used while there is nobody else, and dropped when there is.
func TestLastLiar(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1)
		liar := w.servers[0]
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Minimal)
		var sent []message.Hash
		lie := func(times int) {
			for range times {
				waku.PushForged(liar, town, lobby, fmt.Append(nil, time.Now()))
				sent = append(sent, w.say(t))
				time.Sleep(time.Second) // virtual
			}
		}
		lie(100)
		serves, dropped := w.serves(liar)
		require.True(t, serves && !dropped)
		require.Contains(t, w.member.Health().Shards[0].Light.Failure, "isn't genuine")

		honest := start(t, append(services(), waku.WithHost(w.net.Hosts(1)[0]))...)
		join(t, honest, w.c)
		connect(t, honest, liar, waku.NodeOf(w.author))
		meshed(t, 1, honest)
		connect(t, w.member, honest)
		time.Sleep(5 * time.Second) // virtual
		serves, dropped = w.serves(liar)
		require.True(t, !serves && dropped)
		lie(20)
		require.Equal(t, waku.Minimal, w.member.Health().Shards[0].State)

		// It isn't called back before its rest is over, unless the other one goes.
		require.NoError(t, honest.Close())
		p2ptest.Eventually(t, func() bool { serves, _ := w.serves(liar); return serves }, "%+v", w.member.Health().Shards)
		lie(20)
		same(t, sent[:120], drain(t, r)[:120])
	})
}

// Who lied once is asked again when its rest is over, if it is needed.
func TestLiarComesBack(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		for _, rest := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
			time.Sleep(5 * time.Second) // virtual
			refused := w.member.Health().Shards[0].Light.Refused
			for i := range 20 {
				waku.PushForged(w.servers[0], town, lobby, fmt.Append(nil, "forged", i))
			}
			time.Sleep(rest - time.Second) // virtual
			require.Less(t, w.member.Health().Shards[0].Light.Refused, refused+5, "what came afterwards isn't looked at")
			serves, dropped := w.serves(w.servers[0])
			require.True(t, !serves && dropped, "%v", rest)
			time.Sleep(20 * time.Second) // virtual
			require.Equal(t, waku.Sufficient, w.member.Health().Shards[0].State, "%v", rest)
		}
	})
}

// What a peer pushes on one shard says nothing about others, which it may protect.
func TestLiarOnOneShard(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		c2 := w.c
		c2.Shard.Index++
		for _, s := range w.servers {
			join(t, s, c2)
		}
		subscribe(t, w.light, lobby)
		subscribe(t, join(t, w.member, c2, waku.AsLight()), lobby)
		p2ptest.Eventually(t, func() bool { return w.member.Health().State == waku.Sufficient }, "%+v", w.member.Health().Shards)
		waku.PushForged(w.servers[0], town, lobby, []byte("forged"))
		time.Sleep(10 * time.Second) // virtual
		serves, dropped := w.serves(w.servers[0])
		require.True(t, !serves && !dropped)
		require.Equal(t, waku.Sufficient, w.member.Health().Shards[1].State)
		waku.PushForged(w.servers[0], c2.Shard, lobby, []byte("forged"))
		time.Sleep(10 * time.Second) // virtual
		_, dropped = w.serves(w.servers[0])
		require.True(t, dropped)
	})
}

// A community's shards have the same keys, so that who forges on one of them isn't kept
// for the others either, if somebody else serves those.
func TestLiarServesControl(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3)
		both := w.c
		both.Control = &townControl
		control := w.c
		control.Shard = townControl
		for _, s := range w.servers {
			join(t, s, control)
		}
		m := join(t, w.member, both, waku.AsLight())
		subscribe(t, m, lobby)
		subscribe(t, m.Control(), charter)
		p2ptest.Eventually(t, func() bool { return w.member.Health().State == waku.Sufficient }, "%+v", w.member.Health().Shards)
		time.Sleep(5 * time.Second) // virtual
		// Of three two serve a shard each, so one of them serves both.
		liar := w.servers[slices.IndexFunc(w.servers, func(n *waku.Node) bool {
			return serving(w.member, town, n) && serving(w.member, townControl, n)
		})]
		waku.PushForged(liar, town, lobby, []byte("forged"))
		time.Sleep(10 * time.Second) // virtual
		_, dropped := w.serves(liar)
		require.True(t, dropped)
		require.False(t, serving(w.member, town, liar) || serving(w.member, townControl, liar))
		require.Equal(t, waku.Sufficient, w.member.Health().State)
	})
}

// serving tells whether a service node pushes a shard's messages to a member.
func serving(member *waku.Node, id sharding.Shard, server *waku.Node) bool {
	return slices.ContainsFunc(shardHealth(member, id).Light.ServicePeers, func(p waku.ServicePeer) bool { return p.Peer == server.PeerID() })
}
