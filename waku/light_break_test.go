package waku_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// intercept puts f before what a host does with a protocol's streams.
func intercept(t testing.TB, h host.Host, id protocol.ID, f func(s network.Stream, next network.StreamHandler)) {
	a, b := net.Pipe()
	defer a.Close()
	go func() { _ = multistream.SelectProtoOrFail(id, a) }()
	_, handle, err := h.Mux().Negotiate(b)
	require.NoError(t, err)
	h.SetStreamHandler(id, func(s network.Stream) {
		f(s, func(s network.Stream) { _ = handle(id, s) })
	})
}

// counted counts the questions that an archive is asked.
type counted struct {
	store.Archive
	asked atomic.Int64
}

func (c *counted) Query(ctx context.Context, q store.Query) (store.Page, error) {
	c.asked.Add(1)
	return c.Archive.Query(ctx, q)
}

// drain returns what a reader has got.
func drain(t testing.TB, r *waku.Reader) (got []message.Hash) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		env, err := r.Next(ctx)
		cancel()
		if err != nil {
			return got
		}
		got = append(got, env.Hash)
	}
}

// A service peer that answers a ping late leaves no gap that is older than its last
// proof.
func TestLatePing(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1, waku.WithArchive(storetest.NewModel(storetest.Config{})))
		for range 3 {
			w.say(t)
		}
		time.Sleep(30 * time.Minute) // virtual
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Minimal)
		var hang atomic.Int64
		hang.Store(1)
		intercept(t, waku.HostOf(w.servers[0]), filter.SubscribeID, func(s network.Stream, next network.StreamHandler) {
			if hang.Add(-1) == 0 {
				time.Sleep(7 * time.Second) // virtual
			}
			next(s)
		})
		time.Sleep(2 * time.Minute) // virtual
		require.Equal(t, waku.Minimal, w.member.Health().Shards[0].State)
		require.Empty(t, drain(t, r))
	})
}

// A copy that comes late says nothing about other service peers.
func TestLateCopy(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all, err := w.author.Subscribe(lobby)
		require.NoError(t, err)
		w.say(t)
		env, err := all.Next(ctx)
		require.NoError(t, err)
		next(t, r)
		before := w.member.Health().Shards[0].Light.ServicePeers
		for range 5 {
			time.Sleep(10 * time.Second) // virtual
			for _, s := range w.servers {
				if s.PeerID() == before[0].Peer {
					waku.PushAgain(s, town, env.Message)
				}
			}
		}
		time.Sleep(10 * time.Second) // virtual
		h := w.member.Health().Shards[0]
		require.Empty(t, h.Light.Failure)
		require.Equal(t, before[1].Peer, h.Light.ServicePeers[1].Peer)
	})
}

// A service peer that is late by some seconds doesn't make a new one look silent.
func TestLatePushes(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3)
		require.NoError(t, w.host.Network().ClosePeer(w.servers[2].PeerID()))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		waku.DelayFilter(w.servers[0], 4*time.Second)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 200*time.Millisecond)
		time.Sleep(10 * time.Second) // virtual
		connect(t, w.member, w.servers[2])
		require.NoError(t, w.host.Network().ClosePeer(w.servers[1].PeerID()))
		time.Sleep(20 * time.Second) // virtual
		h := w.member.Health().Shards[0]
		require.NotContains(t, h.Light.Failure, "didn't push", "%+v", h.Light)
		require.Equal(t, waku.Sufficient, h.State)
		hush()
		<-said
		time.Sleep(10 * time.Second) // virtual
		deafen()
		<-heard
	})
}

// The machine sleeps: its monotonic clock stands while the world's goes on.
func TestLightMemberSleeps(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var speed, ahead time.Duration
		mark := time.Now()
		set := func(v time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			ahead += time.Since(mark) * speed
			mark, speed = time.Now(), v
		}
		clock := waku.WithClock(func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			return now.Add(ahead + now.Sub(mark)*speed)
		})
		w := newLightTownOf(t, 2, []waku.Option{clock}, waku.WithArchive(storetest.NewModel(storetest.Config{}), waku.ArchiveWindow(time.Hour)))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 500*time.Millisecond)
		time.Sleep(5 * time.Second) // virtual
		for _, s := range w.servers {
			require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
		}
		set(180)
		time.Sleep(20 * time.Second) // an hour for the world
		set(0)
		connect(t, w.member, w.servers...)
		w.served(t, waku.Sufficient)
		time.Sleep(30 * time.Second) // virtual
		hush()
		sent := <-said
		time.Sleep(10 * time.Second) // virtual
		deafen()
		same(t, sent, <-heard)
	})
}

// Another membership that relays the shard comes and goes.
func TestRelayBesideLight(t *testing.T) {
	for _, archived := range []bool{false, true} {
		p2ptest.Bubble(t, func(t *testing.T) {
			var opts []waku.Option
			if archived {
				opts = append(opts, waku.WithArchive(storetest.NewModel(storetest.Config{})))
			}
			w := newLightTown(t, 2, opts...)
			r := subscribe(t, w.light, lobby)
			w.served(t, waku.Sufficient)
			hearing, deafen := context.WithCancel(t.Context())
			heard := hear(hearing, r)
			talking, hush := context.WithCancel(t.Context())
			said := w.talk(t, talking, 200*time.Millisecond)
			for range 2 {
				time.Sleep(5 * time.Second) // virtual
				m := join(t, w.member, w.c)
				time.Sleep(5 * time.Second) // virtual
				if archived {
					require.NoError(t, m.Leave())
				}
			}
			hush()
			sent := <-said
			time.Sleep(20 * time.Second) // virtual
			deafen()
			same(t, sent, <-heard)
		})
	}
}

// Going relay before the gap has been read back loses nothing.
func TestSwitchWithGap(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2, waku.WithArchive(storetest.NewModel(storetest.Config{})))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, time.Second)
		time.Sleep(5 * time.Second) // virtual
		for _, s := range w.servers {
			require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
		}
		time.Sleep(45 * time.Second) // virtual: service peers have forgotten
		connect(t, w.member, w.servers[1])
		require.NoError(t, w.light.Switch(within(t), waku.ModeRelay))
		time.Sleep(20 * time.Second) // virtual
		connect(t, w.member, w.servers[0])
		time.Sleep(30 * time.Second) // virtual
		hush()
		sent := <-said
		time.Sleep(10 * time.Second) // virtual
		deafen()
		same(t, sent, <-heard)
	})
}

// A reader that is closed and opened anew gets what comes from then on.
func TestReaderAnew(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2, waku.WithArchive(storetest.NewModel(storetest.Config{})))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		for i := range 5 {
			require.NoError(t, r.Close())
			time.Sleep(time.Duration(i) * 200 * time.Millisecond) // virtual
			r = subscribe(t, w.light, lobby)
			var sent []message.Hash
			for range 10 {
				sent = append(sent, w.say(t))
				time.Sleep(50 * time.Millisecond) // virtual
			}
			time.Sleep(20 * time.Second) // virtual
			same(t, sent, drain(t, r))
		}
	})
}

// What is older than a reader isn't delivered to it, even if a gap is read back.
func TestGapOfYoungReader(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2, waku.WithArchive(storetest.NewModel(storetest.Config{})))
		w.say(t)
		time.Sleep(20 * time.Second) // virtual
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		time.Sleep(20 * time.Second) // virtual
		for _, s := range w.servers {
			require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
		}
		time.Sleep(5 * time.Second) // virtual
		want := w.say(t)
		time.Sleep(5 * time.Second) // virtual
		connect(t, w.member, w.servers...)
		time.Sleep(30 * time.Second) // virtual
		require.Equal(t, []message.Hash{want}, drain(t, r))
	})
}

// A store that turns up late fills the gap and repeats nothing.
func TestGapFilledLate(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3, waku.WithArchive(storetest.NewModel(storetest.Config{})))
		require.NoError(t, w.host.Network().ClosePeer(w.servers[0].PeerID()))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 30*time.Second)
		time.Sleep(10 * time.Minute) // virtual
		for _, s := range w.servers[1:] {
			require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
		}
		time.Sleep(time.Minute) // virtual
		connect(t, w.member, w.servers[1:]...)
		time.Sleep(25 * time.Minute) // virtual
		connect(t, w.member, w.servers[0])
		time.Sleep(2 * time.Minute) // virtual
		hush()
		sent := <-said
		time.Sleep(10 * time.Second) // virtual
		deafen()
		same(t, sent, <-heard)
	})
}

// A service peer that has forgotten everything tells the first shard that asks.
func TestForgottenShards(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1)
		c2 := w.c
		c2.Shard.Index++
		join(t, w.servers[0], c2)
		far := join(t, waku.NodeOf(w.author), c2, waku.SignWith(w.key))
		r, r2 := subscribe(t, w.light, lobby), subscribe(t, join(t, w.member, c2, waku.AsLight()), lobby)
		p2ptest.Eventually(t, func() bool {
			h := w.member.Health()
			return h.Shards[0].State == waku.Minimal && h.Shards[1].State == waku.Minimal
		}, "%+v", w.member.Health())
		w.unsubscribeAll(t, 0)
		time.Sleep(70 * time.Second) // virtual
		require.Equal(t, w.say(t), next(t, r).Hash)
		d, err := far.Send(within(t), lobby, []byte("x"))
		require.NoError(t, err)
		require.Equal(t, d.Hash, next(t, r2).Hash)
	})
}

// A service peer that has forgotten, and is asked for one topic more.
func TestForgottenTopic(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Minimal)
		time.Sleep(20 * time.Second) // virtual
		w.unsubscribeAll(t, 0)
		time.Sleep(10 * time.Second) // virtual
		r.AddTopics("/chat/1/other/proto")
		time.Sleep(70 * time.Second) // virtual
		require.Equal(t, w.say(t), next(t, r).Hash)
	})
}

// A light member whose clock is wrong is told so.
func TestLightClock(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		h := w.net.Hosts(1)[0]
		n := start(t, waku.WithHost(h), waku.WithClock(func() time.Time { return time.Now().Add(time.Hour) }))
		m := join(t, n, w.c, waku.AsLight())
		connect(t, n, w.servers...)
		subscribe(t, m, lobby)
		time.Sleep(10 * time.Second) // virtual
		for range 10 {
			w.say(t)
			time.Sleep(time.Second) // virtual
		}
		require.True(t, n.Health().Clock.Suspect, "%+v", n.Health().Shards)
	})
}

// A reader of all topics doesn't get into a switch.
func TestSwitchAndReaderOfAll(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		done := make(chan error, 1)
		go func() { done <- w.author.Switch(within(t), waku.ModeLight) }()
		subscribe(t, w.author, lobby)
		time.Sleep(time.Second) // virtual
		_, err := w.author.Subscribe()
		require.ErrorIs(t, err, waku.ErrTopicsNeeded)
		require.NoError(t, <-done)
	})
}
