package waku_test

import (
	"context"
	"fmt"
	stdnet "net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/waku"
)

// flood sends unsigned messages to one node, from one peer after the other: each is
// cut soon.
type flood struct {
	sent atomic.Int64
}

const unsigned = "unsigned"

// startFlood attacks n through hosts of net.
func startFlood(t *testing.T, net *p2ptest.Network, n *waku.Node) (f *flood, stop func()) {
	f = new(flood)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				f.attack(ctx, t, net, n)
			}
		})
	}
	return f, func() { cancel(); wg.Wait() }
}

// attack is the life of one identity.
func (f *flood) attack(ctx context.Context, t *testing.T, net *p2ptest.Network, n *waku.Node) {
	h := net.Host(p2ptest.HostConfig{})
	defer h.Close()
	raw := p2ptest.NewRawPubsub(t, h)
	defer raw.Close()
	answerMetadata(h)
	info := addrInfo(t, n)
	if h.Connect(ctx, info) != nil {
		return
	}
	topic := town.PubsubTopic()
	if raw.Send(info.ID, p2ptest.Subscribe(topic), p2ptest.Graft(topic)) != nil {
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		m := &message.Message{
			Payload:      fmt.Appendf(nil, "%s %s %d", unsigned, h.ID(), i),
			ContentTopic: lobby,
			Timestamp:    time.Now().UnixNano(),
		}
		if raw.Send(info.ID, p2ptest.Publish(topic, m.Encode())) != nil {
			return // cut
		}
		f.sent.Add(1)
		time.Sleep(100 * time.Microsecond)
	}
}

// innocent reads everything and fails on what nobody signed.
type innocent struct {
	t   *testing.T
	got atomic.Int64
	end func()
}

func newInnocent(t *testing.T, m *waku.Membership) *innocent {
	ctx, cancel := context.WithCancel(context.Background())
	r := &innocent{t: t}
	messages := m.Messages(ctx)
	var wg sync.WaitGroup
	r.end = func() { cancel(); wg.Wait() }
	wg.Go(func() {
		for env, err := range messages {
			switch {
			case err != nil:
			case len(env.Message.Meta) == 0:
				t.Errorf("unsigned message delivered: %q", env.Message.Payload)
			default:
				r.got.Add(1)
			}
		}
	})
	return r
}

// has waits for so many signed messages, and for no more.
func (r *innocent) has(want int64) {
	r.t.Helper()
	p2ptest.Eventually(r.t, func() bool { return r.got.Load() >= want }, "have %d of %d", r.got.Load(), want)
	require.Equal(r.t, want, r.got.Load())
}

func TestProtectedShardHasNoUnguardedMoment(t *testing.T) {
	key, other := newKey(t), newKey(t)
	community := waku.Community{Shard: town, PublicKey: key.PublicKey()}
	net := p2ptest.New(t, p2ptest.Config{})
	n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
	ear := p2ptest.NewRawPubsub(t, net.Host(p2ptest.HostConfig{}))
	answerMetadata(ear.Host)
	require.NoError(t, ear.Host.Connect(within(t), addrInfo(t, n)))
	require.NoError(t, ear.Send(n.PeerID(), p2ptest.Subscribe(town.PubsubTopic()), p2ptest.Graft(town.PubsubTopic())))
	f, stopFlood := startFlood(t, net, n)
	defer stopFlood()
	attacked := func() {
		target := f.sent.Load() + 20
		p2ptest.Eventually(t, func() bool { return f.sent.Load() >= target }, "the flood dried up")
	}

	// A key that comes late.
	m := join(t, n, waku.Community{Shard: town, Protected: true}, waku.AwaitKey())
	reader := newInnocent(t, m)
	attacked()
	_, err := m.Send(within(t), lobby, []byte("x"))
	require.ErrorIs(t, err, waku.ErrNoSigningKey)
	require.NoError(t, m.AddKey(key.PublicKey(), time.Time{}, time.Time{}))
	require.NoError(t, m.SetSigner(key))
	attacked()
	send(t, m)
	reader.has(1)
	require.NoError(t, m.Leave())
	reader.end()

	// Leaving and joining again.
	for range 12 {
		m := join(t, n, community, waku.SignWith(key))
		reader := newInnocent(t, m)
		send(t, m)
		attacked()
		reader.has(1)
		require.NoError(t, m.Leave())
		reader.end()
	}

	// Two Joins and one Leave, again and again.
	first := join(t, n, community, waku.SignWith(key))
	reader = newInnocent(t, first)
	for range 6 {
		second := join(t, n, community)
		secondReader := newInnocent(t, second)
		send(t, first)
		attacked()
		secondReader.has(1)
		require.NoError(t, second.Leave())
		secondReader.end()
		send(t, first)
	}
	reader.has(12)

	// Rotation, there and back.
	for i := range 6 {
		next := []*dosguard.PrivateKey{other, key}[i%2]
		require.NoError(t, first.Rotate(next, 0))
		send(t, first)
		attacked()
	}
	reader.has(18)
	require.NoError(t, first.RemoveKey(key.PublicKey()))
	attacked()
	reader.has(18)
	reader.end()

	for _, pm := range ear.Messages() {
		got, err := message.Decode(pm.GetData())
		require.NoError(t, err)
		require.NotEmpty(t, got.Meta, "unsigned message forwarded: %q", got.Payload)
	}
	refused := n.Health().Shards[0].Refused
	require.NotZero(t, refused["no_signature"], "the flood reached nobody: %v", refused)
	t.Logf("unsigned messages sent: %d; refused: %v", f.sent.Load(), refused)
}

// The same flood gets through where nobody asks for a signature: the tests above
// would notice.
func TestFloodOfUnprotectedShard(t *testing.T) {
	net := p2ptest.New(t, p2ptest.Config{})
	n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
	r := subscribe(t, join(t, n, waku.Community{Shard: town}))
	_, stop := startFlood(t, net, n)
	defer stop()
	require.Contains(t, string(next(t, r).Message.Payload), unsigned)
}

func send(t *testing.T, m *waku.Membership) {
	t.Helper()
	sent(t, m, lobby, []byte("signed"))
}

// A node that comes up, crashes and comes up again passes nothing unsigned at any
// moment, whether its key is configured, comes with the Join, or later.
func TestProtectedFromTheFirstMoment(t *testing.T) { restartUnderProbes(t, 20) }

func restartUnderProbes(t *testing.T, restarts int) {
	p2ptest.Bubble(t, func(t *testing.T) {
		key := newKey(t)
		net := p2ptest.New(t, p2ptest.Config{})
		prober := p2ptest.NewRawPubsub(t, net.Host(p2ptest.HostConfig{}))
		answerMetadata(prober.Host)
		topic := town.PubsubTopic()
		probes := 0
		probe := func(n *waku.Node) {
			m := message.Message{Payload: fmt.Append(nil, probes), ContentTopic: lobby, Timestamp: time.Now().UnixNano()}
			if prober.Send(n.PeerID(), p2ptest.Subscribe(topic), p2ptest.Graft(topic), p2ptest.Publish(topic, m.Encode())) == nil {
				probes++
			}
			time.Sleep(time.Millisecond)
		}
		for i := range restarts {
			var opts []waku.Option
			community, join1 := waku.Community{Shard: town}, []waku.JoinOption{}
			switch i % 3 {
			case 0:
				opts = append(opts, waku.WithProtectedShard(town, key.PublicKey()))
			case 1:
				community.PublicKey = key.PublicKey()
			case 2:
				join1 = append(join1, waku.AwaitKey())
			}
			h := net.Host(fleetConfig())
			n := start(t, append(opts, waku.WithHost(h))...)
			require.NoError(t, prober.Host.Connect(within(t), p2ptest.AddrInfo(h)))
			probe(n)
			m := join(t, n, community, join1...)
			r := subscribe(t, m)
			probe(n)
			require.NoError(t, m.AddKey(key.PublicKey(), time.Time{}, time.Time{}))
			require.NoError(t, m.SetSigner(key))
			probe(n)
			send(t, m)
			require.NotEmpty(t, next(t, r).Message.Meta)
			require.NoError(t, m.RemoveKey(key.PublicKey()))
			probe(n)
			require.NoError(t, n.Close())
			_, err := r.Next(t.Context())
			require.ErrorIs(t, err, stdnet.ErrClosed)
			require.NoError(t, h.Close())
			time.Sleep(time.Second)
		}
		require.Greater(t, probes, 3*restarts)
		for _, pm := range prober.Messages() {
			got, err := message.Decode(pm.GetData())
			require.NoError(t, err)
			require.NotEmpty(t, got.Meta)
		}
	})
}
