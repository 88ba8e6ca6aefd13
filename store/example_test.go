package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// A store and somebody who missed its messages.
func Example() {
	server, client := newHost(), newHost()
	defer server.Close()
	defer client.Close()

	s := store.NewServer(server, archive(entries(250)...), store.ServerConfig{})
	defer s.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.Connect(ctx, peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
		panic(err)
	}
	c := store.NewClient(client, store.ClientConfig{})
	q := store.Query{Shard: &sharding.Shard{Cluster: 16, Index: 128}, Start: at(100)}
	n := 0
	for e, err := range c.All(ctx, server.ID(), q) {
		if err != nil {
			panic(err)
		}
		_ = e.Message.Payload
		n++
	}
	fmt.Println(n, "messages")
	// Output: 150 messages
}

// A walk may turn to another peer wherever it stands.
func ExampleClient_Walk() {
	var (
		ctx   context.Context
		c     *store.Client
		peers []peer.ID
	)
	w, err := c.Walk(store.Query{Start: time.Now().Add(-time.Hour)})
	if err != nil {
		return // the question makes no sense
	}
	for more := true; more && len(peers) > 0; {
		var entries []store.Entry
		entries, more, err = w.Next(ctx, peers[0])
		var lie *store.AnswerError
		switch {
		case errors.As(err, &lie):
			fmt.Println("never again:", lie.Peer)
			fallthrough
		case err != nil:
			peers = peers[1:]
		}
		for _, e := range entries {
			fmt.Println(e.Shard, e.Hash)
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
