package waku_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// asChild makes this program a child of TestSilence.
const asChild = "WAKU_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		shortLives()
		return
	}
	p2ptest.Leaks(m)
}

const lobby = "/chat/1/lobby/proto"

var town = sharding.Shard{Cluster: 16, Index: 128}

// oneSocket is what most nodes on sockets listen on here.
func oneSocket() waku.Option { return waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0") }

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func newKey(t testing.TB) *dosguard.PrivateKey {
	t.Helper()
	k, err := dosguard.GenerateKey()
	require.NoError(t, err)
	return k
}

// start returns a node that ends with the test.
func start(t testing.TB, opts ...waku.Option) *waku.Node {
	t.Helper()
	n, err := waku.New(within(t), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func join(t testing.TB, n *waku.Node, c waku.Community, opts ...waku.JoinOption) *waku.Membership {
	t.Helper()
	m, err := n.Join(within(t), c, opts...)
	require.NoError(t, err)
	return m
}

// connect lets the first node dial the others.
func connect(t testing.TB, n *waku.Node, others ...*waku.Node) {
	t.Helper()
	for _, o := range others {
		_, err := n.Connect(within(t), o.Addrs()[0])
		require.NoError(t, err)
	}
}

// meshed waits until every node has so many mesh peers on town.
func meshed(t testing.TB, size int, nodes ...*waku.Node) {
	t.Helper()
	for _, n := range nodes {
		p2ptest.Eventually(t, func() bool {
			h := n.Health()
			return len(h.Shards) > 0 && h.Shards[0].Mesh >= size
		}, "mesh of %s: %+v", n.PeerID(), n.Health())
	}
}

func next(t testing.TB, r *waku.Reader) *waku.Envelope {
	t.Helper()
	env, err := r.Next(within(t))
	require.NoError(t, err)
	return env
}

func subscribe(t testing.TB, m *waku.Membership, topics ...string) *waku.Reader {
	t.Helper()
	r, err := m.Subscribe(topics...)
	require.NoError(t, err)
	return r
}

// unconfirmed has a node ask no store for what it sent, where questions are counted.
func unconfirmed() waku.Option { return waku.WithDelivery(waku.DeliveryConfig{Confirm: -1}) }

// trySend sends and waits until somebody has the message.
func trySend(ctx context.Context, m *waku.Membership, topic string, payload []byte, opts ...waku.SendOption) (*waku.Delivery, error) {
	d, err := m.Send(ctx, topic, payload, opts...)
	if err == nil {
		err = d.Wait(ctx, waku.Propagated)
	}
	return d, err
}

// sent is trySend for what must succeed.
func sent(t testing.TB, m *waku.Membership, topic string, payload []byte, opts ...waku.SendOption) *waku.Delivery {
	t.Helper()
	d, err := trySend(within(t), m, topic, payload, opts...)
	require.NoError(t, err)
	return d
}

func addrInfo(t testing.TB, n *waku.Node) peer.AddrInfo {
	t.Helper()
	addr, err := multiaddr.NewMultiaddr(n.Addrs()[0])
	require.NoError(t, err)
	info, err := peer.AddrInfoFromP2pAddr(addr)
	require.NoError(t, err)
	return *info
}

// answerMetadata lets a bare host pass for a node of cluster 16.
func answerMetadata(h host.Host) {
	h.SetStreamHandler("/vac/waku/metadata/1.0.0", func(s network.Stream) {
		defer s.Close()
		request := make([]byte, 2048)
		if _, err := s.Read(request); err != nil {
			s.Reset()
			return
		}
		answer := []byte{0x08, 0x10, 0x10, 0x80, 0x01, 0x1a, 0x02, 0x80, 0x01} // cluster 16, shard 128
		if _, err := s.Write(append([]byte{byte(len(answer))}, answer...)); err != nil {
			s.Reset()
		}
	})
}

// theirAddr is where a membership's node is found.
func theirAddr(m *waku.Membership) string { return waku.NodeOf(m).Addrs()[0] }
