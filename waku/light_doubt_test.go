package waku_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

const attic = "/chat/1/attic/proto"

// alone has a service node push a message of a member that nobody else has got.
func (w *lightTown) alone(t testing.TB, server *waku.Node, at time.Time) {
	m := &message.Message{ContentTopic: attic, Payload: fmt.Append(nil, "alone ", at), Timestamp: at.UnixNano()}
	require.NoError(t, w.key.Sign(town.PubsubTopic(), m))
	waku.PushAgain(server, town, m)
}

// service are the light member's service peers.
func (w *lightTown) service() (peers, suspect []peer.ID) {
	for _, p := range w.member.Health().Shards[0].Light.ServicePeers {
		peers = append(peers, p.Peer)
		if p.Suspect {
			suspect = append(suspect, p.Peer)
		}
	}
	return peers, suspect
}

func (w *lightTown) server(id peer.ID) *waku.Node {
	for _, s := range w.servers {
		if s.PeerID() == id {
			return s
		}
	}
	return nil
}

// A service peer pushes what only it has, so that the others seem to have stopped, and
// may withhold what they push. It costs one of them its place, once; nothing is lost,
// and then it is the accuser that is left.
func TestAccuser(t *testing.T) {
	for _, c := range []struct {
		servers   int
		withholds bool
	}{{3, false}, {3, true}, {5, false}, {5, true}} {
		if testing.Short() && c.withholds != (c.servers == 3) {
			continue
		}
		t.Run(fmt.Sprintf("one of %d, withholds %v", c.servers, c.withholds), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				w := newLightTown(t, c.servers)
				r := subscribe(t, w.light, lobby)
				subscribe(t, w.light, attic)
				w.served(t, waku.Sufficient)
				hearing, deafen := context.WithCancel(t.Context())
				heard := hear(hearing, r)
				talking, hush := context.WithCancel(t.Context())
				said := w.talk(t, talking, time.Second)
				time.Sleep(10 * time.Second) // virtual
				before, _ := w.service()
				accuser := w.server(before[0])
				if c.withholds {
					waku.Mute(accuser)
				}
				replaced := map[peer.ID]bool{}
				for i := range 90 {
					w.alone(t, accuser, time.Now())
					time.Sleep(time.Second) // virtual
					now, _ := w.service()
					for _, p := range before {
						if p != accuser.PeerID() && !slices.Contains(now, p) {
							replaced[p] = true
						}
					}
					before = now
					if i > 50 {
						require.NotContains(t, now, accuser.PeerID())
						require.Equal(t, waku.Sufficient, w.member.Health().Shards[0].State)
					}
				}
				require.LessOrEqual(t, len(replaced), 1)
				hush()
				sent := <-said
				time.Sleep(10 * time.Second) // virtual
				deafen()
				same(t, sent, <-heard)
			})
		})
	}
}

// When who accused another is gone, the other is trusted at once.
func TestAccuserGone(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2, waku.WithArchive(storetest.NewModel(storetest.Config{})))
		r := subscribe(t, w.light, lobby)
		subscribe(t, w.light, attic)
		w.served(t, waku.Sufficient)
		time.Sleep(10 * time.Second) // virtual
		waku.Mute(w.servers[0])
		for range 10 {
			w.alone(t, w.servers[0], time.Now())
			time.Sleep(time.Second) // virtual
		}
		_, suspect := w.service()
		require.Equal(t, []peer.ID{w.servers[1].PeerID()}, suspect)
		require.NoError(t, w.servers[0].Close())
		time.Sleep(time.Second) // virtual
		require.Equal(t, waku.Minimal, w.member.Health().Shards[0].State)
		want := w.say(t)
		require.Equal(t, want, next(t, r).Hash)
	})
}

// With two service peers it is one's word against the other's: neither is left, the
// member says that it isn't well, and loses nothing.
func TestAccuserOfTwo(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		r := subscribe(t, w.light, lobby)
		subscribe(t, w.light, attic)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 500*time.Millisecond)
		time.Sleep(10 * time.Second) // virtual
		waku.Mute(w.servers[0])
		for range 100 {
			w.alone(t, w.servers[0], time.Now())
			time.Sleep(time.Second) // virtual
			peers, _ := w.service()
			require.Len(t, peers, 2)
		}
		h := w.member.Health().Shards[0]
		require.Equal(t, waku.Minimal, h.State)
		require.Contains(t, h.Reason, "don't push what others do")
		hush()
		sent := <-said
		time.Sleep(10 * time.Second) // virtual
		deafen()
		same(t, sent, <-heard)
	})
}

// Service peers stop pushing one after the other, until one is left that does. It is
// alone with what it pushes, and is kept.
func TestServicePeersFallSilent(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 5)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, time.Second)
		muted := map[peer.ID]bool{}
		for range 4 {
			time.Sleep(20 * time.Second) // virtual
			peers, _ := w.service()
			for i, p := range peers { // one that pushes, but not the last
				if !muted[p] && i < len(peers)-1 || i == len(peers)-1 && len(muted) < 3 {
					muted[p] = true
					waku.Mute(w.server(p))
					break
				}
			}
			time.Sleep(10 * time.Second) // virtual
			if now, suspect := w.service(); len(muted) < 4 {
				for _, p := range now {
					require.False(t, muted[p] && !slices.Contains(suspect, p), "%d", len(muted))
				}
			}
		}
		time.Sleep(time.Minute) // virtual
		hush()
		sent := <-said
		time.Sleep(10 * time.Second) // virtual
		deafen()
		same(t, sent, <-heard)
	})
}

// A message from before the member asked is news to it, but needn't be pushed by
// anybody else.
func TestOldMessageAccusesNobody(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3)
		long := time.Now()
		time.Sleep(4 * time.Minute) // virtual
		subscribe(t, w.light, attic)
		w.served(t, waku.Sufficient)
		time.Sleep(10 * time.Second) // virtual
		before, _ := w.service()
		for i := range 30 {
			w.alone(t, w.server(before[0]), long.Add(time.Duration(i)*time.Second))
			time.Sleep(time.Second) // virtual
		}
		now, suspect := w.service()
		require.Equal(t, before, now)
		require.Empty(t, suspect)
		require.Empty(t, w.member.Health().Shards[0].Light.Failure)
	})
}

// A service peer that stopped pushing, and pushes again, is trusted again, though there
// is nobody else.
func TestSilentPeerRecovers(t *testing.T) {
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
		time.Sleep(10 * time.Second) // virtual
		// It forgets one shard only: pings are answered all the same.
		w.unsubscribe(t, 0, town, lobby)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 500*time.Millisecond)
		time.Sleep(10 * time.Second) // virtual
		_, suspect := w.service()
		require.Equal(t, []peer.ID{w.servers[0].PeerID()}, suspect)
		pushed := w.member.Health().Shards[0].Light.ServicePeers
		time.Sleep(65 * time.Second) // virtual
		require.Equal(t, waku.Sufficient, w.member.Health().Shards[0].State)
		for i, p := range w.member.Health().Shards[0].Light.ServicePeers {
			require.Greater(t, p.Pushed, pushed[i].Pushed+100)
		}
		hush()
		<-said
	})
}
