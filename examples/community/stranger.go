package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"sync"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// stranger knows the shard and a node's address, but not the key. It is built on
// the pubsub library alone: nothing of Shoal's holds it back.
type stranger struct {
	host  host.Host
	topic *pubsub.Topic
	sub   *pubsub.Subscription

	mu    sync.Mutex
	heard []*message.Message // whoever listens can hear
	done  chan struct{}
}

// metadata is the answer to "which network and shards?": cluster 16, shard 128
// (66/WAKU2-METADATA), in its frame.
var metadata = []byte{9, 0x08, 16, 0x10, 0x80, 1, 0x1a, 2, 0x80, 1}

func newStranger(ctx context.Context, addr string) (*stranger, error) {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return nil, err
	}
	s := &stranger{host: h, done: make(chan struct{})}
	h.SetStreamHandler("/vac/waku/metadata/1.0.0", func(stream network.Stream) {
		defer stream.Close()
		io.CopyN(io.Discard, stream, 2)
		stream.Write(metadata)
	})
	quiet := pubsub.DefaultGossipSubParams()
	quiet.Dlazy, quiet.GossipFactor = 0, 0
	router, err := pubsub.NewGossipSub(context.Background(), h, // ends with the host
		pubsub.WithGossipSubProtocols([]protocol.ID{relay.ID},
			func(pubsub.GossipSubFeature, protocol.ID) bool { return true }),
		pubsub.WithGossipSubParams(quiet),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { id := sha256.Sum256(m.Data); return string(id[:]) }))
	if err == nil {
		s.topic, err = router.Join(shard.PubsubTopic())
	}
	if err == nil {
		s.sub, err = s.topic.Subscribe()
	}
	if err == nil {
		var info *peer.AddrInfo
		if info, err = peer.AddrInfoFromString(addr); err == nil {
			err = h.Connect(ctx, *info)
		}
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	go s.listen()
	return s, nil
}

func (s *stranger) listen() {
	defer close(s.done)
	for {
		m, err := s.sub.Next(context.Background())
		if err != nil {
			return
		}
		heard, err := message.Decode(m.Data)
		if err != nil || m.ReceivedFrom == s.host.ID() {
			continue
		}
		s.mu.Lock()
		s.heard = append(s.heard, heard.Clone())
		s.mu.Unlock()
	}
}

func (s *stranger) recorded() []*message.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// connected tells whether anybody would take its messages.
func (s *stranger) connected() bool { return len(s.topic.ListPeers()) > 0 }

func (s *stranger) send(ctx context.Context, m *message.Message) error {
	return s.topic.Publish(ctx, m.Encode())
}

func (s *stranger) close() error {
	s.sub.Cancel()
	<-s.done
	return s.host.Close()
}

// forge makes a signature of noise: of the right form, by nobody.
func forge() []byte {
	sig := make([]byte, 64)
	rand.Read(sig)
	// Small enough for both halves to be in range and the second to be low.
	sig[0], sig[32] = sig[0]&0x7f, sig[32]&0x3f
	return sig
}
