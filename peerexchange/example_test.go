package peerexchange_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/sharding"
)

// A service and somebody who asks it.
func Example() {
	server, client := newHost(), newHost()
	defer server.Close()
	defer client.Close()

	known := records(100, 8) // of peers that we have just heard from
	s := peerexchange.NewServer(server, func(_ peer.ID, n int) [][]byte {
		sample := make([][]byte, 0, n)
		for _, i := range rand.Perm(len(known))[:min(n, len(known))] {
			sample = append(sample, known[i])
		}
		return sample
	}, peerexchange.ServerConfig{})
	defer s.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.Connect(ctx, peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
		panic(err)
	}
	c := peerexchange.NewClient(client, peerexchange.ClientConfig{})
	answer, err := c.Ask(ctx, server.ID(), 3)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(answer.Peers), "peers")
	p := answer.Peers[0]
	fmt.Println("on cluster", p.Shards[0].Cluster, "offering", p.Capabilities)
	// Output:
	// 3 peers
	// on cluster 16 offering relay+store
}

// Several services are asked, and what they say is sifted: none of them is trusted.
func ExampleClient_Ask() {
	var (
		ctx      context.Context
		c        *peerexchange.Client
		services []peer.ID
		wanted   sharding.Shard
	)
	candidates := make(map[peer.ID]peerexchange.Peer)
	for _, p := range services {
		answer, err := c.Ask(ctx, p, 20)
		var status *peerexchange.StatusError
		switch {
		case errors.Is(err, peerexchange.ErrMalformed):
			fmt.Println("never again:", p)
		case errors.As(err, &status):
			fmt.Println("later:", p, status.RetryAfter)
		}
		for _, found := range answer.Peers {
			known, ok := candidates[found.Info.ID]
			for _, s := range found.Shards {
				if s == wanted && (!ok || found.Seq > known.Seq) {
					candidates[found.Info.ID] = found
				}
			}
		}
	}
}

func newHost() host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	if err != nil {
		panic(err)
	}
	return h
}
