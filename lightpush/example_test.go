package lightpush_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// A service and somebody who has a message relayed.
func Example() {
	server, client := newHost(), newHost()
	defer server.Close()
	defer client.Close()

	community := sharding.Shard{Cluster: 16, Index: 128}
	s := lightpush.NewServer(server, func(_ context.Context, from peer.ID, s sharding.Shard, m *message.Message) (int, error) {
		if s != community {
			return 0, lightpush.Refuse(lightpush.StatusUnsupportedPubsubTopic, "only 16/128 here")
		}
		fmt.Printf("relaying %q\n", m.Payload)
		return 6, nil // peers
	}, lightpush.ServerConfig{})
	defer s.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.Connect(ctx, peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
		panic(err)
	}
	c := lightpush.NewClient(client, lightpush.ClientConfig{})
	m := &message.Message{
		Payload:      []byte("hello"),
		ContentTopic: "/chat/1/lobby/proto",
		Timestamp:    time.Now().UnixNano(),
	}
	receipt, err := c.Push(ctx, server.ID(), community, m)
	if err != nil {
		panic(err)
	}
	fmt.Println(receipt.RelayPeers, "peers")

	_, err = c.Push(ctx, server.ID(), sharding.Shard{Cluster: 16, Index: 129}, m)
	fmt.Println("wrong shard:", errors.Is(err, lightpush.ErrUnsupportedShard))
	// Output:
	// relaying "hello"
	// 6 peers
	// wrong shard: true
}

// What to do after a push that failed.
func ExampleStatusError() {
	var (
		ctx      context.Context
		c        *lightpush.Client
		services []peer.ID
		s        sharding.Shard
		m        *message.Message
	)
	for _, p := range services {
		_, err := c.Push(ctx, p, s, m)
		var status *lightpush.StatusError
		switch {
		case err == nil:
			return // relayed
		case ctx.Err() != nil:
			return // out of time
		case errors.As(err, &status) && !status.Temporary():
			return // nobody will take these bytes
		case errors.Is(err, lightpush.ErrMalformed):
			fmt.Println("never again:", p)
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
