package scorecard

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

// victim runs instead of the tests in the soak tests' own child process.
var victim func()

func TestMain(m *testing.M) {
	if victim != nil && os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	p2ptest.Leaks(m)
}

const victimEnv = "SHOAL_SOAK_VICTIM"

var (
	shard = sharding.Shard{Cluster: 16, Index: 128}
	key   = mustKey("5526a8990317c9b7b58d07843d270f9cd1d9aaee129294c1c478abf7261dd9e6")
)

const contentTopic = "/waku/1/0x9c22ff5f/rfc26"

func mustKey(hex string) *dosguard.PrivateKey {
	k, err := dosguard.ParsePrivateKey(hex)
	if err != nil {
		panic(err)
	}
	return k
}

// guarded is how a protected shard is run.
func guarded() relay.Rules {
	s := dosguard.NewSigned(dosguard.SignedConfig{Keys: dosguard.NewRegistry(key.PublicKey())})
	return relay.Rules{Screen: s.Screen, Validator: s.Validate}
}

// signatureOnly is what remains when a defence is off: the signature alone.
func signatureOnly() relay.Rules {
	return relay.Rules{Validator: func(_ context.Context, in *message.Received) message.Verdict {
		if key.PublicKey().Verify(dosguard.Digest(in.PubsubTopic, in.Message), in.Message.Meta) {
			return message.Accept
		}
		return message.Reject
	}}
}

// strictOnly leaves out the memory of what was seen.
func strictOnly() relay.Rules {
	s := dosguard.NewSigned(dosguard.SignedConfig{Keys: dosguard.NewRegistry(key.PublicKey())})
	return relay.Rules{Validator: func(_ context.Context, in *message.Received) message.Verdict {
		if s.Verify(in.PubsubTopic, in.Message, true) == nil {
			return message.Accept
		}
		return message.Ignore
	}}
}

// line is attacker – node 0 – … – node n-1 – ear.
type line struct {
	t        *testing.T
	hosts    []host.Host
	relays   []*relay.Relay
	subs     []*relay.Subscription
	attacker *p2ptest.RawPubsub
	ear      *p2ptest.RawPubsub
}

func newLine(t *testing.T, n int, rules func() relay.Rules) *line {
	l := &line{t: t, hosts: p2ptest.Hosts(t, n+2)}
	l.attacker = p2ptest.NewRawPubsub(t, l.hosts[n])
	l.ear = p2ptest.NewRawPubsub(t, l.hosts[n+1])
	l.hosts = l.hosts[:n]
	for _, h := range l.hosts {
		r, err := relay.New(h, relay.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { r.Close() })
		r.SetRules(shard, rules())
		sub, err := r.Subscribe(shard, relay.SubscribeConfig{Buffer: 1 << 15})
		require.NoError(t, err)
		l.relays, l.subs = append(l.relays, r), append(l.subs, sub)
	}
	p2ptest.Line(t, l.hosts)
	l.connect(l.attacker, l.hosts[0])
	l.connect(l.ear, l.hosts[n-1])
	time.Sleep(3 * time.Second)
	l.ear.Forget()
	return l
}

func (l *line) connect(x *p2ptest.RawPubsub, h host.Host) {
	p2ptest.Connect(l.t, x.Host, h)
	topic := shard.PubsubTopic()
	require.NoError(l.t, x.Send(h.ID(), p2ptest.Subscribe(topic), p2ptest.Graft(topic)))
}

// send hands encoded messages to node 0, reconnecting when it was cut off.
func (l *line) send(data ...[]byte) {
	l.t.Helper()
	for _, d := range data {
		require.NoError(l.t, l.attacker.Send(l.hosts[0].ID(), p2ptest.Publish(shard.PubsubTopic(), d)))
	}
}

// delivered returns how many messages each node delivered since last asked.
func (l *line) delivered() []int {
	synctest.Wait()
	out := make([]int, len(l.subs))
	for i, sub := range l.subs {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_, err := sub.Next(ctx)
			cancel()
			if err != nil {
				require.ErrorIs(l.t, err, context.DeadlineExceeded)
				break
			}
			out[i]++
		}
	}
	return out
}

func signed(t testing.TB, payload string, at time.Time) *message.Message {
	t.Helper()
	m := &message.Message{Payload: []byte(payload), ContentTopic: contentTopic, Timestamp: at.UnixNano()}
	require.NoError(t, key.Sign(shard.PubsubTopic(), m))
	return m
}
