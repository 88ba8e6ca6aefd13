package scale

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/status-im/shoal/internal/simnet"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// Attack is what attackers do. Members take them for others of their kind: their own
// dials end at attackers as often as attackers' share is.
type Attack struct {
	// Kind is one of the Attacks, or "" for none.
	Kind string
	// Attackers is their number.
	Attackers int
	// Dials is how many members each connects to. Zero: as many as a member does.
	Dials int
	// At is when they begin, after counting began; before, they behave. Less than
	// zero: from the start.
	At time.Duration
}

// Attacks are the kinds.
var Attacks = map[string]string{
	"silent":    "join meshes and never pass a message on; those that begin later (At) behave as members until then",
	"spam":      "send ten messages a second that nobody of the community signed, to everybody they know",
	"graft":     "ask for mesh slots ten times a second, whatever they are told",
	"ihave":     "offer 5,000 messages that don't exist ten times a second",
	"iwant":     "ask for 1,000 messages ten times a second",
	"idontwant": "call off 1,000 messages ten times a second",
	"eclipse":   "all connect to one member and take its mesh slots, in silence",
}

// deaf are rules under which nothing passes: a relay that takes and never gives.
var deaf = relay.Rules{Screen: func(*message.Received) message.Verdict { return message.Ignore }}

// leech tells whether attackers take and never give from the start, and turncoat
// whether they are relays that go deaf when the attack begins.
func (a Attack) leech() bool { return a.quiet() && a.At < 0 }

func (a Attack) turncoat() bool { return a.quiet() && a.At >= 0 }

func (a Attack) quiet() bool { return a.Kind == "silent" || a.Kind == "eclipse" }

// greedy is the profile of those who want mesh slots.
func greedy() relay.Profile {
	p := relay.Fleet(24)
	p.Name, p.FloodPublish = "greedy", false
	return p
}

func (w *world) newAttacker(i int) (*node, error) {
	n := &node{number: i, role: Attacker}
	n.host = w.net.Host(simnet.HostConfig{Line: w.cfg.FleetLine})
	if !w.cfg.Attack.turncoat() {
		n.raw = newRaw(w, n.host)
		return n, nil
	}
	r, err := relay.New(n.host, relay.Config{Profile: greedy()})
	if err != nil {
		return nil, err
	}
	n.relay = r
	_, err = r.Subscribe(shard, relay.SubscribeConfig{Buffer: 1})
	return n, err
}

// attack begins what isn't there from the start.
func (w *world) attack() {
	for _, n := range w.attackers() {
		if n.relay != nil {
			n.relay.SetRules(shard, deaf)
			continue
		}
		if w.cfg.Attack.leech() {
			w.wg.Go(func() { n.raw.leech(w.ctx) })
			continue
		}
		w.wg.Go(func() { n.raw.flood(w.ctx, w.cfg.Attack.Kind) })
	}
}

// raw speaks GossipSub by hand. It joins meshes as others do, and hears what is passed
// on to it.
type raw struct {
	w      *world
	host   *simnet.Host
	forger *dosguard.PrivateKey
	sent   atomic.Int64
	heard  atomic.Int64 // forged messages that somebody passed on
}

func newRaw(w *world, h *simnet.Host) *raw {
	r := &raw{w: w, host: h}
	r.forger, _ = dosguard.GenerateKey()
	h.SetStreamHandler(relay.ID, r.hear)
	return r
}

// hear reads what peers send until they stop.
func (r *raw) hear(s network.Stream) {
	defer s.Reset()
	if r.w.cfg.Attack.leech() {
		_, _ = io.CopyBuffer(onlyWriter{io.Discard}, s, make([]byte, 512))
		return
	}
	in := bufio.NewReader(s)
	for {
		size, err := binary.ReadUvarint(in)
		if err != nil || size > 2<<20 {
			return
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		var rpc pb.RPC
		if proto.Unmarshal(b, &rpc) != nil {
			continue
		}
		for _, m := range rpc.GetPublish() {
			if m, err := message.Decode(m.GetData()); err == nil && forged(m) {
				r.heard.Add(1)
			}
		}
	}
}

// forgedFrom is where the numbers of forged messages begin.
const forgedFrom = 1 << 40

func forged(m *message.Message) bool {
	return len(m.Payload) >= 8 && binary.BigEndian.Uint64(m.Payload) >= forgedFrom
}

// onlyWriter hides what io.Discard can do better, for which it takes more memory.
type onlyWriter struct{ io.Writer }

// hello announces the shard and asks for a place in the mesh.
func hello() *pb.RPC {
	topic, on := shard.PubsubTopic(), true
	return &pb.RPC{
		Subscriptions: []*pb.RPC_SubOpts{{Subscribe: &on, Topicid: &topic}},
		Control:       &pb.ControlMessage{Graft: []*pb.ControlGraft{{TopicID: &topic}}},
	}
}

// askAgain is how many seconds after it was refused a leech asks for a place again, as
// soon as that isn't held against it.
const askAgain = 65

// leech asks everybody that it is connected with for a place in the mesh, as often as
// is allowed, and gives nothing.
func (r *raw) leech(ctx context.Context) {
	type link struct {
		s     network.Stream
		asked int
	}
	links := map[peer.ID]*link{}
	for second := 0; ctx.Err() == nil; second++ {
		for _, p := range r.host.Network().Peers() {
			l := links[p]
			if l != nil && second-l.asked < askAgain {
				continue
			}
			if l == nil {
				s, err := r.host.NewStream(ctx, p, relay.ID)
				if err != nil {
					continue
				}
				l = &link{s: s}
				links[p] = l
			}
			if l.asked = second; r.write(l.s, hello()) != nil {
				delete(links, p)
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	for _, l := range links {
		_ = l.s.Reset()
	}
}

// flood does ten times a second, to every peer, what the kind says. Who is cut off
// comes back at once.
func (r *raw) flood(ctx context.Context, kind string) {
	lot := rand.New(rand.NewPCG(r.w.cfg.Seed, uint64(r.host.Number)))
	streams := map[peer.ID]network.Stream{}
	topic := shard.PubsubTopic()
	defer func() {
		for _, s := range streams {
			_ = s.Reset()
		}
	}()
	for n := uint64(0); ctx.Err() == nil; n++ {
		peers := r.host.Network().Peers()
		for range max(0, r.w.cfg.Attack.Dials-len(peers)) {
			victim := r.w.nodes[lot.IntN(r.w.cfg.Members)]
			_ = r.host.Connect(ctx, peer.AddrInfo{ID: victim.host.ID()})
		}
		rpc := r.rpc(kind, n, topic, lot)
		for _, p := range peers {
			if streams[p] == nil {
				s, err := r.host.NewStream(ctx, p, relay.ID)
				if err != nil {
					continue
				}
				streams[p] = s
				_ = r.write(s, hello())
			}
			if r.write(streams[p], rpc) != nil {
				delete(streams, p)
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (r *raw) write(s network.Stream, rpc *pb.RPC) error {
	b, err := proto.Marshal(rpc)
	if err != nil {
		return err
	}
	_ = s.SetWriteDeadline(time.Now().Add(time.Second))
	_, err = s.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...))
	r.sent.Add(1)
	return err
}

func (r *raw) rpc(kind string, n uint64, topic string, lot *rand.Rand) *pb.RPC {
	ids := func(count int) (all []string) {
		for range count {
			var id [32]byte
			for i := range 4 {
				binary.BigEndian.PutUint64(id[8*i:], lot.Uint64())
			}
			all = append(all, string(id[:]))
		}
		return all
	}
	c := new(pb.ControlMessage)
	switch kind {
	case "spam":
		m := newMessage(int(forgedFrom+uint64(r.host.Number)<<20+n), r.w.cfg.Size, time.Now())
		_ = r.forger.Sign(topic, m)
		return &pb.RPC{Publish: []*pb.Message{{Topic: &topic, Data: m.Encode()}}}
	case "graft":
		c.Graft = []*pb.ControlGraft{{TopicID: &topic}}
	case "ihave":
		c.Ihave = []*pb.ControlIHave{{TopicID: &topic, MessageIDs: ids(5000)}}
	case "iwant":
		c.Iwant = []*pb.ControlIWant{{MessageIDs: ids(1000)}}
	case "idontwant":
		c.Idontwant = []*pb.ControlIDontWant{{MessageIDs: ids(1000)}}
	}
	return &pb.RPC{Control: c}
}

// AttackResult is what came of an attack.
type AttackResult struct {
	Kind      string
	Attackers int
	// Held is the share of members' mesh links that end at attackers, by seconds
	// since counting began.
	Held []float64
	// ForgedDelivered and ForgedPassedOn count forged messages that a member
	// delivered, and that one passed on to an attacker. Sent counts attackers' RPCs.
	ForgedDelivered, ForgedPassedOn, Sent int64
	// Honest is how many honest peers the victim of an eclipse has in its mesh in
	// the end, or the member that has fewest.
	Honest int
}

// held is the share of members' mesh links that end at attackers, and the number of
// honest peers in the mesh of the member that has fewest, or of the eclipse's victim.
func (w *world) held() (share float64, honest int) {
	links, theirs := 0, 0
	honest = 1 << 30
	for i, n := range w.members() {
		if n.gone.Load() {
			continue
		}
		mesh := n.relay.Mesh(shard)
		links += len(mesh)
		good := 0
		for _, p := range mesh {
			if w.hostile[p] {
				theirs++
			} else {
				good++
			}
		}
		if w.cfg.Attack.Kind == "eclipse" && i > 0 {
			continue
		}
		honest = min(honest, good)
	}
	return float64(theirs) / float64(max(1, links)), honest
}
