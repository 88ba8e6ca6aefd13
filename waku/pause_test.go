package waku_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// followed reads a membership's history and on, until ctx ends.
func followed(ctx context.Context, m *waku.Membership) <-chan []message.Hash {
	out := make(chan []message.Hash, 1)
	go func() {
		var got []message.Hash
		for env, err := range m.History(ctx, waku.HistoryQuery{ContentTopics: []string{lobby}, Follow: true}) {
			if err == nil {
				got = append(got, env.Hash)
			}
		}
		out <- got
	}()
	return out
}

// A paused member, light or relay, neither sends nor gets a byte, for ten minutes
// in which others talk; and then it has everything, once.
func TestPause(t *testing.T) {
	for _, mode := range []waku.Mode{waku.ModeLight, waku.ModeRelay} {
		t.Run(mode.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				archive := storetest.NewModel(storetest.Config{})
				w := newLightTown(t, 2, waku.WithArchive(archive))
				r := subscribe(t, w.light, lobby)
				w.served(t, waku.Sufficient)
				hearing, deafen := context.WithCancel(t.Context())
				var heard <-chan []message.Hash
				if mode == waku.ModeRelay {
					require.NoError(t, r.Close())
					require.NoError(t, w.light.Switch(within(t), mode))
					heard = followed(hearing, w.light)
				} else {
					heard = hear(hearing, r)
				}
				events := w.member.Events(t.Context())
				talking, hush := context.WithCancel(t.Context())
				said := w.talk(t, talking, 2*time.Second)
				time.Sleep(15 * time.Second) // virtual

				w.member.Pause()
				_, err := w.light.Send(within(t), lobby, []byte("now"))
				require.ErrorIs(t, err, waku.ErrPaused)
				time.Sleep(time.Second) // virtual
				h := w.member.Health()
				require.True(t, h.Paused)
				require.Equal(t, "paused", h.Summary)
				require.Empty(t, w.host.Network().Conns())
				before := w.net.Traffic(w.host)
				time.Sleep(10 * time.Minute) // virtual
				require.Equal(t, before, w.net.Traffic(w.host))

				w.member.Resume()
				_, err = w.light.Send(within(t), "/chat/1/elsewhere/proto", []byte("after"))
				require.NoError(t, err)
				var kinds []waku.EventKind
				for e := range events {
					if e.Kind == waku.NodePaused || e.Kind == waku.NodeResumed {
						kinds = append(kinds, e.Kind)
					}
					if e.Kind == waku.NodeResumed {
						break
					}
				}
				require.Equal(t, []waku.EventKind{waku.NodePaused, waku.NodeResumed}, kinds)
				time.Sleep(90 * time.Second) // virtual
				require.Len(t, w.member.Peers(), 2, "dialled again")
				h = w.member.Health()
				require.False(t, h.Paused)
				hush()
				sent := <-said
				time.Sleep(30 * time.Second) // virtual
				deafen()
				same(t, sent, <-heard)
			})
		})
	}
}

// everything is what a node can do at once.
func everything(t *testing.T, archive *storetest.Model, opts ...waku.Option) (*waku.Node, *waku.Membership, *waku.Membership) {
	key := newKey(t)
	n := start(t, append(append(services(), waku.WithArchive(archive)), opts...)...)
	c := waku.Community{Shard: town, Keys: []waku.CommunityKey{{Key: key.PublicKey(), Until: time.Now().Add(time.Minute)}}}
	relayed := join(t, n, c)
	light := join(t, n, waku.Community{Shard: elsewhere}, waku.AsLight())
	subscribe(t, relayed)
	subscribe(t, light, lobby)
	return n, relayed, light
}

// Nothing of a paused node wakes up, by a trace of the scheduler: not once in ten
// minutes, nor in ten hours. Without a pause the same trace shows a lot.
func TestPausedSleeps(t *testing.T) {
	o := newOutside(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		hosts := net.Hosts(2)
		peer, err := waku.New(within(t), append(services(), waku.WithHost(hosts[1]))...)
		require.NoError(t, err)
		join(t, peer, waku.Community{Shard: elsewhere})
		n, relayed, light := everything(t, storetest.NewModel(storetest.Config{}), waku.WithHost(hosts[0]),
			waku.WithStaticPeers(peer.Addrs()[0]))
		hearing, deafen := context.WithCancel(t.Context())
		follows := followed(hearing, light)
		other := followed(hearing, relayed)
		time.Sleep(20 * time.Second) // virtual
		require.Len(t, n.Peers(), 1)
		awake, _ := wakeups(t, o, func() { time.Sleep(10 * time.Second) })
		require.Greater(t, len(awake), 5)

		n.Pause()
		time.Sleep(time.Second) // virtual
		require.True(t, n.Health().Paused)
		require.NoError(t, peer.Close())
		time.Sleep(time.Second) // virtual
		before := net.Traffic(hosts[0])
		for _, long := range []time.Duration{10 * time.Minute, 10 * time.Hour} {
			asleep, host := wakeups(t, o, func() { time.Sleep(long) })
			require.Empty(t, asleep)
			t.Logf("the host itself, in %v: %v", long, host)
		}
		require.Equal(t, before, net.Traffic(hosts[0]))
		deafen()
		<-follows
		<-other
		require.NoError(t, n.Close())
	})
}
