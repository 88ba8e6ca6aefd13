package relay

import (
	"errors"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

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
func (r *router) inspect(from peer.ID, rpc *pubsub.RPC) error {
	if r.ctx.Err() != nil {
		return errDropped
	}
	if r.host.Network().Connectedness(from) != network.Connected {
		return errDropped // it is gone, and whatever we note would stay
	}
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
	useless := 0
	for _, pm := range rpc.Publish {
		st := r.shards.get(pm.GetTopic())
		if st == nil || !st.joined() {
			r.refused.add("foreign shard", 1)
			useless++
			continue
		}
		if !r.admits(from, st, pm) {
			useless++
		}
		kept = append(kept, pm)
	}
	rpc.Publish = kept
	if useless > 0 && r.peers.admit(from, useless) == admitFlood {
		r.refused.add("message flood", 1)
		r.faultControl(from)
		return errDropped
	}
	if rpc.Control != nil {
		r.inspectControl(from, rpc.Control)
	}
	return nil
}

// admits decides on one message of a joined shard: to the gate with it, or not.
func (r *router) admits(from peer.ID, st *shardState, pm *pb.Message) bool {
	// What the library doesn't know it would keep and forward: room for
	// anybody's ballast around somebody else's valid message.
	if len(pm.ProtoReflect().GetUnknown()) > 0 {
		pm.ProtoReflect().SetUnknown(nil)
	}
	if len(pm.From) != 0 || pm.Seqno != nil || pm.Signature != nil || pm.Key != nil {
		// StrictNoSign, but nwaku is laxer: nobody is to blame.
		r.refuse(pm, "author fields")
		return false
	}
	if r.peers.isCopy(st.topic, r.sum(pm.Data)) {
		return false // the router knows what to do
	}
	switch reason, verdict := r.screen(from, st, pm); {
	case verdict == message.Reject:
		r.refuse(pm, reason)
		r.fault(from, reason)
		return false
	case verdict != message.Accept:
		r.refuse(pm, reason)
		r.peers.turnDown(messageKey(dataID(pm.Data)))
		return false
	}
	// What may change soon is the last to ask: the message may come again.
	if rules := st.rules.Load(); rules.Validator != nil && st.pending.Load() >= int64(rules.crowded()) {
		r.refuse(pm, "overload")
		r.overloaded(st)
		return false
	}
	if !r.peers.spend(from) {
		r.refuse(pm, "unproven peer")
		return false
	}
	if len(pm.Data) >= r.profile.IDontWantSize && r.peers.probe(st.topic, pm.Data) {
		r.probing.Store(true)
	}
	return true
}

// refuse marks a message for the router.
func (r *Relay) refuse(pm *pb.Message, reason string) {
	r.refused.add(reason, 1)
	pm.From = []byte(refusedSource)
}

// screen judges one message by what costs little.
func (r *Relay) screen(from peer.ID, st *shardState, pm *pb.Message) (reason string, v message.Verdict) {
	if len(pm.Data) > r.cfg.MaxMessageSize {
		return "too large", message.Ignore
	}
	m, err := message.Decode(pm.Data)
	switch {
	case errors.Is(err, message.ErrContentTopicUTF8), errors.Is(err, message.ErrFieldNumber):
		return "odd encoding", message.Ignore // nwaku forwards these
	case err != nil:
		return "malformed", message.Reject
	case len(m.Meta) > message.MaxMetaLen:
		return "meta too long", message.Reject
	case m.Validate() != nil:
		return "empty field", message.Ignore // nwaku forwards these
	}
	in := &message.Received{PubsubTopic: st.topic, Message: m, From: string(from), At: r.cfg.Now()}
	switch r.runScreen(st, in) {
	case message.Accept:
		return "", message.Accept
	case message.Reject:
		return "screen reject", message.Reject
	default:
		return "screen ignore", message.Ignore
	}
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

// maxBackoff bounds how long a peer's PRUNE is remembered, in seconds.
const maxBackoff = 3600

// inspectControl takes out of an RPC what the router would keep for too long.
func (r *Relay) inspectControl(from peer.ID, c *pb.ControlMessage) {
	if len(c.Graft) > 0 && !r.peers.mayGraft(from) {
		c.Graft = nil
	}
	for _, p := range c.Prune {
		if p.GetBackoff() > maxBackoff {
			p.Backoff = proto.Uint64(maxBackoff)
		}
	}
	c.Extensions = nil // we have none
	r.peers.overheard(from, c)
	r.peers.dontAskAgain(c)
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
