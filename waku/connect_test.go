package waku_test

import (
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// Of several addresses of a peer one will do; those of different peers don't go together.
func TestConnectSeveralAddresses(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		n := start(t, waku.WithHost(hosts[0]))
		there := start(t, waku.WithHost(hosts[1]))
		good := there.Addrs()[0]
		_, id, _ := strings.Cut(good, "/p2p/")
		dead := "/ip4/1.2.3.4/tcp/9/p2p/" + id
		_, err := n.Connect(within(t), dead, "/ip4/1.2.3.4/tcp/9/p2p/"+hosts[2].ID().String())
		require.ErrorContains(t, err, "another peer")
		_, err = n.Connect(within(t), dead, "nowhere")
		require.ErrorContains(t, err, "no multiaddr")
		require.Empty(t, n.Peers())
		p, err := n.Connect(within(t), dead, good)
		require.NoError(t, err)
		require.Equal(t, there.PeerID(), p)
		require.Len(t, n.Peers(), 1)
	})
}

// A program can tell by the kind what came of an attempt.
func TestPeerErrorKinds(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		n := start(t, waku.WithHost(apart(net)))
		mute, gone := apart(net), apart(net)
		kind := func(addr string) waku.PeerErrorKind {
			_, err := n.Connect(within(t), addr)
			var e *waku.PeerError
			require.ErrorAs(t, err, &e)
			return e.Kind
		}
		at := func(h host.Host) string { return h.Addrs()[0].String() + "/p2p/" + h.ID().String() }
		require.Equal(t, waku.PeerSilent, kind(at(mute)))
		mute.SetStreamHandler(metadata.ID, func(s network.Stream) {})
		require.Equal(t, waku.PeerSilent, kind(at(mute)))
		net.Vanish(gone)
		require.Equal(t, waku.PeerUnreachable, kind(at(gone)))
		require.Equal(t, "unreachable", waku.PeerUnreachable.String())
		require.Equal(t, "lost", waku.PeerLost.String())
		require.Equal(t, "PeerErrorKind(9)", waku.PeerErrorKind(9).String())
	})
}
