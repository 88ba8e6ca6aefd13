package scorecard

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// BenchmarkPipeline measures a message's way from a peer's stream through the
// shard's rules to a reader: read, decoded, screened, judged, delivered. Run it
// with -cpu 1. The signing happens before the clock starts.
func BenchmarkPipeline(b *testing.B) {
	for _, size := range []int{50, 2050} {
		for name, rules := range map[string]func() relay.Rules{
			"open":   func() relay.Rules { return relay.Rules{} },
			"signed": guarded,
		} {
			b.Run(fmt.Sprintf("%s/%dB", name, size), func(b *testing.B) { pipeline(b, size, rules()) })
		}
	}
}

func pipeline(b *testing.B, size int, rules relay.Rules) {
	hosts := p2ptest.Hosts(b, 2)
	r, err := relay.New(hosts[0], relay.Config{})
	require.NoError(b, err)
	defer r.Close()
	r.SetRules(shard, rules)
	sub, err := r.Subscribe(shard, relay.SubscribeConfig{Buffer: 1 << 12})
	require.NoError(b, err)
	peer := p2ptest.NewRawPubsub(b, hosts[1])
	p2ptest.Connect(b, hosts[1], hosts[0])

	topic := shard.PubsubTopic()
	at := time.Now()
	rpcs := make([]*pb.RPC, b.N)
	for i := range rpcs {
		m := &message.Message{
			Payload:      []byte(strings.Repeat("x", size)),
			ContentTopic: contentTopic,
			Timestamp:    at.UnixNano() + int64(i),
		}
		require.NoError(b, key.Sign(topic, m))
		rpcs[i] = p2ptest.Publish(topic, m.Encode())
	}
	key.PublicKey().Verify([32]byte{}, make([]byte, 64)) // builds the table
	b.ReportAllocs()
	b.ResetTimer()
	const ahead = 128 // within what a peer may have under way
	go func() {
		for i := range min(ahead, b.N) {
			_ = peer.Send(hosts[0].ID(), rpcs[i])
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for i := range b.N {
		if _, err := sub.Next(ctx); err != nil {
			b.Fatal(err)
		}
		if i+ahead < b.N {
			if err := peer.Send(hosts[0].ID(), rpcs[i+ahead]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
