package relay_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// plainRouter joins the shard with the library alone. Silent ones take part in
// the mesh, forward nothing and say nothing about messages. Others behave as
// go-waku does: they don't send IDONTWANT.
func plainRouter(t testing.TB, h host.Host, silent bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ps, err := pubsub.NewGossipSub(ctx, h,
		pubsub.WithGossipSubProtocols([]protocol.ID{relay.ID}, func(f pubsub.GossipSubFeature, id protocol.ID) bool {
			return id == relay.ID && (f == pubsub.GossipSubFeatureMesh || f == pubsub.GossipSubFeaturePX)
		}),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { d := sha256.Sum256(m.Data); return string(d[:]) }),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithDefaultValidator(func(context.Context, peer.ID, *pubsub.Message) pubsub.ValidationResult {
			if silent {
				return pubsub.ValidationIgnore
			}
			return pubsub.ValidationAccept
		}))
	require.NoError(t, err)
	handle, err := ps.Join(shard.PubsubTopic())
	require.NoError(t, err)
	_, err = handle.Relay()
	require.NoError(t, err)
}

// simulation marks tests of minutes in virtual time. With -short, which goes
// with -race, they are left out.
func simulation(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation: run without -short")
	}
}

// silentShare lets a victim stand between honest and silent peers, in equal
// numbers, on a busy shard, and returns the silent ones' part of its mesh.
func silentShare(t *testing.T, payload string, lenient bool) float64 {
	const n = 10
	net := p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond})
	victim := net.Host(p2ptest.HostConfig{})
	silent, honest := net.Hosts(n), net.Hosts(n)
	r := newRelay(t, victim, relay.Config{})
	r.SetLenient(lenient)
	subscribe(t, r, shard)
	bad := map[peer.ID]bool{}
	for _, h := range silent {
		plainRouter(t, h, true)
		bad[h.ID()] = true
		p2ptest.Connect(t, h, victim)
	}
	settle() // they were first and fill the mesh
	rs := relays(t, honest, relay.Config{})
	for i, r := range rs {
		subscribe(t, r, shard)
		p2ptest.Connect(t, honest[i], victim)
	}
	p2ptest.Degree(t, honest, 4)
	settle()
	var sum, samples float64
	for i := range 150 * 5 {
		publish(t, rs[i%n], shard, newMessage(fmt.Sprint(i, payload)))
		time.Sleep(200 * time.Millisecond)
		if i >= 100*5 && i%5 == 0 {
			mesh := r.Mesh(shard)
			for _, p := range mesh {
				if bad[p] {
					sum += 1 / float64(len(mesh))
				}
			}
			samples++
		}
	}
	t.Logf("silent share of the mesh: %.3f", sum/samples)
	return sum / samples
}

func TestSilentPeersLoseTheirSlots(t *testing.T) {
	simulation(t)
	for name, payload := range map[string]string{"small": "x", "called off": strings.Repeat("x", 2000)} {
		t.Run(name, func(t *testing.T) {
			var judged, unjudged float64
			p2ptest.Bubble(t, func(t *testing.T) { judged = silentShare(t, payload, false) })
			p2ptest.Bubble(t, func(t *testing.T) { unjudged = silentShare(t, payload, true) })
			require.Less(t, judged, 0.4) // one link is borne, and newcomers aren't judged yet
			require.Less(t, judged, 0.8*unjudged)
		})
	}
}

// Everything above the size of IDONTWANT is called off at all peers at once;
// what is proven there is less, and honest peers must not pay for it.
func TestHonestPeersSilencedByUsStay(t *testing.T) {
	simulation(t)
	for name, plain := range map[string]bool{"our own kind": false, "without IDONTWANT": true} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				near := p2ptest.New(t, p2ptest.Config{Latency: 50 * time.Millisecond})
				hosts := near.Hosts(14)
				rs := relays(t, hosts[:10], relay.Config{})
				first := newRelay(t, hosts[10], relay.Config{})
				subscribe(t, first, shard)
				for _, r := range rs {
					subscribe(t, r, shard)
				}
				for _, h := range hosts[11:] { // late hearers: they hang on the first alone
					if plain {
						plainRouter(t, h, false)
					} else {
						subscribe(t, newRelay(t, h, relay.Config{}), shard)
					}
					p2ptest.Connect(t, h, hosts[10])
					p2ptest.Connect(t, h, hosts[0])
				}
				for _, h := range hosts[:10] {
					p2ptest.Connect(t, h, hosts[10])
				}
				p2ptest.Degree(t, hosts[:10], 4)
				settle()
				for i := range 600 {
					publish(t, rs[i%10], shard, newMessage(fmt.Sprint(i, strings.Repeat("x", 2000))))
					time.Sleep(100 * time.Millisecond)
					for _, h := range hosts[11:] {
						require.GreaterOrEqual(t, first.Score(h.ID()), 0.0, "message %d", i)
					}
				}
			})
		})
	}
}

// A node that refuses everything, because its clock is wrong, keeps its mesh and
// its standing with the others.
func TestWrongClockKeepsTheMesh(t *testing.T) {
	simulation(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond}).Hosts(20)
		rs := relays(t, hosts, relay.Config{})
		for _, r := range rs {
			subscribe(t, r, shard)
		}
		wrong := rs[0]
		wrong.SetRules(shard, relay.Rules{Screen: func(*message.Received) message.Verdict { return message.Ignore }})
		p2ptest.Degree(t, hosts, 10)
		settle()
		for i := range 14 * 60 {
			publish(t, rs[1+i%19], shard, newMessage(fmt.Sprint(i, strings.Repeat("x", 2000*(i%2)))))
			time.Sleep(time.Second / 14)
			if i%14 != 0 {
				continue
			}
			for _, r := range rs[1:] {
				require.GreaterOrEqual(t, r.Score(hosts[0].ID()), 0.0, "second %d", i/14)
			}
			for _, h := range hosts[1:] {
				require.GreaterOrEqual(t, wrong.Score(h.ID()), 0.0, "second %d", i/14)
			}
		}
		require.GreaterOrEqual(t, len(wrong.Mesh(shard)), relay.Default().DLow)
	})
}

func TestQuietShardPunishesNobody(t *testing.T) {
	simulation(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 10)
		var prunes atomic.Int64
		meshSize := 0
		var warm atomic.Bool
		rs := relays(t, hosts[1:], relay.Config{})
		rs = append(rs, newRelay(t, hosts[0], relay.Config{OnEvent: func(e relay.Event) {
			if e.Kind != relay.MeshChanged {
				return
			}
			if warm.Load() && e.Count < meshSize {
				prunes.Add(1)
			}
			meshSize = e.Count
		}}))
		for _, r := range rs {
			subscribe(t, r, shard)
		}
		p2ptest.Full(t, hosts)
		time.Sleep(2 * time.Minute)
		warm.Store(true)
		for i := range 60 * hours {
			publish(t, rs[i%len(rs)], shard, newMessage(fmt.Sprint(i)))
			time.Sleep(time.Minute)
			for _, r := range rs {
				for _, h := range hosts {
					require.GreaterOrEqual(t, r.Score(h.ID()), 0.0)
				}
			}
		}
		require.Zero(t, prunes.Load(), "mesh links lost")
	})
}
