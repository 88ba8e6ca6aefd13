package relay

import (
	"sync"
	"sync/atomic"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// Stats is a snapshot of what a Relay has counted since it started.
type Stats struct {
	// Shards holds the shards ever subscribed or given rules.
	Shards []ShardStats
	// Refused counts what the inspector took out before other peers were told,
	// by reason: "malformed", "odd encoding", "too large", "meta too long",
	// "empty field", "author fields", "foreign shard", "screen reject", "screen
	// ignore", "overload", "unproven peer", "control flood", "message flood", "cut
	// peer".
	Refused map[string]uint64
	// ControlIn and ControlOut count bytes of GossipSub control messages by
	// kind: "ihave", "iwant", "idontwant", "graft", "prune".
	ControlIn, ControlOut map[string]uint64
	// DroppedRPCs counts RPCs that found a peer's queue full.
	DroppedRPCs uint64
	// PeersCut counts disconnections for misbehaviour.
	PeersCut uint64
}

// ShardStats counts what happened on one shard. Bytes are those of encoded
// messages, without GossipSub's framing.
type ShardStats struct {
	Shard sharding.Shard
	// Delivered messages passed every rule, own ones included.
	Delivered uint64
	// Rejected and Ignored count what the gate refused. Overload counts what was
	// refused for want of room, at the gate or before, and Panics the panics of
	// the shard's rules.
	Rejected, Ignored, Overload, Panics uint64
	// Duplicates were seen before, by their bytes or by their hash.
	Duplicates uint64
	// In and Out count messages received from and queued for peers, copies
	// included; BytesIn and BytesOut their bytes.
	In, Out, BytesIn, BytesOut uint64
	// Lost counts messages that slow readers lost.
	Lost uint64
	// TopicBytes counts delivered bytes by content topic, for the topics that
	// some Subscription asked for; "other" holds the rest.
	TopicBytes map[string]uint64
}

// Stats returns a snapshot.
func (r *Relay) Stats() Stats {
	s := Stats{
		Refused:     r.refused.snapshot(),
		ControlIn:   r.controlIn.snapshot(),
		ControlOut:  r.controlOut.snapshot(),
		DroppedRPCs: r.dropped.Load(),
		PeersCut:    r.cuts.Load(),
	}
	for _, st := range r.shards.all() {
		t := &st.traffic
		sh := ShardStats{
			Shard:      st.shard,
			Delivered:  t.delivered.Load(),
			Rejected:   t.rejected.Load(),
			Ignored:    t.ignored.Load(),
			Overload:   t.overload.Load(),
			Panics:     t.panics.Load(),
			Duplicates: t.duplicates.Load(),
			In:         t.in.Load(),
			Out:        t.out.Load(),
			BytesIn:    t.bytesIn.Load(),
			BytesOut:   t.bytesOut.Load(),
			Lost:       t.lost.Load(),
			TopicBytes: t.topicBytes(),
		}
		s.Shards = append(s.Shards, sh)
	}
	return s
}

type traffic struct {
	refused    tally
	controlIn  tally
	controlOut tally
	dropped    atomic.Uint64
	cuts       atomic.Uint64
}

// tally counts by name. Names are constants of ours, never a stranger's.
type tally struct {
	m sync.Map // string → *atomic.Uint64
}

func (t *tally) add(name string, n int) {
	c, ok := t.m.Load(name)
	if !ok {
		c, _ = t.m.LoadOrStore(name, new(atomic.Uint64))
	}
	c.(*atomic.Uint64).Add(uint64(n))
}

func (t *tally) snapshot() map[string]uint64 {
	out := map[string]uint64{}
	t.m.Range(func(name, c any) bool {
		out[name.(string)] = c.(*atomic.Uint64).Load()
		return true
	})
	return out
}

const otherTopics = "other"

type shardTraffic struct {
	delivered, rejected, ignored, overload, panics, duplicates atomic.Uint64
	in, out, bytesIn, bytesOut, lost, bytes                    atomic.Uint64
	asked                                                      sync.Map // content topic → *atomic.Uint64
	other                                                      atomic.Uint64
}

func (t *shardTraffic) ask(contentTopic string) {
	t.asked.LoadOrStore(contentTopic, new(atomic.Uint64))
}

func (t *shardTraffic) deliver(m *message.Message) {
	t.delivered.Add(1)
	t.bytes.Add(uint64(m.Size()))
	c, ok := t.asked.Load(m.ContentTopic)
	if !ok {
		t.other.Add(uint64(m.Size()))
		return
	}
	c.(*atomic.Uint64).Add(uint64(m.Size()))
}

func (t *shardTraffic) topicBytes() map[string]uint64 {
	out := map[string]uint64{otherTopics: t.other.Load()}
	t.asked.Range(func(topic, c any) bool {
		out[topic.(string)] = c.(*atomic.Uint64).Load()
		return true
	})
	return out
}
