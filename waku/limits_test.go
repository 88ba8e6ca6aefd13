package waku_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// open takes connections from an address until one is refused.
func open(t *testing.T, m network.ResourceManager, format string, limit int) (opened []network.ConnManagementScope) {
	for i := range limit {
		addr, err := multiaddr.NewMultiaddr(fmt.Sprintf(format, i+1))
		require.NoError(t, err)
		c, err := m.OpenConnection(network.DirInbound, true, addr)
		if err != nil {
			break
		}
		opened = append(opened, c)
	}
	return opened
}

// One address gets as many connections as the option says, and loopback all it
// wants.
func TestConnsPerAddress(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		for _, limit := range []int{1, 30, 100} {
			m := waku.NewResources(t, 600, limit)
			require.Len(t, open(t, m, "/ip4/127.0.0.1/tcp/%d", limit+50), limit+50)
			first := open(t, m, "/ip4/20.0.0.1/tcp/%d", limit+1)
			require.Len(t, first, limit)
			require.Len(t, open(t, m, "/ip4/20.0.0.2/tcp/%d", 1), 1)
			for _, c := range first { // a household comes back at once
				c.Done()
			}
			again := open(t, m, "/ip4/20.0.0.1/tcp/%d", limit)
			require.Len(t, again, limit)
			for i := 0; i < 2*limit; i++ { // but not all the time
				again[0].Done()
				if again = append(again[1:], open(t, m, "/ip4/20.0.0.1/tcp/%d", 1)...); len(again) < limit {
					break
				}
			}
			require.Less(t, len(again), limit)
			for _, c := range again {
				c.Done()
			}
			time.Sleep(2 * time.Minute)
			require.NotEmpty(t, open(t, m, "/ip4/20.0.0.1/tcp/%d", 1))
			require.Len(t, open(t, m, "/ip6/2001:db8::%x/tcp/1", limit+1), limit, "one /64")
			require.Len(t, open(t, m, "/ip6/::1/tcp/%d", limit+1), limit+1)
		}
	})
}

// Every connection to a filter service may be a subscriber's.
func TestSubscribersHaveStreams(t *testing.T) {
	const subscribers = 5000
	m := waku.NewServiceResources(t, subscribers*3/2)
	conns := open(t, m, "/ip4/127.0.0.1/tcp/%d", subscribers)
	require.Len(t, conns, subscribers)
	for i, c := range conns {
		id := peer.ID(fmt.Sprint(i))
		require.NoError(t, c.SetPeer(id))
		s, err := m.OpenStream(id, network.DirOutbound)
		require.NoError(t, err)
		require.NoError(t, s.SetProtocol(filter.PushID), "%d", i)
		require.NoError(t, s.SetService(filter.Service), "%d", i)
	}
}

// The bound on all connections leaves a third for those that this node dials, and one
// place stays free so that newcomers can be looked at.
func TestMaxConns(t *testing.T) {
	n := start(t, oneSocket(), waku.WithMaxConns(6), waku.WithMaxConnsPerIP(2))
	join(t, n, waku.Community{Shard: town})
	connected := 0
	for i := range 6 {
		h, err := libp2p.New(libp2p.Identity(p2ptest.Key(i)), libp2p.NoListenAddrs, libp2p.DisableMetrics())
		require.NoError(t, err)
		defer h.Close()
		answerMetadata(h)
		if h.Connect(within(t), addrInfo(t, n)) == nil {
			connected++
		}
	}
	p2ptest.Eventually(t, func() bool { return len(n.Peers()) == 3 }, "%d connected, %v", connected, n.Peers())
	connect(t, n, start(t, oneSocket()), start(t, oneSocket()))
	require.Len(t, n.Peers(), 5)
}

// Who was cut stays out for ten minutes, whoever dials, and the book of those who
// were is bounded.
func TestCutPeersStayOut(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n, theirs, _ := pair(t, waku.WithValidator(town, reject))
		other := waku.NodeOf(theirs[town])
		sendMany(t, theirs[town], 20)
		time.Sleep(time.Second)
		require.Empty(t, n.Peers())
		_, err := n.Connect(t.Context(), other.Addrs()[0])
		require.ErrorContains(t, err, "was cut, which lasts ten minutes")
		_, err = other.Connect(t.Context(), n.Addrs()[0])
		require.Error(t, err)
		time.Sleep(9 * time.Minute)
		_, err = n.Connect(t.Context(), other.Addrs()[0])
		require.ErrorContains(t, err, "was cut, which lasts ten minutes")
	})
}

func TestBookOfCutPeersIsBounded(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		g := waku.NewGater()
		id := func(i int) peer.ID { return peer.ID(fmt.Sprint(i)) }
		for i := range 4200 {
			g.Cut(id(i))
			time.Sleep(time.Millisecond)
		}
		require.Equal(t, 4096, g.Len())
		require.False(t, g.InterceptSecured(network.DirInbound, id(4199), nil))
		require.False(t, g.InterceptPeerDial(id(4199)))
		require.True(t, g.InterceptPeerDial(id(0)))
		time.Sleep(10 * time.Minute)
		require.True(t, g.InterceptPeerDial(id(4199)))
		g.Cut("another")
		g.Cut("one more")
		require.Equal(t, 2, g.Len())
	})
}
