package p2ptest

import (
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"google.golang.org/protobuf/proto"
)

// Subscribe announces topics.
func Subscribe(topics ...string) *pb.RPC { return subscription(true, topics) }

// Unsubscribe withdraws them.
func Unsubscribe(topics ...string) *pb.RPC { return subscription(false, topics) }

func subscription(on bool, topics []string) *pb.RPC {
	rpc := new(pb.RPC)
	for _, topic := range topics {
		rpc.Subscriptions = append(rpc.Subscriptions, &pb.RPC_SubOpts{Subscribe: &on, Topicid: proto.String(topic)})
	}
	return rpc
}

// Publish carries messages as Waku's are: data and topic, nothing else.
func Publish(topic string, data ...[]byte) *pb.RPC {
	rpc := new(pb.RPC)
	for _, d := range data {
		rpc.Publish = append(rpc.Publish, &pb.Message{Topic: proto.String(topic), Data: d})
	}
	return rpc
}

// Graft asks to be taken into the meshes of topics.
func Graft(topics ...string) *pb.RPC {
	c := new(pb.ControlMessage)
	for _, topic := range topics {
		c.Graft = append(c.Graft, &pb.ControlGraft{TopicID: proto.String(topic)})
	}
	return &pb.RPC{Control: c}
}

// Prune leaves a mesh; backoff is in seconds, 0 leaves it out.
func Prune(topic string, backoff uint64) *pb.RPC {
	p := &pb.ControlPrune{TopicID: proto.String(topic)}
	if backoff > 0 {
		p.Backoff = &backoff
	}
	return &pb.RPC{Control: &pb.ControlMessage{Prune: []*pb.ControlPrune{p}}}
}

// IHave offers messages by id (raw bytes, which gossipsub carries as strings).
func IHave(topic string, ids ...string) *pb.RPC {
	return &pb.RPC{Control: &pb.ControlMessage{
		Ihave: []*pb.ControlIHave{{TopicID: proto.String(topic), MessageIDs: ids}}}}
}

// IWant asks for messages by id.
func IWant(ids ...string) *pb.RPC {
	return &pb.RPC{Control: &pb.ControlMessage{Iwant: []*pb.ControlIWant{{MessageIDs: ids}}}}
}

// IDontWant calls messages off by id.
func IDontWant(ids ...string) *pb.RPC {
	return &pb.RPC{Control: &pb.ControlMessage{Idontwant: []*pb.ControlIDontWant{{MessageIDs: ids}}}}
}
