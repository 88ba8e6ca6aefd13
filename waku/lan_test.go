package waku_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// world is a network of the internet: addresses of LANs are of no use there.
var world = waku.Network{Name: "world", Cluster: 16}

// trap counts who comes to a port of this machine.
type trap struct {
	port    uint16
	touched atomic.Int64
}

func newTrap(t *testing.T) *trap {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	x := &trap{port: uint16(tcp.Addr().(*net.TCPAddr).Port)}
	udp, err := net.ListenPacket("udp4", tcp.Addr().String())
	require.NoError(t, err)
	var serving sync.WaitGroup
	t.Cleanup(func() { tcp.Close(); udp.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			x.touched.Add(1)
			c.Close()
		}
	})
	serving.Go(func() {
		for {
			if _, _, err := udp.ReadFrom(make([]byte, 1500)); err != nil {
				return
			}
			x.touched.Add(1)
		}
	})
	return x
}

// stranger is a host on a socket that passes for a node of cluster 16.
func stranger(t *testing.T, key int, opts ...libp2p.Option) host.Host {
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.Identity(p2ptest.Key(key)), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(), libp2p.DisableRelay(),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { h.Close() })
	answerMetadata(h)
	return h
}

// p2pAddr is a full multiaddr of a host.
func p2pAddr(h host.Host) string {
	return fmt.Sprintf("%s/p2p/%s", h.Network().ListenAddresses()[0], h.ID())
}

func maddr(t *testing.T, text string) multiaddr.Multiaddr {
	a, err := multiaddr.NewMultiaddr(text)
	require.NoError(t, err)
	return a
}

func recordOf(t *testing.T, key int, f enr.Fields) *enr.Record {
	if f.Shards.Len() == 0 {
		set, err := sharding.NewSet(town.Cluster, town.Index)
		require.NoError(t, err)
		f.Shards = set
	}
	f.Seq, f.Capabilities = max(f.Seq, 1), enr.Relay
	r, err := enr.Build(p2ptest.Key(key), f)
	require.NoError(t, err)
	return r
}

// Whatever strangers say, and however they put it, nobody of the victim's LAN hears from
// it: by records in lists or from peers, names that resolve to there, and what peers say
// of themselves. Whom the application names is dialled wherever it is.
func TestNobodyOfTheLANIsDialled(t *testing.T) {
	lan := newTrap(t)
	named := madns.DefaultResolver
	defer func() { madns.DefaultResolver = named }()
	resolver, err := madns.NewResolver(madns.WithDefaultResolver(&madns.MockResolver{
		IP: map[string][]net.IPAddr{"node.status.im": {{IP: net.IPv4(127, 0, 0, 1)}}},
	}))
	require.NoError(t, err)
	madns.DefaultResolver = resolver

	port := lan.port
	loop := netip.MustParseAddr("127.0.0.1")
	text := func(format string) multiaddr.Multiaddr { return maddr(t, fmt.Sprintf(format, port)) }
	hostile := []*enr.Record{
		recordOf(t, 901, enr.Fields{IP4: loop, TCP: port, UDP: port}),
		recordOf(t, 902, enr.Fields{UDP: port, IP4: loop, Multiaddrs: []multiaddr.Multiaddr{text("/ip4/127.0.0.1/tcp/%d/ws")}}),
		recordOf(t, 903, enr.Fields{UDP: port, Multiaddrs: []multiaddr.Multiaddr{text("/dns4/node.status.im/tcp/%d/ws")}}),
		recordOf(t, 904, enr.Fields{UDP: port, Multiaddrs: []multiaddr.Multiaddr{text("/dns4/node.status.im/tcp/%d")}}),
		recordOf(t, 905, enr.Fields{UDP: port, Multiaddrs: []multiaddr.Multiaddr{text("/dns4/localhost/tcp/%d")}}),
		recordOf(t, 906, enr.Fields{IP6: netip.MustParseAddr("64:ff9b::7f00:1"), TCP6: port, UDP6: port}),
		recordOf(t, 907, enr.Fields{UDP: port, IP4: loop, Multiaddrs: []multiaddr.Multiaddr{text("/ip6/::1/tcp/%d"), text("/ip4/127.0.0.1/udp/%d/quic-v1")}}),
	}
	// One says of itself that it lives on the LAN as well.
	liar := stranger(t, 900, libp2p.AddrsFactory(func(as []multiaddr.Multiaddr) []multiaddr.Multiaddr {
		return append(as, text("/ip4/127.0.0.1/tcp/%d"))
	}))
	var raw [][]byte
	var texts []string
	for _, r := range hostile {
		raw, texts = append(raw, r.Bytes()), append(texts, r.String())
	}
	server := peerexchange.NewServer(liar, func(peer.ID, int) [][]byte { return raw }, peerexchange.ServerConfig{Rate: -1})
	defer server.Close()
	list := tree(t, 1, texts...)

	n := start(t, oneSocket(), waku.WithNetwork(world), waku.WithStaticPeers(p2pAddr(liar)),
		waku.WithDNSTrees(list.URL), waku.WithResolvers(dnstest.NewZone(list)), waku.WithDiscv5("0.0.0.0:0"),
		waku.WithPeerExchangeService(peerexchange.ServerConfig{}))
	join(t, n, waku.Community{Shard: town})
	p2ptest.Eventually(t, func() bool { return len(n.Peers()) == 1 }, "the application may name anybody")
	client := peerexchange.NewClient(liar, peerexchange.ClientConfig{})
	p2ptest.Eventually(t, func() bool { return n.Health().Discovery.Known > 2 }, "%+v", n.Health().Discovery)
	for range 3 {
		_, _ = client.Ask(within(t), n.PeerID(), 20) // it is to see whom it could name
		time.Sleep(time.Second)
	}
	n.Pause()
	p2ptest.Eventually(t, func() bool { return n.Health().Peers == 0 }, "paused")
	n.Resume()
	p2ptest.Eventually(t, func() bool { return len(n.Peers()) == 1 }, "back")
	time.Sleep(2 * time.Second)
	require.Zero(t, lan.touched.Load())
	refused := n.Health().Discovery.Refused
	require.NotZero(t, refused["no address to dial"], "%v", refused)

	// Whom strangers placed on the LAN, the application may still place there.
	friend := stranger(t, 901)
	_, err = n.Connect(within(t), p2pAddr(friend))
	require.NoError(t, err)
}
