package waku_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// A service peer dies: another takes its place within seconds, and nothing is lost.
func TestServicePeerDies(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 100*time.Millisecond)
		time.Sleep(3 * time.Second) // virtual
		dead := w.member.Health().Shards[0].Light.ServicePeers[0].Peer
		for _, s := range w.servers {
			if s.PeerID() == dead {
				require.NoError(t, s.Close())
			}
		}
		time.Sleep(5 * time.Second) // virtual
		h := w.member.Health().Shards[0]
		require.Equal(t, waku.Sufficient, h.State, "%+v", h)
		for _, p := range h.Light.ServicePeers {
			require.NotEqual(t, dead, p.Peer)
		}
		hush()
		sent := <-said
		time.Sleep(10 * time.Second) // virtual
		deafen()
		same(t, sent, <-heard)
	})
}

// Service peers that fail in other ways than by dying: each is noticed within ten
// seconds of the first evidence, or one ping period, and nothing is lost.
func TestServicePeerFails(t *testing.T) {
	for _, c := range []struct {
		name string
		// fail makes the service peer fail.
		fail func(w *lightTown, server int, over <-chan struct{})
		// within is how long it may take until the member has two others.
		within time.Duration
	}{
		{"hangs without closing", func(w *lightTown, server int, over <-chan struct{}) {
			waku.HostOf(w.servers[server]).SetStreamHandler(filter.SubscribeID, func(s network.Stream) {
				<-over
				s.Reset()
			})
		}, 75 * time.Second},
		{"answers garbage", func(w *lightTown, server int, over <-chan struct{}) {
			waku.HostOf(w.servers[server]).SetStreamHandler(filter.SubscribeID, func(s network.Stream) {
				_, _ = s.Write([]byte{3, 255, 255, 255})
				s.Close()
			})
		}, 75 * time.Second},
		{"stops pushing", func(w *lightTown, server int, over <-chan struct{}) {
			waku.Mute(w.servers[server])
		}, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				over := make(chan struct{})
				defer close(over)
				w := newLightTown(t, 3)
				r := subscribe(t, w.light, lobby)
				w.served(t, waku.Sufficient)
				hearing, deafen := context.WithCancel(t.Context())
				heard := hear(hearing, r)
				talking, hush := context.WithCancel(t.Context())
				said := w.talk(t, talking, 500*time.Millisecond)
				time.Sleep(10 * time.Second) // virtual: what new ones leave out isn't held against them
				bad := w.member.Health().Shards[0].Light.ServicePeers[0].Peer
				for i, s := range w.servers {
					if s.PeerID() == bad {
						c.fail(w, i, over)
					}
				}
				time.Sleep(c.within) // virtual
				h := w.member.Health().Shards[0]
				require.Equal(t, waku.Sufficient, h.State, "%+v", h)
				for _, p := range h.Light.ServicePeers {
					require.Equal(t, bad == p.Peer, p.Suspect)
				}
				require.Contains(t, h.Light.Failure, bad.String())
				time.Sleep(3 * time.Second) // virtual: the new one is there for good
				peers, _ := w.service()
				require.NotContains(t, peers, bad)
				hush()
				sent := <-said
				time.Sleep(10 * time.Second) // virtual
				deafen()
				same(t, sent, <-heard)
			})
		})
	}
}

// unsubscribeAll has a service peer forget the member.
func (w *lightTown) unsubscribeAll(t testing.TB, server int) {
	w.request(t, server, []byte{5, 0x0a, 1, 'x', 0x10, 3})
}

// unsubscribe has a service peer forget one content topic.
func (w *lightTown) unsubscribe(t testing.TB, server int, s sharding.Shard, contentTopic string) {
	b := protowire.AppendString([]byte{0x0a, 1, 'x', 0x10, 2, 0x52}, s.PubsubTopic())
	b = protowire.AppendString(append(b, 0x5a), contentTopic)
	w.request(t, server, append([]byte{byte(len(b))}, b...))
}

// request asks a service peer for something behind the member's back.
func (w *lightTown) request(t testing.TB, server int, request []byte) {
	s, err := w.host.NewStream(within(t), w.servers[server].PeerID(), filter.SubscribeID)
	require.NoError(t, err)
	_, err = s.Write(request)
	require.NoError(t, err)
	require.NoError(t, s.CloseWrite())
	_, err = io.ReadAll(s)
	require.NoError(t, err)
}

// A service peer that forgets is asked anew, as soon as it says so.
func TestServicePeerForgets(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Minimal)
		w.unsubscribeAll(t, 0)
		lost := w.say(t)
		time.Sleep(65 * time.Second) // virtual
		w.served(t, waku.Minimal)
		require.Equal(t, w.say(t), next(t, r).Hash, "there is no store to read %s from", lost)
	})
}

// The network is gone for a minute. What was said meanwhile comes from the store.
func TestLightMemberComesBack(t *testing.T) {
	for _, away := range []time.Duration{10 * time.Second, time.Minute, 12 * time.Hour} {
		t.Run(away.String(), func(t *testing.T) {
			if testing.Short() && away > time.Hour {
				t.Skip("a second of work, a minute of it with the race detector")
			}
			p2ptest.Bubble(t, func(t *testing.T) {
				archive := storetest.NewModel(storetest.Config{})
				w := newLightTown(t, 2, waku.WithArchive(archive))
				r := subscribe(t, w.light, lobby)
				w.served(t, waku.Sufficient)
				hearing, deafen := context.WithCancel(t.Context())
				heard := hear(hearing, r)
				talking, hush := context.WithCancel(t.Context())
				said := w.talk(t, talking, max(500*time.Millisecond, away/500))
				time.Sleep(5 * time.Second) // virtual
				for _, s := range w.servers {
					require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
				}
				w.net.Vanish(w.host)
				time.Sleep(away) // virtual
				require.Equal(t, waku.Unhealthy, w.member.Health().Shards[0].State)
				w.net.Return(w.host)
				connect(t, w.member, w.servers...)
				w.served(t, waku.Sufficient)
				time.Sleep(30 * time.Second) // virtual: all is there after half a minute
				require.Zero(t, w.member.Health().Shards[0].Light.Gaps, "%+v", w.member.Health().Shards[0].Light)
				hush()
				sent := <-said
				time.Sleep(10 * time.Second) // virtual
				deafen()
				same(t, sent, <-heard)
			})
		})
	}
}

// Forged messages of a service peer never reach a reader, and the peer is left.
func TestForgedPush(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		events := w.member.Events(t.Context())
		liar := w.servers[0]
		waku.PushForged(liar, town, lobby, []byte("forged"))
		for e := range events {
			if e.Kind == waku.ServicePeerLeft {
				require.Equal(t, liar.PeerID(), e.Peer)
				require.Contains(t, e.Reason, "isn't genuine")
				break
			}
		}
		time.Sleep(20 * time.Second) // virtual
		h := w.member.Health().Shards[0]
		require.Equal(t, waku.Minimal, h.State, "%+v", h)
		require.Equal(t, uint64(1), h.Light.Refused)
		want := w.say(t)
		require.Equal(t, want, next(t, r).Hash, "nothing came before it")
	})
}

// Sending goes on while one service peer works.
func TestLightSend(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3)
		far := subscribe(t, w.author, lobby)
		for i := range 3 {
			d := sent(t, w.light, lobby, fmt.Appendf(nil, "%d", i), waku.PushTo(3-i))
			time.Sleep(time.Second) // virtual
			require.Len(t, d.Status().Accepted, 3-i, "%+v", d.Status())
			for _, a := range d.Status().Accepted {
				require.Positive(t, a.RelayPeers)
			}
			require.Equal(t, d.Hash, next(t, far).Hash)
			if i < 2 {
				require.NoError(t, w.servers[i].Close())
			}
		}
		require.NoError(t, w.servers[2].Close())
		_, err := trySend(within(t), w.light, lobby, []byte("nobody"))
		var nobody *waku.SendError
		require.ErrorAs(t, err, &nobody)
		for _, s := range w.servers {
			require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
		}
		_, err = trySend(within(t), w.light, lobby, []byte("nobody"))
		require.ErrorIs(t, err, waku.ErrNoServicePeer)
		require.Empty(t, w.light.Leave())
		_, err = w.light.Send(within(t), lobby, []byte("nobody"))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// The network is gone without a word, as when a phone loses it: the node finds out
// by itself, or at once when it is told.
func TestNetworkChanged(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprintf("told %v", told), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				archive := storetest.NewModel(storetest.Config{})
				w := newLightTown(t, 2, waku.WithArchive(archive))
				r := subscribe(t, w.light, lobby)
				w.served(t, waku.Sufficient)
				hearing, deafen := context.WithCancel(t.Context())
				heard := hear(hearing, r)
				talking, hush := context.WithCancel(t.Context())
				said := w.talk(t, talking, 500*time.Millisecond)
				time.Sleep(5 * time.Second) // virtual
				w.net.Vanish(w.host)
				time.Sleep(time.Minute) // virtual
				w.net.Return(w.host)
				if told {
					w.member.NetworkChanged()
					w.member.NetworkChanged()
				}
				back := time.Now()
				p2ptest.Eventually(t, func() bool { return len(w.member.Peers()) == 0 }, "the dead are kept")
				require.Less(t, time.Since(back), 31*time.Second)
				connect(t, w.member, w.servers...)
				w.served(t, waku.Sufficient)
				time.Sleep(30 * time.Second) // virtual: all is there after half a minute
				hush()
				sent := <-said
				time.Sleep(10 * time.Second) // virtual
				deafen()
				same(t, sent, <-heard)
			})
		})
	}
}

// Two service peers forget at the same moment, as go-waku's do every minute, and
// tell of it one after the other: each is replaced by the other as it seems, and
// still what nobody pushed is read back.
func TestServicePeersForgetTogether(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		archive := storetest.NewModel(storetest.Config{})
		w := newLightTown(t, 2, waku.WithArchive(archive))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 500*time.Millisecond)
		for range 5 {
			time.Sleep(23 * time.Second) // virtual
			for i := range w.servers {
				w.unsubscribeAll(t, i)
			}
		}
		hush()
		sent := <-said
		time.Sleep(100 * time.Second) // virtual
		h := w.member.Health().Shards[0]
		require.Equal(t, waku.Sufficient, h.State, "%+v", h)
		require.Zero(t, h.Light.Gaps, h.Light.GapFailure)
		deafen()
		same(t, sent, <-heard)
	})
}
