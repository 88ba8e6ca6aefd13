package waku_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

const fleetPort = 4001

var fleetIP = netip.MustParseAddr("20.9.9.9")

func fleetConfig() p2ptest.HostConfig {
	return p2ptest.HostConfig{Key: p2ptest.Key(999), IP: fleetIP, Port: fleetPort}
}

// A static peer is tried with growing pauses while it is gone, found when it
// comes, kept, and found again.
func TestStaticPeer(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		probe := net.Host(fleetConfig())
		addr := probe.Addrs()[0].String() + "/p2p/" + probe.ID().String()
		require.NoError(t, probe.Close())
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})), waku.WithStaticPeers(addr))

		var pauses []time.Duration
		for failures := 1; failures <= 9; failures++ {
			time.Sleep(time.Millisecond)
			h := n.Health().Static[0]
			require.False(t, h.Connected)
			require.Equal(t, failures, h.Failures)
			require.Contains(t, h.LastError, "can't be reached")
			require.NotContains(t, h.LastError, "\n")
			pauses = append(pauses, time.Until(h.NextTry))
			time.Sleep(time.Until(h.NextTry))
		}
		for i, p := range pauses {
			want := min(time.Second<<i, 2*time.Minute)
			require.InDelta(t, want.Seconds(), p.Seconds(), want.Seconds()/4+0.01, "after failure %d", i+1)
		}
		m := join(t, n, waku.Community{Shard: town})
		require.Contains(t, n.Health().Summary, "can't be reached")
		require.NoError(t, m.Leave())

		fleet := start(t, waku.WithHost(net.Host(fleetConfig())))
		time.Sleep(150 * time.Second)
		require.Equal(t, waku.StaticPeer{Peer: fleet.PeerID(), Connected: true}, n.Health().Static[0])
		require.True(t, n.Peers()[0].Static)
		require.Len(t, n.Peers(), 1)

		// Thrown out, the node comes back soon; and who joins doesn't wait.
		require.NoError(t, fleet.Disconnect(n.PeerID()))
		time.Sleep(2 * time.Second)
		require.True(t, n.Health().Static[0].Connected)
	})
}

// Joining a shard ends the long pauses, but makes no storm of attempts.
func TestJoiningRetriesStaticPeers(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		probe := net.Host(fleetConfig())
		addr := probe.Addrs()[0].String() + "/p2p/" + probe.ID().String()
		require.NoError(t, probe.Close())
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})), waku.WithStaticPeers(addr))
		time.Sleep(5 * time.Minute)
		before := n.Health().Static[0].Failures
		for range 20 {
			require.NoError(t, join(t, n, waku.Community{Shard: town}).Leave())
		}
		time.Sleep(100 * time.Millisecond)
		require.LessOrEqual(t, n.Health().Static[0].Failures, before+2)

		fleet := start(t, waku.WithHost(net.Host(fleetConfig())))
		time.Sleep(5 * time.Second)
		join(t, n, waku.Community{Shard: town})
		time.Sleep(2 * time.Second)
		require.True(t, n.Health().Static[0].Connected)
		require.NotEmpty(t, fleet.Peers())
	})
}

// A peer that answers nothing any more is found out by pings, and one that is
// alive isn't.
func TestKeepAlive(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{Latency: 50 * time.Millisecond})
		hosts := net.Hosts(3)
		n := start(t, waku.WithHost(hosts[0]))
		alive := start(t, waku.WithHost(hosts[1]))
		answerMetadata(hosts[2])
		connect(t, n, alive)
		require.NoError(t, hosts[2].Connect(within(t), p2ptest.AddrInfo(hosts[0])))
		time.Sleep(time.Minute)
		require.Len(t, n.Peers(), 2)
		for _, p := range n.Peers() {
			require.InDelta(t, 0.1, p.RTT.Seconds(), 0.01)
		}
		hosts[2].SetStreamHandler("/ipfs/ping/1.0.0", func(network.Stream) {}) // reads nothing, says nothing
		time.Sleep(30 * time.Second)
		require.Len(t, n.Peers(), 1)
		require.Equal(t, "no answer to pings", n.Health().Disconnects[0].Reason)
	})
}

// After a gap nothing that was connected is trusted; static peers come back.
func TestSleep(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		fleet := start(t, waku.WithHost(net.Host(fleetConfig())))
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})), waku.WithStaticPeers(fleet.Addrs()[0]))
		time.Sleep(5 * time.Second)
		require.Len(t, n.Peers(), 1)
		waku.Tick(n, 20*time.Second)
		time.Sleep(time.Millisecond)
		require.Len(t, n.Peers(), 1, "a busy machine didn't sleep")
		waku.Tick(n, time.Hour)
		time.Sleep(time.Millisecond)
		require.Empty(t, n.Peers())
		require.Equal(t, "the node slept for 1h0m0s", n.Health().Disconnects[0].Reason)
		time.Sleep(2 * time.Second)
		require.Len(t, n.Peers(), 1)
	})
}

// When the machine's sleep shows only on the wall clock, everybody is pinged.
func TestSleepOnTheWallClock(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		clock := new(settable)
		hosts := p2ptest.Hosts(t, 30)
		n := start(t, waku.WithHost(hosts[0]), waku.WithClock(clock.now))
		for _, h := range hosts[1:] {
			answerMetadata(h)
			require.NoError(t, h.Connect(within(t), p2ptest.AddrInfo(hosts[0])))
		}
		time.Sleep(time.Second)
		require.Len(t, n.Peers(), 29)
		for _, h := range hosts[11:] { // dead without a word
			h.SetStreamHandler("/ipfs/ping/1.0.0", func(network.Stream) {})
		}
		clock.set(time.Hour)
		time.Sleep(25 * time.Second)
		require.Len(t, n.Peers(), 10)
	})
}

func TestConnectRefusals(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})))
		gone := net.Host(p2ptest.HostConfig{})
		nowhere := gone.Addrs()[0].String() + "/p2p/" + gone.ID().String()
		require.NoError(t, gone.Close())
		mute := net.Host(p2ptest.HostConfig{})
		mute.SetStreamHandler(metadata.ID, func(network.Stream) {})
		for addr, want := range map[string]string{
			"":                    "no multiaddr",
			"localhost:60000":     "/ip4/192.0.2.1/tcp/60000/p2p/",
			"/ip4/20.0.0.1/tcp/1": "end it with /p2p/",
			n.Addrs()[0]:          "this node itself",
			nowhere:               "can't be reached",
			mute.Addrs()[0].String() + "/p2p/" + mute.ID().String(): "no handshake in time",
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			_, err := n.Connect(ctx, addr)
			cancel()
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "\n")
		}
		require.NoError(t, n.Disconnect(gone.ID()))
	})
}
