package relay

import (
	"errors"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// refusedSource marks, as the author of a message, what the inspector refused.
// The router then drops it before announcing it to the mesh, blames nobody and
// counts an IWANT for it as answered. No peer id looks like this.
const refusedSource = peer.ID("refused by the inspector")

var errDropped = errors.New("relay: RPC dropped")

// inspect sees every RPC before the router does, on the router's event loop. It
// refuses what is cheap to refuse.
func (r *Relay) inspect(from peer.ID, rpc *pubsub.RPC) error {
	switch r.peers.admit(from, controlItems(rpc)) {
	case admitCut:
		r.refused.add("cut peer", 1)
		r.disconnect(from)
		return errDropped
	case admitFlood:
		r.refused.add("control flood", 1)
		r.faultControl(from)
		return errDropped
	}
	r.probing.Store(false)
	kept := rpc.Publish[:0]
	copies := 0
	for _, pm := range rpc.Publish {
		st := r.shards.get(pm.GetTopic())
		if st == nil || !st.joined() {
			r.refused.add("foreign shard", 1)
			continue
		}
		// What the library doesn't know it would keep and forward: room for
		// anybody's ballast around somebody else's valid message.
		if len(pm.ProtoReflect().GetUnknown()) > 0 {
			pm.ProtoReflect().SetUnknown(nil)
		}
		if r.peers.isCopy(st.topic, r.sum(pm.Data)) {
			copies++ // the router knows what to do
		} else if reason, verdict := r.screen(from, st, pm); verdict != message.Accept {
			r.refused.add(reason, 1)
			pm.From = []byte(refusedSource)
			if verdict == message.Reject {
				r.fault(from, reason, false)
			} else {
				r.peers.turnDown(messageKey(messageID(pm)))
			}
		} else if len(pm.Data) >= r.profile.IDontWantSize && r.peers.suspicious(st.topic) &&
			r.peers.probe(st.topic, messageID(pm)) {
			r.probing.Store(true)
		}
		kept = append(kept, pm)
	}
	rpc.Publish = kept
	if copies > 0 && r.peers.admit(from, copies) == admitFlood {
		r.refused.add("copy flood", 1)
		r.faultControl(from)
		return errDropped
	}
	if rpc.Control != nil {
		r.peers.overheard(from, rpc.Control)
		r.peers.dontAskAgain(rpc.Control)
	}
	return nil
}

// screen judges one message by what costs little.
func (r *Relay) screen(from peer.ID, st *shardState, pm *pb.Message) (reason string, v message.Verdict) {
	if len(pm.From) != 0 || pm.Seqno != nil || pm.Signature != nil || pm.Key != nil {
		return "author fields", message.Ignore // StrictNoSign; nwaku is laxer
	}
	if len(pm.Data) > r.cfg.MaxMessageSize {
		return "too large", message.Ignore
	}
	m, err := message.Decode(pm.Data)
	if err != nil {
		return "malformed", message.Reject
	}
	if len(m.Meta) > message.MaxMetaLen {
		return "meta too long", message.Reject
	}
	if m.Validate() != nil {
		return "empty field", message.Ignore // nwaku forwards these
	}
	in := &message.Received{PubsubTopic: st.topic, Message: m, From: string(from), At: r.cfg.Now()}
	switch r.runScreen(st, in) {
	case message.Accept:
	case message.Reject:
		return "screen reject", message.Reject
	default:
		return "screen ignore", message.Ignore
	}
	if !r.peers.spend(from) {
		return "unproven peer", message.Ignore
	}
	return "", message.Accept
}

// runScreen asks the shard's Screen. A panic counts as Ignore.
func (r *Relay) runScreen(st *shardState, in *message.Received) (verdict message.Verdict) {
	screen := st.rules.Load().Screen
	if screen == nil {
		return message.Accept
	}
	defer r.contain(st, &verdict)
	return screen(in)
}

// controlItems is what an RPC costs its sender's control budget.
func controlItems(rpc *pubsub.RPC) int {
	n := len(rpc.Subscriptions)
	if len(rpc.Publish) == 0 {
		n++ // nothing at all isn't free
	}
	if c := rpc.Control; c != nil {
		n += len(c.Graft) + len(c.Prune) + len(c.Ihave) + len(c.Iwant) + len(c.Idontwant)
		for _, x := range c.Ihave {
			n += len(x.MessageIDs)
		}
		for _, x := range c.Iwant {
			n += len(x.MessageIDs)
		}
		for _, x := range c.Idontwant {
			n += len(x.MessageIDs)
		}
		for _, x := range c.Prune {
			n += len(x.Peers)
		}
	}
	return n
}

// subscriptionFilter bounds what a peer can make us remember.
type subscriptionFilter Relay

// CanSubscribe implements pubsub.SubscriptionFilter.
func (f *subscriptionFilter) CanSubscribe(topic string) bool {
	_, err := sharding.ParsePubsubTopic(topic)
	return err == nil
}

// FilterIncomingSubscriptions implements pubsub.SubscriptionFilter: static
// shards only, and no more of them per peer than a cluster has.
func (f *subscriptionFilter) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	kept := subs[:0]
	for _, sub := range subs {
		s, err := sharding.ParsePubsubTopic(sub.GetTopicid())
		if err == nil && f.peers.subscribed(from, s, sub.GetSubscribe()) {
			kept = append(kept, sub)
		}
	}
	return kept, nil
}

// refusals is the router's blacklist: cut peers and refused messages.
type refusals Relay

// Add implements pubsub.Blacklist. Nothing is added from outside.
func (b *refusals) Add(peer.ID) bool { return false }

// Contains implements pubsub.Blacklist.
func (b *refusals) Contains(p peer.ID) bool {
	return p == refusedSource || b.peers.isCut(p)
}
