package relay_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/libp2p/go-libp2p"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

// A relay on a host of its own, with a rule: no message over 1 KiB.
func Example() {
	host, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	r, err := relay.New(host, relay.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	shard := sharding.Shard{Cluster: 16, Index: 128}
	r.SetRules(shard, relay.Rules{Screen: func(in *message.Received) message.Verdict {
		if in.Message.Size() > 1024 {
			return message.Ignore
		}
		return message.Accept
	}})
	sub, err := r.Subscribe(shard, relay.SubscribeConfig{ContentTopics: []string{"/chat/1/lobby/proto"}})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()

	ctx := context.Background()
	_, err = r.Publish(ctx, shard, &message.Message{
		Payload:      []byte("hello"),
		ContentTopic: "/chat/1/lobby/proto",
		Timestamp:    time.Now().UnixNano(),
	})
	if err != nil {
		log.Fatal(err)
	}
	env, err := sub.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", env.Shard, env.Message.Payload)
	// Output: 16/128: hello
}
