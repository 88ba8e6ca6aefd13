package peers_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
)

func TestWhere(t *testing.T) {
	me := id(1)
	relay := "/p2p/" + id(9).String()
	for text, want := range map[string][3]string{
		"/ip4/66.1.2.3/tcp/60000":                                         {"66.1.2.3/32", "66.1.2.0/24", "66.1.0.0/16"},
		"/ip4/66.1.2.3/udp/1/quic-v1":                                     {"66.1.2.3/32", "66.1.2.0/24", "66.1.0.0/16"},
		"/ip4/66.1.2.3/tcp/1/p2p/" + me.String():                          {"66.1.2.3/32", "66.1.2.0/24", "66.1.0.0/16"},
		"/ip6/2a01:4f8:1:2:3::4/tcp/1":                                    {"2a01:4f8:1:2::/64", "2a01:4f8:1::/48", "2a01:4f8::/32"},
		"/ip6/::ffff:66.1.2.3/tcp/1":                                      {"66.1.2.3/32", "66.1.2.0/24", "66.1.0.0/16"},
		"/ip6/64:ff9b::4201:203/tcp/1":                                    {"66.1.2.3/32", "66.1.2.0/24", "66.1.0.0/16"},
		"/ip6/2002:4201:203::1/tcp/1":                                     {"66.1.2.3/32", "66.1.2.0/24", "66.1.0.0/16"},
		"/dns4/Node-01.DO.status.im/tcp/443/wss":                          {"node-01.do.status.im", "status.im", "status.im"},
		"/dns4/node-01.do.status.im./tcp/443/wss":                         {"node-01.do.status.im", "status.im", "status.im"},
		"/dnsaddr/status.im":                                              {"status.im", "status.im", "status.im"},
		"/dns4/66.1.2.3/tcp/443":                                          {"66.1.2.3/32", "66.1.2.0/24", "66.1.0.0/16"},
		"/ip4/66.1.2.3/tcp/1" + relay + "/p2p-circuit":                    {"66.1.2.3/32 circuit", "66.1.2.0/24 circuit", "66.1.0.0/16 circuit"},
		"/ip4/66.1.2.3/tcp/1" + relay + "/p2p-circuit/p2p/" + me.String(): {"66.1.2.3/32 circuit", "66.1.2.0/24 circuit", "66.1.0.0/16 circuit"},
	} {
		host, net, wide, local, ok := peers.Where(maddr(text), me)
		require.True(t, ok, text)
		require.Equal(t, want, [3]string{host, net, wide}, text)
		require.False(t, local, text)
	}
	for _, text := range []string{
		"/ip4/127.0.0.1/tcp/1", "/ip4/127.255.0.1/tcp/1", "/ip4/10.1.2.3/tcp/1", "/ip4/172.31.0.1/tcp/1",
		"/ip4/192.168.1.1/tcp/1", "/ip4/169.254.169.254/tcp/80", "/ip4/100.64.0.1/tcp/1",
		"/ip6/::1/tcp/1", "/ip6/fc00::1/tcp/1", "/ip6/fd12::1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip6zone/eth0/ip6/fe80::1/tcp/1",
		"/ip6zone/eth0/ip6/2a01::1/tcp/1",
		"/ip6/::ffff:127.0.0.1/tcp/1", "/ip6/::ffff:192.168.1.1/tcp/1", "/ip6/64:ff9b::7f00:1/tcp/1",
		"/ip6/64:ff9b:1::1/tcp/1", "/ip6/2002:c0a8:101::1/tcp/1",
		"/dns4/localhost/tcp/1", "/dns4/LOCALHOST./tcp/1", "/dns4/a.localhost/tcp/1", "/dns/router/tcp/1", "/dns/printer.local/tcp/1",
		"/dns/router.home.arpa/tcp/1", "/dns/metadata.google.internal/tcp/80", "/dns4/192.168.1.1/tcp/80", "/dns6/::1/tcp/1",
		"/ip4/192.168.1.1/tcp/1" + relay + "/p2p-circuit",
	} {
		_, _, _, local, ok := peers.Where(maddr(text), me)
		require.True(t, ok, text)
		require.True(t, local, text)
	}
	for _, text := range []string{
		"/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1", "/ip4/224.0.0.1/udp/1/quic-v1", "/ip4/255.255.255.255/tcp/1", "/ip6/ff02::1/tcp/1",
		"/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/tcp/1", "/ip4/240.0.0.1/tcp/1", "/ip6/::7f00:1/tcp/1", "/ip6/248:92e3::1/tcp/1", "/ip6/5f00::1/tcp/1", "/dns4/0.0.0.0/tcp/1",
		"/ip6/::ffff:0.0.0.0/tcp/1",
		"/ip4/66.1.2.3", "/ip4/66.1.2.3/tcp/0", "/tcp/1", "/unix/tmp/x", "/memory/1", "/p2p/" + me.String(),
		"/ip4/66.1.2.3/tcp/1" + relay,                 // somebody else
		"/ip4/66.1.2.3/tcp/1" + relay + relay,         // and again
		"/ip4/66.1.2.3/tcp/1/p2p-circuit",             // of whom
		"/ip4/66.1.2.3/tcp/1/ip4/192.168.1.1/tcp/1",   // which
		"/dns4/status.im/tcp/1/ip4/192.168.1.1/tcp/1", // which
		"/dns4/" + strings.Repeat("a.", 140) + "im/tcp/1",
	} {
		_, _, _, _, ok := peers.Where(maddr(text), me)
		require.False(t, ok, text)
	}
	_, _, _, _, ok := peers.Where(nil, me)
	require.False(t, ok)
}

// What strangers tell of a LAN is left out, whoever the operator is. What the
// operator or the program tell isn't.
func TestPrivateAddresses(t *testing.T) {
	lan, loop, world := tcp(192, 168, 1, 1), tcp(127, 0, 0, 1), tcp(66, 1, 1, 1)
	for _, source := range []peers.Source{peers.DNS, peers.Saved, peers.Rendezvous, peers.Discv5, peers.Exchange, peers.Inbound} {
		m := peers.New(config(1))
		m.Found(start, told(1, source, lan, loop), told(2, source, loop, world, lan))
		require.False(t, knows(m, 1), source)
		require.Equal(t, []any{world}, anys(info(t, m, 2).Info))
		m.Want(start, []peers.Need{relays(1, 1, 1, 0)})
		p := m.Plan(start)
		require.Len(t, p.Dial, 1)
		require.Equal(t, []any{world}, anys(p.Dial[0]))
		require.True(t, m.MayDial(id(2), world))
		require.False(t, m.MayDial(id(2), lan), "a name may resolve to anything")
		require.False(t, m.MayDial(id(2), loop))
		require.False(t, m.MayDial(id(3), lan), "who isn't known any more, or not yet")
		require.True(t, m.MayDial(id(3), world))
	}
	for _, source := range []peers.Source{peers.Static, peers.Application} {
		m := peers.New(config(1))
		m.Found(start, told(1, source, lan))
		require.Equal(t, []any{lan}, anys(info(t, m, 1).Info))
		require.True(t, m.MayDial(id(1), lan))
	}
	c := config(1)
	c.AllowPrivate = true
	m := peers.New(c)
	for n := 1; n <= 100; n++ { // and nobody is too many there
		m.Found(start, told(n, peers.Exchange, lan, loop))
		require.Len(t, info(t, m, n).Info.Addrs, 2)
	}
	m.Want(start, []peers.Need{relays(1, 4, 4, 4)})
	require.Len(t, m.Plan(start).Dial, 8, "two for each that is lacking")
	require.True(t, m.MayDial(id(1), lan))
}

func anys(i peer.AddrInfo) (out []any) {
	for _, a := range i.Addrs {
		out = append(out, a)
	}
	return out
}

// What counts as public here is public by go-multiaddr's lists as well.
func TestPublicIsPublic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	public := 0
	for range fewer(100_000) {
		b := make([]byte, []int{4, 16}[r.IntN(2)])
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if len(b) == 16 && r.IntN(2) == 0 {
			copy(b, [][]byte{{0x20}, {0x20, 2}, {0, 0x64, 0xff, 0x9b, 11: 0}, {10: 0xff, 0xff}, {11: 0}, {0xfe, 0x80}, {0x3f}}[r.IntN(7)])
		}
		a, err := manet.FromIP(b)
		require.NoError(t, err)
		_, _, _, local, ok := peers.Where(a.Encapsulate(maddr("/tcp/1")), id(1))
		if ok && !local {
			public++
			ip, _ := netip.AddrFromSlice(b)
			require.True(t, manet.IsPublicAddr(a) || ip.Is4In6(), a)
		}
	}
	require.Greater(t, public, fewer(30_000))
}

// FuzzWhere gets what strangers write into records.
func FuzzWhere(f *testing.F) {
	for _, s := range []string{"/ip4/66.1.2.3/tcp/1", "/dns4/a.org/tcp/443/wss", "/ip6zone/eth0/ip6/fe80::1/tcp/1", "/ip4/1.2.3.4/tcp/1/p2p/" + id(1).String() + "/p2p-circuit"} {
		f.Add(maddr(s).Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ma.NewMultiaddrBytes(b)
		if err != nil {
			return
		}
		host, net, wide, local, ok := peers.Where(a, id(1))
		m := peers.New(config(1))
		m.Found(start, told(1, peers.Discv5, a))
		require.Equal(t, ok && !local, knows(m, 1))
		if ok {
			require.True(t, host != "" && net != "" && wide != "")
		}
		m = peers.New(config(1))
		m.Found(start, told(1, peers.Static, a))
		require.Equal(t, ok, knows(m, 1))
		require.NoError(t, peers.New(config(1)).Restore(start, m.Snapshot(start)))
		require.Empty(t, m.Check())
	})
}
