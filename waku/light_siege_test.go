package waku_test

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// A node relays one shard and is light on ten, with one service peer, which it asks no
// more often than if it was one shard.
func TestElevenShards(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1)
		var asked []time.Duration
		var mu sync.Mutex
		begin := time.Now()
		intercept(t, waku.HostOf(w.servers[0]), filter.SubscribeID, func(s network.Stream, next network.StreamHandler) {
			mu.Lock()
			asked = append(asked, time.Since(begin))
			mu.Unlock()
			next(s)
		})
		for i := range 10 {
			c := w.c
			c.Shard.Index += uint16(i + 1)
			join(t, w.servers[0], c)
		}
		time.Sleep(time.Second)
		join(t, w.member, w.c) // relay
		begin = time.Now()
		for i := range 10 {
			c := w.c
			c.Shard.Index += uint16(i + 1)
			subscribe(t, join(t, w.member, c, waku.AsLight()), lobby, "/a/1/b/c")
		}
		for {
			n := 0
			for _, s := range w.member.Health().Shards[1:] {
				if s.State == waku.Minimal {
					n++
				}
			}
			if n == 10 {
				break
			}
			time.Sleep(100 * time.Millisecond)
			require.Less(t, time.Since(begin), 12*time.Second, "%d", n)
		}
		mu.Lock()
		asked = nil
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		mu.Lock()
		require.GreaterOrEqual(t, len(asked), 9)
		require.LessOrEqual(t, len(asked), 11, "one ping a minute is for all shards")
		mu.Unlock()
		for _, s := range w.member.Health().Shards[1:] {
			require.Equal(t, waku.Minimal, s.State, "%+v", s.Light)
		}
	})
}

// Service peers die one after the other, until one is left.
func TestServicePeersDie(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 5)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 100*time.Millisecond)
		for range 4 {
			time.Sleep(5 * time.Second)
			dead := w.member.Health().Shards[0].Light.ServicePeers[0].Peer
			for _, s := range w.servers {
				if s.PeerID() == dead {
					require.NoError(t, s.Close())
				}
			}
		}
		time.Sleep(5 * time.Second)
		hush()
		sent := <-said
		time.Sleep(10 * time.Second)
		deafen()
		same(t, sent, <-heard)
	})
}

// A light member is closed at any moment, while it sends too.
func TestLightMemberEnds(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		rounds := 20
		if testing.Short() {
			rounds = 3
		}
		for range rounds {
			n, err := waku.New(within(t), waku.WithHost(w.net.Hosts(1)[0]))
			require.NoError(t, err)
			m := join(t, n, w.c, waku.AsLight(), waku.SignWith(w.key))
			subscribe(t, m, lobby)
			connect(t, n, w.servers...)
			go m.Send(context.Background(), lobby, []byte("x"))
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
			began := time.Now()
			require.NoError(t, n.Close())
			require.Less(t, time.Since(began), time.Second)
		}
	})
}

// Several switches at once, cancelled, and ended by Leave or Close.
func TestSwitchesAtOnce(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for i := range rounds {
		p2ptest.Bubble(t, func(t *testing.T) {
			w := newLightTown(t, 2)
			subscribe(t, w.light, lobby)
			if i%2 == 0 {
				w.served(t, waku.Sufficient)
			}
			var wg sync.WaitGroup
			for k := range 4 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(8000))*time.Millisecond)
					defer cancel()
					w.light.Switch(ctx, waku.Mode(1+k%2))
				})
			}
			time.Sleep(time.Duration(rand.IntN(6000)) * time.Millisecond)
			switch i % 3 {
			case 0:
				require.NoError(t, w.light.Leave())
			case 1:
				require.NoError(t, w.member.Close())
			}
			wg.Wait()
			if i%3 == 2 {
				require.NoError(t, w.light.Switch(within(t), waku.ModeRelay))
				require.NoError(t, w.light.Switch(within(t), waku.ModeLight))
				require.NoError(t, w.light.Leave())
			}
			time.Sleep(5 * time.Second)
			require.Zero(t, waku.HoldsOf(w.member, town))
			require.Empty(t, waku.RelayOf(w.member).Mesh(town))
		})
	}
}

// Service peers that don't answer a push hold it up by seconds, not for good.
func TestHungPushes(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		over := make(chan struct{})
		defer close(over)
		w := newLightTown(t, 3)
		time.Sleep(5 * time.Second) // virtual
		for _, s := range w.servers[:2] {
			waku.HostOf(s).SetStreamHandler(lightpush.ID, func(s network.Stream) {
				<-over
				s.Reset()
			})
		}
		for range 5 {
			began := time.Now()
			sent(t, w.light, lobby, []byte("x"), waku.PushTo(math.MaxInt))
			sent(t, w.light, lobby, []byte("x"))
			require.Less(t, time.Since(began), 5*time.Second)
		}
	})
}

// An application's validator that is slow, or refuses, isn't the service peers' fault.
func TestLightValidators(t *testing.T) {
	for _, v := range []message.Validator{
		func(context.Context, *message.Received) message.Verdict {
			time.Sleep(200 * time.Millisecond) // virtual
			return message.Accept
		},
		func(context.Context, *message.Received) message.Verdict { return message.Reject },
	} {
		p2ptest.Bubble(t, func(t *testing.T) {
			w := newLightTown(t, 2)
			n := start(t, waku.WithHost(w.net.Hosts(1)[0]), waku.WithValidator(town, v))
			subscribe(t, join(t, n, w.c, waku.AsLight()), lobby)
			connect(t, n, w.servers...)
			time.Sleep(10 * time.Second) // virtual
			for range 60 {
				w.say(t)
				time.Sleep(100 * time.Millisecond) // virtual
			}
			time.Sleep(10 * time.Second) // virtual
			h := n.Health().Shards[0]
			require.Equal(t, waku.Sufficient, h.State)
			require.Empty(t, h.Light.Failure)
		})
	}
}

// A history that follows has everything once, whatever happens to the network.
func TestLightFollow(t *testing.T) {
	if testing.Short() {
		t.Skip("three seconds of work")
	}
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2, waku.WithArchive(storetest.NewModel(storetest.Config{})))
		time.Sleep(5 * time.Second)
		var got []message.Hash
		var mu sync.Mutex
		go func() {
			for env, err := range w.light.History(t.Context(), waku.HistoryQuery{ContentTopics: []string{lobby}, Follow: true}) {
				if err != nil {
					return
				}
				mu.Lock()
				got = append(got, env.Hash)
				mu.Unlock()
			}
		}()
		w.served(t, waku.Sufficient)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 6*time.Second)
		for _, away := range []time.Duration{5 * time.Second, time.Minute, time.Hour, 3 * time.Second} {
			time.Sleep(20 * time.Minute)
			for _, s := range w.servers {
				require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
			}
			time.Sleep(away)
			connect(t, w.member, w.servers...)
		}
		time.Sleep(2 * time.Minute)
		hush()
		sent := <-said
		time.Sleep(20 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		same(t, sent, got)
	})
}

// Members, readers, modes and connections change at random; one service node stays.
func TestLightAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of work")
	}
	for range 2 {
		p2ptest.Bubble(t, func(t *testing.T) {
			w := newLightTown(t, 3, waku.WithArchive(storetest.NewModel(storetest.Config{})))
			topics := []string{lobby, "/chat/1/a/proto", "/chat/1/b/proto"}
			r := subscribe(t, w.light, lobby)
			w.served(t, waku.Sufficient)
			hearing, deafen := context.WithCancel(t.Context())
			heard := hear(hearing, r)
			talking, hush := context.WithCancel(t.Context())
			said := w.talk(t, talking, 100*time.Millisecond)
			ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
			defer stop()
			var wg sync.WaitGroup
			var switched atomic.Int64
			for _, f := range []func(){
				func() { // another member's readers come and go
					m, err := w.member.Join(ctx, w.c, waku.AsLight())
					if err != nil {
						return
					}
					r, _ := m.Subscribe(topics[rand.IntN(3)])
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
					r.AddTopics(topics[rand.IntN(3)])
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
					r.RemoveTopics(topics[rand.IntN(3)])
					_ = m.Leave()
				},
				func() {
					m, err := w.member.Join(ctx, w.c)
					if err != nil {
						return
					}
					time.Sleep(time.Duration(rand.IntN(8000)) * time.Millisecond)
					_ = m.Leave()
				},
				func() {
					c, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(8000))*time.Millisecond)
					defer cancel()
					if w.light.Switch(c, waku.Mode(1+rand.IntN(2))) == nil {
						switched.Add(1)
					}
				},
				func() {
					_ = w.member.Health()
					c, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(500))*time.Millisecond)
					defer cancel()
					_, _ = w.light.Send(c, topics[1], []byte("x"))
				},
				func() {
					s := w.servers[1+rand.IntN(2)]
					_ = w.host.Network().ClosePeer(s.PeerID())
					time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
					_, _ = w.member.Connect(within(t), s.Addrs()[0])
				},
			} {
				wg.Go(func() {
					for ctx.Err() == nil {
						f()
						time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
					}
				})
			}
			wg.Wait()
			connect(t, w.member, w.servers...)
			time.Sleep(30 * time.Second)
			hush()
			sent := <-said
			time.Sleep(20 * time.Second)
			deafen()
			require.Positive(t, switched.Load())
			same(t, sent, <-heard)
		})
	}
}
