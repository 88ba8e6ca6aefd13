package p2ptest

import (
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/stretchr/testify/require"
)

// TCPHosts returns n hosts on loopback sockets, with noise and yamux, closed
// when the test ends. Not for bubbles: sockets live in wall time.
func TCPHosts(t testing.TB, n int, opts ...libp2p.Option) []host.Host {
	t.Helper()
	hosts := make([]host.Host, n)
	for i := range hosts {
		h, err := libp2p.New(append([]libp2p.Option{
			libp2p.Identity(Key(i)),
			libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
			libp2p.Transport(tcp.NewTCPTransport),
			libp2p.Security(noise.ID, noise.New),
			libp2p.DisableRelay(),
			libp2p.DisableMetrics(),
		}, opts...)...)
		require.NoError(t, err)
		t.Cleanup(func() { h.Close() })
		hosts[i] = h
	}
	return hosts
}
