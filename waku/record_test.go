package waku_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

func record(t *testing.T, n *waku.Node) *enr.Record {
	t.Helper()
	r, err := enr.Parse(n.ENR())
	require.NoError(t, err)
	return r
}

func TestRecordFollowsTheNode(t *testing.T) {
	n := start(t)
	first := record(t, n)
	require.Equal(t, n.PeerID(), first.PeerID())
	f := first.Fields()
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), f.IP4)
	require.Contains(t, n.Addrs()[0], first.Addrs()[0].String())
	require.Equal(t, enr.Relay, f.Capabilities)
	require.Zero(t, f.Shards.Len())

	m := join(t, n, waku.Community{Shard: town})
	other := sharding.Shard{Cluster: 16, Index: 32}
	join(t, n, waku.Community{Shard: other})
	again := join(t, n, waku.Community{Shard: town}) // nothing new to say
	third := record(t, n)
	require.Equal(t, first.Seq()+2, third.Seq())
	shards, err := third.Shards()
	require.NoError(t, err)
	require.Equal(t, []uint16{32, 128}, shards.Indices())
	require.Equal(t, []string{"id", "ip", "multiaddrs", "rs", "secp256k1", "tcp", "waku2"}, third.Keys())

	require.NoError(t, m.Leave())
	require.NoError(t, again.Leave())
	fourth := record(t, n)
	require.Equal(t, first.Seq()+3, fourth.Seq())
	shards, err = fourth.Shards()
	require.NoError(t, err)
	require.Equal(t, []uint16{32}, shards.Indices())
}

func TestRecordOfNodeThatDoesNotListen(t *testing.T) {
	n := start(t, waku.WithListenAddrs())
	require.Empty(t, record(t, n).Addrs())
	require.Equal(t, n.PeerID(), record(t, n).PeerID())
}

// Others are told of the external address and of none of the machine's own.
func TestExternalIP(t *testing.T) {
	n := start(t, waku.WithNetwork(waku.Network{Cluster: 16}), waku.WithExternalIP("203.0.113.7", "2001:db8::7"), waku.WithDiscv5("127.0.0.1:0"),
		waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"))
	require.Len(t, n.Addrs(), 3)
	for _, a := range n.Addrs() {
		require.Contains(t, a, "/ip4/203.0.113.7/")
	}
	f := record(t, n).Fields()
	require.Equal(t, netip.MustParseAddr("203.0.113.7"), f.IP4)
	require.NotZero(t, f.TCP)
	require.NotZero(t, f.UDP)
	require.Len(t, f.Multiaddrs, 1)
	require.Contains(t, f.Multiaddrs[0].String(), "/ip4/203.0.113.7/tcp/")
}

// On a network of the internet a record has no address that strangers can't dial, whatever
// discv5 listens on.
func TestRecordHasNoPrivateAddress(t *testing.T) {
	n := start(t, waku.WithNetwork(waku.Network{Cluster: 16}), waku.WithDiscv5("127.0.0.1:0"))
	f := record(t, n).Fields()
	require.False(t, f.IP4.IsValid(), "%v", f.IP4)
	require.Empty(t, f.Multiaddrs)
}
