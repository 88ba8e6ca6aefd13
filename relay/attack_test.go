package relay_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// signedOnly stands for a community signature: the cheap check wants a meta, the
// dear one wants it to say "good".
func signedOnly() relay.Rules {
	return relay.Rules{
		Screen: func(in *message.Received) message.Verdict {
			switch {
			case len(in.Message.Meta) == 0:
				return message.Reject
			case string(in.Message.Meta) == "stale":
				return message.Ignore
			}
			return message.Accept
		},
		Validator: func(_ context.Context, in *message.Received) message.Verdict {
			if string(in.Message.Meta) == "good" {
				return message.Accept
			}
			return message.Reject
		},
	}
}

func withMeta(payload, meta string) *message.Message {
	m := newMessage(payload)
	m.Meta = []byte(meta)
	return m
}

// scene is an attacker and an honest ear, both connected to one guarded node
// and in its mesh.
type scene struct {
	t        *testing.T
	victim   *relay.Relay
	host     host.Host
	sub      *relay.Subscription
	attacker *p2ptest.RawPubsub
	ear      *p2ptest.RawPubsub
	mu       sync.Mutex
	events   []relay.Event
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t}
	hosts := p2ptest.Hosts(t, 3)
	s.host = hosts[0]
	s.victim = newRelay(t, hosts[0], relay.Config{OnEvent: func(e relay.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, e)
	}})
	s.victim.SetRules(shard, signedOnly())
	s.sub = subscribe(t, s.victim, shard)
	s.attacker, s.ear = p2ptest.NewRawPubsub(t, hosts[1]), p2ptest.NewRawPubsub(t, hosts[2])
	for _, x := range []*p2ptest.RawPubsub{s.attacker, s.ear} {
		p2ptest.Connect(t, x.Host, hosts[0])
		require.NoError(t, x.Send(hosts[0].ID(), p2ptest.Subscribe(shard.PubsubTopic()), p2ptest.Graft(shard.PubsubTopic())))
	}
	settle()
	require.Len(t, s.victim.Mesh(shard), 2)
	s.ear.Forget()
	s.attacker.Forget()
	return s
}

func (s *scene) send(rpcs ...*pb.RPC) error { return s.attacker.Send(s.host.ID(), rpcs...) }

func (s *scene) publish(m *message.Message) error {
	return s.send(p2ptest.Publish(shard.PubsubTopic(), m.Encode()))
}

func (s *scene) connected(x *p2ptest.RawPubsub) bool {
	return s.host.Network().Connectedness(x.Host.ID()) == network.Connected
}

func (s *scene) cutEvents() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Kind == relay.PeerCut {
			n++
		}
	}
	return n
}

func TestUnsignedFlood(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		before := s.victim.Score(s.attacker.Host.ID())
		require.NoError(t, s.publish(withMeta(strings.Repeat("x", 2000), "")))
		time.Sleep(time.Second)
		require.Less(t, s.victim.Score(s.attacker.Host.ID()), before-90, "the score falls at the first one")
		sent := 1
		for ; s.connected(s.attacker) && sent < 1000; sent++ {
			if s.publish(withMeta(strings.Repeat("x", 2000), "")) != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, sent, 20, "cut after")
		time.Sleep(5 * time.Second)
		require.Zero(t, s.ear.Tally().Messages, "forwarded")
		require.Zero(t, s.ear.Tally().IDontWants, "control messages caused")
		require.Zero(t, s.ear.Tally().IHaves)
		require.Empty(t, drain(s.sub))
		require.True(t, s.connected(s.ear))
		require.Equal(t, 1, s.cutEvents())
		require.EqualValues(t, 1, s.victim.Stats().PeersCut)

		// It comes back and is sent away again, with whatever it brings.
		require.NoError(t, s.attacker.Host.Connect(context.Background(), p2ptest.AddrInfo(s.host)))
		_ = s.publish(withMeta("let me in", "good"))
		time.Sleep(time.Second)
		require.False(t, s.connected(s.attacker))
		require.Empty(t, drain(s.sub))
	})
}

func TestUnsignedFloodUncut(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		s.victim.SetUncut(true)
		for range 300 {
			require.NoError(t, s.publish(withMeta("x", "")))
		}
		time.Sleep(time.Second)
		require.True(t, s.connected(s.attacker), "without cutting it goes on")
		require.Zero(t, s.ear.Tally().Messages)
		require.Zero(t, s.ear.Tally().ControlBytes)
	})
}

func TestForgedFlood(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		sent := 0
		for ; s.connected(s.attacker) && sent < 5000; sent++ {
			if s.publish(withMeta(strings.Repeat("y", 2000), "forged")) != nil {
				break
			}
			time.Sleep(200 * time.Microsecond)
		}
		require.LessOrEqual(t, sent, 20, "%+v", s.victim.Stats())
		time.Sleep(5 * time.Second)
		tally := s.ear.Tally()
		require.Zero(t, tally.Messages)
		require.LessOrEqual(t, tally.IDontWants, 20)
		require.LessOrEqual(t, tally.ControlBytes, 20*50)
	})
}

// All at once: what is in flight before the first verdict is bounded too.
func TestForgedBurst(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		rpc := &pb.RPC{}
		for range 3000 {
			m := withMeta("z", "forged")
			rpc.Publish = append(rpc.Publish, p2ptest.Publish(shard.PubsubTopic(), m.Encode()).Publish...)
		}
		for i := 0; i < len(rpc.Publish); i += 500 {
			_ = s.send(&pb.RPC{Publish: rpc.Publish[i : i+500]})
		}
		time.Sleep(5 * time.Second)
		require.False(t, s.connected(s.attacker))
		require.LessOrEqual(t, s.victim.Stats().Shards[0].Rejected, uint64(600))
		require.Zero(t, s.ear.Tally().Messages)
	})
}

// An honest peer has much to say at once, before anybody knows it.
func TestHonestBurst(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		rpc := &pb.RPC{}
		for i := range 500 {
			rpc.Publish = append(rpc.Publish, p2ptest.Publish(shard.PubsubTopic(), withMeta(fmt.Sprint(i), "good").Encode()).Publish...)
		}
		require.NoError(t, s.send(rpc))
		require.Len(t, drain(s.sub), 500)
		require.Len(t, s.ear.Messages(), 500)
	})
}

// The bytes of a good message on another shard blame nobody but their sender,
// and an author field on a copy blames nobody: other nodes forward such.
func TestBlameStaysWhereItBelongs(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		s.victim.SetRules(other, relay.Rules{Validator: func(context.Context, *message.Received) message.Verdict { return message.Reject }})
		subscribe(t, s.victim, other)
		id, honest := s.attacker.Host.ID(), s.ear.Host.ID()
		for i := range 5 {
			m := withMeta(fmt.Sprint(i), "good").Encode()
			require.NoError(t, s.send(p2ptest.Publish(other.PubsubTopic(), m)))
			time.Sleep(100 * time.Millisecond)
			require.NoError(t, s.ear.Send(s.host.ID(), p2ptest.Publish(shard.PubsubTopic(), m)))
		}
		time.Sleep(6 * time.Second)
		require.Less(t, s.victim.Score(id), 0.0)
		require.GreaterOrEqual(t, s.victim.Score(honest), 0.0)

		rpc := p2ptest.Publish(shard.PubsubTopic(), withMeta("a", "good").Encode())
		require.NoError(t, s.ear.Send(s.host.ID(), rpc))
		rpc.Publish[0].Seqno = []byte{1}
		for range 30 {
			require.NoError(t, s.ear.Send(s.host.ID(), rpc))
		}
		time.Sleep(6 * time.Second)
		require.GreaterOrEqual(t, s.victim.Score(honest), 0.0)
		require.True(t, s.connected(s.ear))
	})
}

// What only we refuse is nobody's fault: no blame, no control messages, and no
// asking for it again and again.
func TestIgnoredMessagesAreForgiven(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		m := withMeta(strings.Repeat("s", 2000), "stale")
		id := messageID(m.Encode())
		require.NoError(t, s.send(p2ptest.IHave(shard.PubsubTopic(), id)))
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, 1, s.attacker.Tally().IWants)
		require.NoError(t, s.publish(m))
		for range 25 { // gossip offers a message for three seconds
			time.Sleep(time.Second)
			require.NoError(t, s.send(p2ptest.IHave(shard.PubsubTopic(), id)))
		}
		require.Equal(t, 1, s.attacker.Tally().IWants, "asked once")
		for range 500 {
			require.NoError(t, s.publish(withMeta("old", "stale")))
		}
		time.Sleep(10 * time.Second)
		require.True(t, s.connected(s.attacker))
		require.GreaterOrEqual(t, s.victim.Score(s.attacker.Host.ID()), 0.0)
		require.Contains(t, s.victim.Mesh(shard), s.attacker.Host.ID())
		require.Zero(t, s.ear.Tally().Messages)
		require.Zero(t, s.ear.Tally().IDontWants)
	})
}

func TestBallastIsNotForwarded(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		rpc := p2ptest.Publish(shard.PubsubTopic(), withMeta("light", "good").Encode())
		rpc.Publish[0].ProtoReflect().SetUnknown(append([]byte{0xfa, 0x3f, 0xe0, 0x5d}, make([]byte, 12000)...))
		require.NoError(t, s.send(rpc))
		require.Equal(t, []string{"light"}, drain(s.sub))
		require.Equal(t, 1, s.ear.Tally().Messages)
		require.Less(t, s.ear.Tally().MessageBytes, 200)

		for name, change := range map[string]func(*pb.Message){
			"from":      func(m *pb.Message) { m.From = []byte(s.ear.Host.ID()) },
			"seqno":     func(m *pb.Message) { m.Seqno = []byte{1} },
			"signature": func(m *pb.Message) { m.Signature = []byte{1} },
			"key":       func(m *pb.Message) { m.Key = []byte{1} },
			"no topic":  func(m *pb.Message) { m.Topic = nil },
			"a shard that isn't joined": func(m *pb.Message) {
				m.Topic = proto.String(other.PubsubTopic())
			},
		} {
			rpc := p2ptest.Publish(shard.PubsubTopic(), withMeta(name, "good").Encode())
			change(rpc.Publish[0])
			require.NoError(t, s.send(rpc))
		}
		require.Empty(t, drain(s.sub))
		require.Equal(t, 1, s.ear.Tally().Messages)
	})
}

func TestStructure(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		big := withMeta(strings.Repeat("x", message.DefaultMaxSize), "good")
		big.Payload = big.Payload[:2*message.DefaultMaxSize+1-big.Size()]
		require.NoError(t, s.publish(big))
		empty := withMeta("", "good")
		require.NoError(t, s.publish(empty))
		noTopic := withMeta("x", "good")
		noTopic.ContentTopic = ""
		require.NoError(t, s.publish(noTopic))
		time.Sleep(time.Second)
		require.GreaterOrEqual(t, s.victim.Score(s.attacker.Host.ID()), 0.0, "others forward these")
		require.NoError(t, s.publish(withMeta("x", strings.Repeat("m", 65))))
		require.NoError(t, s.send(p2ptest.Publish(shard.PubsubTopic(), []byte("not protobuf"))))
		time.Sleep(time.Second)
		require.Less(t, s.victim.Score(s.attacker.Host.ID()), -300.0)
		require.Empty(t, drain(s.sub))
		require.Zero(t, s.ear.Tally().Messages+s.ear.Tally().IDontWants)
		refused := s.victim.Stats().Refused
		for _, reason := range []string{"too large", "empty field", "meta too long", "malformed"} {
			require.Positive(t, refused[reason], reason)
		}
	})
}

func TestControlFloods(t *testing.T) {
	ids := func(n, salt int) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = messageID(fmt.Append(nil, salt, i))
		}
		return out
	}
	shards := make([]string, 5_000)
	for i := range shards {
		shards[i] = fmt.Sprintf("/waku/2/rs/%d/%d", i/1024, i%1024)
	}
	floods := map[string]func(i int) *pb.RPC{
		"IHAVE":         func(i int) *pb.RPC { return p2ptest.IHave(shard.PubsubTopic(), ids(4000, i)...) },
		"IWANT":         func(i int) *pb.RPC { return p2ptest.IWant(ids(4000, 0)...) },
		"IDONTWANT":     func(i int) *pb.RPC { return p2ptest.IDontWant(ids(4000, i)...) },
		"GRAFT":         func(i int) *pb.RPC { return p2ptest.Graft(shards...) },
		"subscriptions": func(i int) *pb.RPC { return p2ptest.Subscribe(shards...) },
		"few per frame": func(i int) *pb.RPC { return p2ptest.IHave(shard.PubsubTopic(), ids(100, i)...) },
		"graft, prune": func(i int) *pb.RPC {
			rpc := p2ptest.Prune(shard.PubsubTopic(), 0)
			rpc.Control.Graft = p2ptest.Graft(shard.PubsubTopic()).Control.Graft
			return rpc
		},
	}
	perSecond := map[string]int{"few per frame": 100, "graft, prune": 100}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				s := newScene(t)
				rate := perSecond[name]
				if rate == 0 {
					rate = 10
				}
				start := time.Now()
				for i := 0; s.connected(s.attacker) && time.Since(start) < time.Minute; i++ {
					if s.send(flood(i)) != nil {
						break
					}
					time.Sleep(time.Second / time.Duration(rate))
				}
				time.Sleep(time.Second)
				require.False(t, s.connected(s.attacker), "%+v", s.victim.Stats())
				require.Less(t, time.Since(start), 12*time.Second)
				require.True(t, s.connected(s.ear))
				publish(t, s.victim, shard, withMeta("all is well", "good"))
				require.Equal(t, []string{"all is well"}, drain(s.sub))
			})
		})
	}
}

// Who promises and doesn't deliver is soon not asked any more.
func TestBrokenPromises(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		for i := range 600 {
			if s.send(p2ptest.IHave(shard.PubsubTopic(), messageID(fmt.Append(nil, i)))) != nil {
				break // sent away, which is fine too
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.LessOrEqual(t, s.attacker.Tally().IWants, 100)
		require.NotContains(t, s.victim.Mesh(shard), s.attacker.Host.ID())
	})
}

func TestSubscriptionsPerPeer(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		id := s.attacker.Host.ID()
		for i := range 3 {
			var topics []string
			for j := range 1024 {
				topics = append(topics, fmt.Sprintf("/waku/2/rs/%d/%d", 20+i, j))
			}
			require.NoError(t, s.send(p2ptest.Subscribe(topics...)))
		}
		require.NoError(t, s.send(p2ptest.Subscribe("/waku/2/default-waku/proto", "/waku/2/rs/16/032")))
		time.Sleep(time.Second)
		require.True(t, s.connected(s.attacker))
		require.Equal(t, 1024, s.victim.AnnouncedBy(id))
		require.NoError(t, s.host.Network().ClosePeer(id))
		time.Sleep(time.Second)
		require.Zero(t, s.victim.AnnouncedBy(id))
	})
}

func TestCrowdedAddress(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		one := netip.MustParseAddr("20.9.9.9")
		victim := net.Host(p2ptest.HostConfig{})
		r := newRelay(t, victim, relay.Config{MaxPeersPerAddr: 5})
		subscribe(t, r, shard)
		var household []peer.ID
		join := func(ip netip.Addr) peer.ID {
			h := net.Host(p2ptest.HostConfig{IP: ip})
			subscribe(t, newRelay(t, h, relay.Config{}), shard)
			p2ptest.Connect(t, h, victim)
			time.Sleep(time.Second)
			return h.ID()
		}
		for range 5 {
			household = append(household, join(one))
		}
		var crowd []peer.ID
		for range 10 {
			crowd = append(crowd, join(one))
		}
		elsewhere := join(netip.Addr{})
		settle()
		for _, p := range append(household, elsewhere) {
			require.GreaterOrEqual(t, r.Score(p), 0.0, "who was there first stays")
		}
		mesh := r.Mesh(shard)
		for _, p := range crowd {
			require.Negative(t, r.Score(p))
			require.Greater(t, r.Score(p), -100.0, "gossip goes on")
			require.NotContains(t, mesh, p)
		}
		require.NoError(t, victim.Network().ClosePeer(household[0]))
		time.Sleep(time.Second)
		require.GreaterOrEqual(t, r.Score(crowd[0]), 0.0, "the next one moves up")
		require.Negative(t, r.Score(crowd[1]))
	})
}

func TestLoopbackIsNoCrowd(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		lo := netip.MustParseAddr("127.0.0.1")
		victim := net.Host(p2ptest.HostConfig{IP: lo})
		r := newRelay(t, victim, relay.Config{MaxPeersPerAddr: 2})
		subscribe(t, r, shard)
		for range 6 {
			h := net.Host(p2ptest.HostConfig{IP: lo})
			subscribe(t, newRelay(t, h, relay.Config{}), shard)
			p2ptest.Connect(t, h, victim)
			settle()
			require.GreaterOrEqual(t, r.Score(h.ID()), 0.0)
		}
	})
}

// No moment without rules: a peer floods unsigned messages while readers come
// and go and rules are replaced.
func TestNoUnguardedMoment(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newScene(t)
		s.victim.SetUncut(true)
		stop := make(chan struct{})
		var flood sync.WaitGroup
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for range 20 {
					m := newMessage("unsigned")
					_ = s.publish(m)
				}
				time.Sleep(time.Millisecond)
			}
		})
		for i := range 300 {
			a, b := subscribe(t, s.victim, shard), subscribe(t, s.victim, shard)
			if i == 100 {
				require.NoError(t, s.sub.Close()) // from here on the shard is left each time
			}
			s.victim.SetRules(shard, signedOnly())
			time.Sleep(time.Millisecond)
			for _, sub := range []*relay.Subscription{a, b} {
				require.Empty(t, drain(sub))
				require.NoError(t, sub.Close())
			}
		}
		close(stop)
		flood.Wait()
		time.Sleep(5 * time.Second)
		require.Zero(t, s.ear.Tally().Messages)
		require.Positive(t, s.victim.Stats().Refused["screen reject"])
	})
}
