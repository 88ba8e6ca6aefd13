package relay

import (
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"

	"github.com/status-im/shoal/sharding"
)

// tracer hears what the router does, mostly on its event loop. What one says that
// has been stopped isn't heard any more.
type tracer router

var _ pubsub.RawTracer = (*tracer)(nil)

// OnNewOutboundStream implements pubsub.RawTracer.
func (t *tracer) OnNewOutboundStream(p peer.ID, _ protocol.ID) {
	if t.heard.RLock(); !t.stopped {
		t.peers.stream(p, true)
	}
	t.heard.RUnlock()
}

// OnClosedOutboundStream implements pubsub.RawTracer. The router has now
// forgotten what the peer subscribed to, and the peer won't say it again on the
// connection they have: it has to go, if it hasn't yet.
func (t *tracer) OnClosedOutboundStream(p peer.ID) {
	t.heard.RLock()
	defer t.heard.RUnlock()
	if !t.stopped {
		t.meshesChanged(p, t.peers.stream(p, false))
		t.disconnect(p)
	}
}

func (r *Relay) arrived(c network.Conn) {
	if p := c.RemotePeer(); !r.peers.arrived(p, addrKey(c.RemoteMultiaddr())) {
		r.disconnect(p)
	}
}

func (r *Relay) gone(p peer.ID) { r.meshesChanged(p, r.peers.disconnected(p)) }

func (r *Relay) meshesChanged(p peer.ID, sizes map[string]int) {
	for topic, size := range sizes {
		r.meshChanged(p, topic, size)
	}
}

// Join implements pubsub.RawTracer.
func (t *tracer) Join(string) {}

// Leave implements pubsub.RawTracer.
func (t *tracer) Leave(topic string) {
	if t.heard.RLock(); !t.stopped {
		t.peers.left(topic)
	}
	t.heard.RUnlock()
}

// Graft implements pubsub.RawTracer.
func (t *tracer) Graft(p peer.ID, topic string) {
	t.heard.RLock()
	defer t.heard.RUnlock()
	if !t.stopped {
		t.meshChanged(p, topic, t.peers.grafted(p, topic))
	}
}

// Prune implements pubsub.RawTracer.
func (t *tracer) Prune(p peer.ID, topic string) {
	t.heard.RLock()
	defer t.heard.RUnlock()
	if t.stopped {
		return
	}
	if size, was := t.peers.pruned(p, topic); was {
		t.meshChanged(p, topic, size)
	}
}

func (r *Relay) meshChanged(p peer.ID, topic string, size int) {
	if st := r.shards.get(topic); st != nil {
		r.emit(Event{Kind: MeshChanged, Peer: p, Shard: st.shard, Count: size})
	}
}

// ValidateMessage implements pubsub.RawTracer.
func (t *tracer) ValidateMessage(m *pubsub.Message) {
	t.peers.arriving(m.GetTopic(), messageKey(m.ID), t.sum(m.Data))
}

// DeliverMessage implements pubsub.RawTracer.
func (t *tracer) DeliverMessage(*pubsub.Message) {}

// RejectMessage implements pubsub.RawTracer.
func (t *tracer) RejectMessage(*pubsub.Message, string) {}

// DuplicateMessage implements pubsub.RawTracer.
func (t *tracer) DuplicateMessage(m *pubsub.Message) {
	if st := t.shards.get(m.GetTopic()); st != nil {
		st.traffic.duplicates.Add(1)
	}
	if m.ReceivedFrom != t.host.ID() {
		t.peers.duplicate(m.ReceivedFrom, m.GetTopic(), messageKey(m.ID))
	}
}

// ThrottlePeer implements pubsub.RawTracer.
func (t *tracer) ThrottlePeer(peer.ID) {}

// RecvRPC implements pubsub.RawTracer.
func (t *tracer) RecvRPC(rpc *pubsub.RPC) {
	for _, m := range rpc.Publish {
		if st := t.shards.get(m.GetTopic()); st != nil {
			st.traffic.in.Add(1)
			st.traffic.bytesIn.Add(uint64(len(m.Data)))
			t.onTraffic(st.shard, m.Data, false)
		}
	}
	countControl(&t.controlIn, rpc)
}

// SendRPC implements pubsub.RawTracer.
func (t *tracer) SendRPC(rpc *pubsub.RPC, p peer.ID) {
	for _, m := range rpc.Publish {
		if st := t.shards.get(m.GetTopic()); st != nil {
			st.traffic.out.Add(1)
			st.traffic.bytesOut.Add(uint64(len(m.Data)))
			t.onTraffic(st.shard, m.Data, true)
		}
	}
	if t.publishing != nil && len(rpc.Publish) > 0 {
		t.publishing.handed = append(t.publishing.handed, p)
	}
	countControl(&t.controlOut, rpc)
}

func (r *Relay) onTraffic(s sharding.Shard, data []byte, out bool) {
	if r.cfg.OnTraffic != nil {
		r.cfg.OnTraffic(s, data, out)
	}
}

// DropRPC implements pubsub.RawTracer.
func (t *tracer) DropRPC(*pubsub.RPC, peer.ID) { t.dropped.Add(1) }

// UndeliverableMessage implements pubsub.RawTracer.
func (t *tracer) UndeliverableMessage(*pubsub.Message) {}

func countControl(t *tally, rpc *pubsub.RPC) {
	c := rpc.Control
	if c == nil {
		return
	}
	count(t, "ihave", c.Ihave)
	count(t, "iwant", c.Iwant)
	count(t, "idontwant", c.Idontwant)
	count(t, "graft", c.Graft)
	count(t, "prune", c.Prune)
}

func count[M proto.Message](t *tally, name string, msgs []M) {
	if len(msgs) == 0 {
		return
	}
	n := 0
	for _, m := range msgs {
		size := proto.Size(m)
		n += 1 + varintSize(size) + size
	}
	t.add(name, n)
}

func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
