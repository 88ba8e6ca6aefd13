package waku_test

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// districts is a town of several shards, of which the light member is in all.
type districts struct {
	*lightTown
	members []*waku.Membership
}

func newDistricts(t *testing.T, servers, shards int) *districts {
	w := &districts{lightTown: newLightTown(t, servers)}
	for i := range shards {
		c := w.c
		c.Shard.Index += uint16(i)
		if i > 0 {
			for _, s := range w.servers {
				join(t, s, c)
			}
			w.members = append(w.members, join(t, w.member, c, waku.AsLight(), waku.SignWith(w.key)))
		} else {
			w.members = append(w.members, w.light)
		}
	}
	for _, m := range w.members {
		subscribe(t, m, lobby)
	}
	return w
}

// all waits until all shards are served so well.
func (w *districts) all(t testing.TB, state waku.State) {
	t.Helper()
	p2ptest.Eventually(t, func() bool {
		for _, s := range w.member.Health().Shards {
			if s.State != state {
				return false
			}
		}
		return true
	}, "%+v", w.member.Health().Shards)
}

// users counts the shards that a service peer serves.
func (w *districts) users(p peer.ID) (n int) {
	for _, s := range w.member.Health().Shards {
		for _, x := range s.Light.ServicePeers {
			if x.Peer == p {
				n++
			}
		}
	}
	return n
}

// One ping a minute finds out for all shards that a service peer is gone, hangs or has
// forgotten, whichever shard's turn it is, and even if that one is left meanwhile.
func TestOnePingForAllShards(t *testing.T) {
	for _, c := range []struct {
		name   string
		leave  bool // most shards
		forget bool // rather than hang
	}{{name: "hangs"}, {name: "hangs, and most shards are left", leave: true}, {name: "forgets", forget: true}} {
		t.Run(c.name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				w := newDistricts(t, 3, 8)
				w.all(t, waku.Sufficient)
				time.Sleep(30 * time.Second) // virtual
				h := w.member.Health().Shards
				bad := h[0].Light.ServicePeers[0].Peer
				over := make(chan struct{})
				defer close(over)
				asked := make(chan struct{}, 1000)
				began := w.users(bad)
				for i, s := range w.servers {
					if s.PeerID() != bad {
						continue
					}
					intercept(t, waku.HostOf(s), filter.SubscribeID, func(s network.Stream, next network.StreamHandler) {
						asked <- struct{}{}
						if c.forget {
							next(s)
							return
						}
						<-over
						s.Reset()
					})
					if c.forget {
						w.unsubscribeAll(t, i)
						<-asked
					}
				}
				if c.leave {
					<-asked
					time.Sleep(time.Second) // virtual
					for _, m := range w.members[:6] {
						require.NoError(t, m.Leave())
					}
				}
				if c.leave {
					time.Sleep(20 * time.Second) // virtual
				} else {
					time.Sleep(75 * time.Second) // virtual
				}
				w.all(t, waku.Sufficient)
				switch {
				case c.forget:
					require.Equal(t, began, w.users(bad))
					require.LessOrEqual(t, len(asked), 2+began, "pings, and a request for each shard")
				default:
					require.Zero(t, w.users(bad))
					require.Less(t, len(asked), 20)
				}
			})
		})
	}
}

// A service peer that this node dials anew, to learn its own address, hasn't failed.
func TestServicePeerDialledAnew(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		for _, s := range w.servers {
			waku.SeeAnew(w.member, s.PeerID())
		}
		time.Sleep(time.Second) // virtual
		h := w.member.Health()
		require.Empty(t, h.Shards[0].Light.ServicePeers)
		require.Empty(t, h.Shards[0].Light.Failure)
		require.NotContains(t, h.Summary, "the connection was lost")
		require.Len(t, h.Disconnects, 2)
		for _, d := range h.Disconnects {
			require.Contains(t, d.Reason, "dialled anew")
		}
	})
}

// All shards leave a service peer that answers none, also if there is nobody else.
func TestPingUnanswered(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newDistricts(t, 1, 4)
		w.all(t, waku.Minimal)
		over := make(chan struct{})
		defer close(over)
		waku.HostOf(w.servers[0]).SetStreamHandler(filter.SubscribeID, func(s network.Stream) {
			<-over
			s.Reset()
		})
		time.Sleep(72 * time.Second) // virtual
		for _, s := range w.member.Health().Shards {
			require.Equal(t, waku.Unhealthy, s.State)
			require.Contains(t, s.Light.Failure, w.servers[0].PeerID().String())
		}
	})
}

// When the network has changed, each service peer is asked once.
func TestNetworkChangedPings(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newDistricts(t, 2, 8)
		w.all(t, waku.Sufficient)
		time.Sleep(30 * time.Second) // virtual
		var asked atomic.Int64
		for _, s := range w.servers {
			intercept(t, waku.HostOf(s), filter.SubscribeID, func(s network.Stream, next network.StreamHandler) {
				asked.Add(1)
				next(s)
			})
		}
		for range 3 {
			asked.Store(0)
			w.member.NetworkChanged()
			time.Sleep(10 * time.Second) // virtual
			require.EqualValues(t, 2, asked.Load())
		}
	})
}

// A service peer that asks for fewer pings is asked again, for all shards, and is left
// by none for one such answer.
func TestThrottledPing(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newDistricts(t, 1, 5)
		w.all(t, waku.Minimal)
		var refused, granted atomic.Int64
		intercept(t, waku.HostOf(w.servers[0]), filter.SubscribeID, func(s network.Stream, next network.StreamHandler) {
			if refused.Add(1) > 2 {
				granted.Add(1)
				next(s)
				return
			}
			_, _ = io.ReadAll(s)
			_, _ = s.Write([]byte{8, 0x0a, 3, 'N', '/', 'A', 0x50, 0xad, 0x03}) // 429
			s.Close()
		})
		time.Sleep(90 * time.Second) // virtual
		require.EqualValues(t, 1, granted.Load())
		w.all(t, waku.Minimal)
		require.Empty(t, w.member.Health().Shards[0].Light.Failure)
	})
}
