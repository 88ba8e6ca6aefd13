package filter_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// A service node, and somebody it brings messages to.
func Example() {
	node, light := newHost(), newHost()
	defer node.Close()
	defer light.Close()

	s := filter.NewServer(node, filter.ServerConfig{})
	defer s.Close()

	came := make(chan filter.Push, 1)
	c := filter.NewClient(light, filter.ClientConfig{OnPush: func(p filter.Push) { came <- p }})
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := light.Connect(ctx, peer.AddrInfo{ID: node.ID(), Addrs: node.Addrs()}); err != nil {
		panic(err)
	}
	shard := sharding.Shard{Cluster: 16, Index: 128}
	if err := c.Subscribe(ctx, node.ID(), shard, []string{"/chat/1/lobby/proto"}); err != nil {
		panic(err)
	}

	// What the node gets from elsewhere, it pushes.
	s.Push(shard.PubsubTopic(), &message.Message{Payload: []byte("not for you"), ContentTopic: "/chat/1/den/proto"})
	s.Push(shard.PubsubTopic(), &message.Message{Payload: []byte("good morning"), ContentTopic: "/chat/1/lobby/proto"})

	p := <-came
	fmt.Printf("%s on %s\n", p.Message.Payload, p.PubsubTopic)
	// Output: good morning on /waku/2/rs/16/128
}

// A subscription ends when its service peer hasn't heard of us for five minutes, or
// has been started anew.
func ExampleClient_Ping() {
	var (
		ctx    context.Context
		c      *filter.Client
		p      peer.ID
		shard  sharding.Shard
		topics []string
	)
	for range time.Tick(time.Minute) {
		err := c.Ping(ctx, p)
		if errors.Is(err, filter.ErrNotSubscribed) {
			err = c.Subscribe(ctx, p, shard, topics)
		}
		if err != nil {
			return // ask somebody else
		}
	}
}

func newHost() host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		panic(err)
	}
	return h
}
