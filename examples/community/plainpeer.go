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

// plainPeer knows the shard and a node's address, but not the key. It is built on
// the pubsub library alone: it refuses nothing, and nothing of Shoal's holds it
// back.
type plainPeer struct {
	host  host.Host
	end   context.CancelFunc // of the pubsub router
	topic *pubsub.Topic
	sub   *pubsub.Subscription

	mu    sync.Mutex
	heard []*message.Message
	done  chan struct{}
}

// metadata is the answer to "which network and shards?": cluster 16, shard 128
// (66/WAKU2-METADATA), in its frame.
var metadata = []byte{9, 0x08, 16, 0x10, 0x80, 1, 0x1a, 2, 0x80, 1}

func newPlainPeer(ctx context.Context, addr string) (*plainPeer, error) {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	p := &plainPeer{host: h, end: end, done: make(chan struct{})}
	h.SetStreamHandler("/vac/waku/metadata/1.0.0", func(stream network.Stream) {
		defer stream.Close()
		io.CopyN(io.Discard, stream, 2)
		stream.Write(metadata)
	})
	quiet := pubsub.DefaultGossipSubParams()
	quiet.Dlazy, quiet.GossipFactor = 0, 0
	router, err := pubsub.NewGossipSub(life, h,
		pubsub.WithGossipSubProtocols([]protocol.ID{relay.ID},
			func(pubsub.GossipSubFeature, protocol.ID) bool { return true }),
		pubsub.WithGossipSubParams(quiet),
		pubsub.WithFloodPublish(true), // whether or not anybody wants it in a mesh
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { id := sha256.Sum256(m.Data); return string(id[:]) }))
	if err == nil {
		p.topic, err = router.Join(shard.PubsubTopic())
	}
	if err == nil {
		p.sub, err = p.topic.Subscribe()
	}
	if err == nil {
		var info *peer.AddrInfo
		if info, err = peer.AddrInfoFromString(addr); err == nil {
			err = h.Connect(ctx, *info)
		}
	}
	if err != nil {
		end()
		h.Close()
		return nil, err
	}
	go p.listen(life)
	return p, nil
}

func (p *plainPeer) listen(ctx context.Context) {
	defer close(p.done)
	for {
		m, err := p.sub.Next(ctx)
		if err != nil {
			return
		}
		heard, err := message.Decode(m.Data)
		if err != nil || m.ReceivedFrom == p.host.ID() {
			continue
		}
		p.mu.Lock()
		p.heard = append(p.heard, heard.Clone())
		p.mu.Unlock()
	}
}

// recorded is all it heard: nothing on a shard is secret by itself.
func (p *plainPeer) recorded() []*message.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard
}

// connected tells whether anybody would take its messages.
func (p *plainPeer) connected() bool { return len(p.topic.ListPeers()) > 0 }

func (p *plainPeer) send(ctx context.Context, m *message.Message) error {
	return p.topic.Publish(ctx, m.Encode())
}

func (p *plainPeer) close() error {
	p.end()
	<-p.done
	return p.host.Close()
}

// forge makes a signature of noise: of the right form, by nobody.
func forge() []byte {
	sig := make([]byte, 64)
	rand.Read(sig)
	// Small enough for both halves to be in range and the second to be low.
	sig[0], sig[32] = sig[0]&0x7f, sig[32]&0x3f
	return sig
}
