package waku_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// On sockets of this machine nobody is within the internet's reach: a node that asks
// says so, keeps its addresses to itself, and gets along with others.
func TestNATOnSockets(t *testing.T) {
	server := start(t, waku.WithNetwork(openNet), oneSocket())
	join(t, server, waku.Community{Shard: town})
	n := start(t, waku.WithNAT(), waku.WithNetwork(openNet), waku.WithStaticPeers(server.Addrs()...),
		waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"), waku.WithDiscv5("0.0.0.0:0"))
	join(t, n, waku.Community{Shard: town})
	meshed(t, 1, n, server)
	p2ptest.Eventually(t, func() bool { return n.Health().NAT.Reachability == waku.ReachabilityPrivate }, "private")
	require.Empty(t, n.Addrs())
	require.NotContains(t, n.Health().NAT.Reason, "nobody")
	p2ptest.Eventually(t, func() bool { return n.Health().NAT.Failure != "" }, "%+v", n.Health().NAT)
	require.Contains(t, n.Health().Summary, "no peer has said yet where it sees this node")
	p2ptest.Eventually(t, func() bool {
		record, err := enr.Parse(n.ENR())
		require.NoError(t, err)
		f := record.Fields()
		return !f.IP4.IsValid() && !f.IP6.IsValid() && f.TCP+f.UDP+f.TCP6+f.UDP6 == 0
	}, "%s", n.ENR())
}
