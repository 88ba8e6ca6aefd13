package discv5_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/waku-org/go-discover/discover/v5wire"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
)

// A node of the internet sends nothing to a LAN that a stranger names, by a record of
// somebody's or in a handshake; a bootnode may be there.
func TestStrangersDontNameLANs(t *testing.T) {
	t.Parallel()
	victim, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	require.NoError(t, err)
	defer victim.Close()
	port := victim.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	record, err := enr.Build(p2ptest.Key(300), enr.Fields{Seq: 1, IP4: loopback, UDP: port})
	require.NoError(t, err)
	anywhere := func(c *discv5.Config) { c.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), 0) }

	s := listen(t, 301, shards(16, 32), anywhere)
	_, err = s.Resolve(within(t, soon), record)
	require.Error(t, err)
	stranger := newRaw(t, loopback, discv5.ProtocolID)
	stranger.local.SetFallbackUDP(int(port))
	stranger.start()
	require.Eventually(t, func() bool {
		stranger.greet(s, &v5wire.Ping{ReqID: []byte{1}}) // a handshake has a second's time, a busy machine may not
		return s.Stats().Dropped["private"] > 1
	}, soon, time.Second)
	require.NoError(t, victim.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	n, _, err := victim.ReadFromUDP(make([]byte, 1500))
	require.Error(t, err, "%d bytes", n)

	listen(t, 302, shards(16, 32), anywhere, func(c *discv5.Config) { c.Bootnodes = []*enr.Record{record} })
	require.NoError(t, victim.SetReadDeadline(time.Now().Add(soon)))
	_, _, err = victim.ReadFromUDP(make([]byte, 1500))
	require.NoError(t, err)
}
