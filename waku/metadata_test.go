package waku_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	mplex "github.com/libp2p/go-libp2p-mplex"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

func clusterOne() waku.Option {
	return waku.WithNetwork(waku.Network{Name: "other", Cluster: 1})
}

// Whoever dials, both ends know why they can't stay connected.
func TestAnotherCluster(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		ours := start(t, waku.WithHost(hosts[0]))
		theirs := start(t, waku.WithHost(hosts[1]), clusterOne())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := ours.Events(ctx)
		_, err := ours.Connect(within(t), theirs.Addrs()[0])
		var refused *waku.PeerError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, theirs.PeerID(), refused.Peer)
		require.Equal(t, waku.PeerForeign, refused.Kind)
		require.Equal(t, "peer is on cluster 1, ours is 16", refused.Reason)
		time.Sleep(time.Second)

		h := ours.Health()
		require.Len(t, h.Disconnects, 1)
		require.Equal(t, theirs.PeerID(), h.Disconnects[0].Peer)
		require.Equal(t, "peer is on cluster 1, ours is 16", h.Disconnects[0].Reason)
		require.Equal(t, "peer is on cluster 16, ours is 1", theirs.Health().Disconnects[0].Reason)
		require.Empty(t, ours.Peers())
		require.Empty(t, theirs.Peers())
		for e := range events {
			require.Equal(t, waku.PeerRejected, e.Kind)
			require.Equal(t, "peer is on cluster 1, ours is 16", e.Reason)
			require.Contains(t, e.String(), "peer is on cluster 1")
			break
		}
		join(t, ours, waku.Community{Shard: town})
		require.Contains(t, ours.Health().Summary, "peer is on cluster 1, ours is 16")
	})
}

func TestPeersWithoutUsefulMetadata(t *testing.T) {
	for name, c := range map[string]struct {
		handle network.StreamHandler
		want   string
	}{
		"none":       {nil, "doesn't speak /vac/waku/metadata/1.0.0"},
		"silent":     {func(network.Stream) {}, "didn't answer metadata in time"},
		"reset":      {func(s network.Stream) { s.Reset() }, "metadata exchange failed"},
		"garbage":    {func(s network.Stream) { s.Write([]byte{2, 0xff, 0xff}); s.Close() }, "makes no sense"},
		"no cluster": {func(s network.Stream) { s.Write([]byte{0}); s.Close() }, "names no cluster, ours is 16"},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				hosts := p2ptest.Hosts(t, 2)
				n := start(t, waku.WithHost(hosts[0]))
				if c.handle != nil {
					hosts[1].SetStreamHandler(metadata.ID, c.handle)
				}
				require.NoError(t, hosts[1].Connect(within(t), p2ptest.AddrInfo(hosts[0])))
				time.Sleep(30 * time.Second)
				require.Empty(t, hosts[1].Network().Conns())
				require.Contains(t, n.Health().Disconnects[0].Reason, c.want)
			})
		})
	}
}

// Answered before anything else has happened, with what is joined now.
func TestMetadataOfNode(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		n := start(t, waku.WithHost(hosts[0]))
		answerMetadata(hosts[1])
		require.NoError(t, hosts[1].Connect(within(t), p2ptest.AddrInfo(hosts[0])))
		ask := func() metadata.Info {
			own := func() metadata.Info { return metadata.Info{Cluster: 16, HasCluster: true} }
			info, err := metadata.NewClient(hosts[1], metadata.Config{Own: own}).Ask(within(t), n.PeerID())
			require.NoError(t, err)
			return info
		}
		require.Equal(t, metadata.Info{Cluster: 16, HasCluster: true}, ask())
		join(t, n, waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 64}})
		m := join(t, n, waku.Community{Shard: town})
		require.Equal(t, []uint16{64, 128}, ask().Shards)
		require.NoError(t, m.Leave())
		require.Equal(t, []uint16{64}, ask().Shards)
	})
}

// A relay peer may be connected for a while without a shard in common, not for
// ever; one that doesn't say what it carries may stay.
func TestNoShardInCommon(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		other := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		same := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		quiet := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		join(t, n, waku.Community{Shard: town})
		join(t, same, waku.Community{Shard: town})
		join(t, other, waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 32}})
		connect(t, n, other, same, quiet)
		time.Sleep(30 * time.Second)
		require.Len(t, n.Peers(), 3)
		time.Sleep(5 * time.Minute)
		require.Len(t, n.Peers(), 2)
		d := n.Health().Disconnects[0]
		require.Equal(t, other.PeerID(), d.Peer)
		// Both come to the same conclusion at about the same time.
		require.Contains(t, []string{
			"no shard in common: peer carries 16/32",
			"no shard in common, and asked again it gave no answer",
			"the connection was lost, or closed by the peer",
		}, d.Reason)
	})
}

func TestMuxers(t *testing.T) {
	n := start(t, waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1"))
	join(t, n, waku.Community{Shard: town})
	for name, muxers := range map[string][]libp2p.Option{
		"/mplex/6.7.0": {libp2p.Muxer(mplex.ID, mplex.DefaultTransport)},
		"/yamux/1.0.0": {libp2p.Muxer(yamux.ID, yamux.DefaultTransport)},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := libp2p.New(append(muxers,
				libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New),
				libp2p.NoListenAddrs, libp2p.DisableMetrics())...)
			require.NoError(t, err)
			defer h.Close()
			answerMetadata(h)
			require.NoError(t, h.Connect(within(t), addrInfo(t, n)))
			conn := h.Network().ConnsToPeer(n.PeerID())[0]
			require.Equal(t, "/noise", string(conn.ConnState().Security))
			require.Contains(t, name, string(conn.ConnState().StreamMultiplexer))
			own := func() metadata.Info { return metadata.Info{Cluster: 16, HasCluster: true} }
			info, err := metadata.NewClient(h, metadata.Config{Own: own}).Ask(within(t), n.PeerID())
			require.NoError(t, err)
			require.Equal(t, []uint16{128}, info.Shards)
			p2ptest.Eventually(t, func() bool { return knows(n, h) }, "%s isn't among the peers", name)
		})
	}
}

// Who dials chooses, and the node prefers yamux.
func TestMuxerPreferred(t *testing.T) {
	h, err := libp2p.New(
		libp2p.Muxer(mplex.ID, mplex.DefaultTransport), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	require.NoError(t, err)
	defer h.Close()
	answerMetadata(h)
	n := start(t, waku.WithListenAddrs())
	_, err = n.Connect(within(t), h.Addrs()[0].String()+"/p2p/"+h.ID().String())
	require.NoError(t, err)
	require.EqualValues(t, yamux.ID, h.Network().ConnsToPeer(n.PeerID())[0].ConnState().StreamMultiplexer)
}

func knows(n *waku.Node, h host.Host) bool {
	for _, p := range n.Peers() {
		if p.ID == h.ID() {
			return true
		}
	}
	return false
}

// Each transport by itself is enough for two nodes.
func TestTransports(t *testing.T) {
	for _, addr := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"} {
		t.Run(addr, func(t *testing.T) {
			a := start(t, waku.WithListenAddrs(addr), waku.WithUserAgent("a\x1b[31m"))
			b := start(t, waku.WithListenAddrs())
			require.Empty(t, b.Addrs())
			connect(t, b, a)
			require.Len(t, b.Peers(), 1)
			p := b.Peers()[0]
			require.Equal(t, a.PeerID(), p.ID)
			require.False(t, p.Inbound)
			p2ptest.Eventually(t, func() bool { return b.Peers()[0].Agent == "a[31m" }, "agent %q", p.Agent)
			require.NoError(t, b.Disconnect(a.PeerID()))
			p2ptest.Eventually(t, func() bool { return len(b.Peers()) == 0 }, "still connected")
			require.Equal(t, "disconnected by the application", b.Health().Disconnects[0].Reason)
		})
	}
}
