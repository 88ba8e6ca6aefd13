package p2ptest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"

	"github.com/status-im/shoal/internal/p2ptest"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

const echoID = "/p2ptest/echo"

func echo(s network.Stream) {
	defer s.Close()
	io.Copy(s, s)
}

func TestHostsTalk(t *testing.T) {
	talk := func(t *testing.T, hosts []host.Host) {
		hosts[1].SetStreamHandler(echoID, echo)
		p2ptest.Connect(t, hosts[0], hosts[1])
		known, err := hosts[0].Peerstore().SupportsProtocols(hosts[1].ID(), echoID)
		require.NoError(t, err)
		require.NotEmpty(t, known, "identify has run")

		s, err := hosts[0].NewStream(t.Context(), hosts[1].ID(), echoID)
		require.NoError(t, err)
		long := strings.Repeat("all of it comes back ", 50_000) // over every window and buffer
		go func() {
			io.WriteString(s, long)
			s.CloseWrite()
		}()
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, long, string(got))

		p2ptest.Disconnect(t, hosts[0], hosts[1])
	}
	t.Run("memory", func(t *testing.T) { talk(t, p2ptest.Hosts(t, 2)) })
	t.Run("TCP", func(t *testing.T) { talk(t, p2ptest.TCPHosts(t, 2)) })
	t.Run("bubble", func(t *testing.T) {
		p2ptest.Bubble(t, func(t *testing.T) { talk(t, p2ptest.Hosts(t, 2)) })
	})
	t.Run("libp2p.New", func(t *testing.T) {
		p2ptest.Bubble(t, func(t *testing.T) {
			n := p2ptest.New(t, p2ptest.Config{})
			var hosts []host.Host
			for range 2 {
				h, err := libp2p.New(n.Options(p2ptest.HostConfig{})...)
				require.NoError(t, err)
				defer h.Close()
				hosts = append(hosts, h)
			}
			talk(t, hosts)
		})
	})
}

func TestDeadlinesPassInVirtualTime(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		hosts[1].SetStreamHandler(echoID, func(s network.Stream) { io.ReadAll(s) })
		p2ptest.Line(t, hosts)
		s, err := p2ptest.OpenStream(t.Context(), hosts[0], hosts[1].ID(), echoID)
		require.NoError(t, err)
		defer s.Reset()

		start := time.Now()
		require.NoError(t, s.SetReadDeadline(start.Add(time.Hour)))
		_, err = s.Read(make([]byte, 1))
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		require.True(t, timeout.Timeout())
		require.Equal(t, time.Hour, time.Since(start))
	})
}

func TestBackPressure(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		release := make(chan struct{})
		hosts[1].SetStreamHandler(echoID, func(s network.Stream) {
			<-release // a reader who doesn't read
			s.Reset()
		})
		p2ptest.Line(t, hosts)
		s, err := p2ptest.OpenStream(t.Context(), hosts[0], hosts[1].ID(), echoID)
		require.NoError(t, err)
		defer s.Reset()
		defer close(release)
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Minute)))
		n, err := s.Write(make([]byte, 4<<20))
		require.Error(t, err)
		require.Less(t, n, 2<<20, "the writer was stopped by what the reader left unread")
	})
}

func TestLatency(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := p2ptest.New(t, p2ptest.Config{Latency: 50 * time.Millisecond})
		hosts := n.Hosts(2)
		hosts[1].SetStreamHandler(echoID, echo)
		p2ptest.Line(t, hosts)
		s, err := p2ptest.OpenStream(t.Context(), hosts[0], hosts[1].ID(), echoID)
		require.NoError(t, err)
		defer s.Reset()
		start := time.Now()
		_, err = s.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(s, make([]byte, 1))
		require.NoError(t, err)
		rtt := time.Since(start)
		require.GreaterOrEqual(t, rtt, 100*time.Millisecond)
		require.Less(t, rtt, 110*time.Millisecond)
	})
}

// One address for several hosts is what the limits per IP address are about.
func TestSharedIPAndResourceLimits(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		limits, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.DefaultLimits.AutoScale()),
			rcmgr.WithMetricsDisabled(),
			rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{{ConnCount: 2, PrefixLength: 32}}, nil))
		require.NoError(t, err)
		n := p2ptest.New(t, p2ptest.Config{})
		target := n.Host(p2ptest.HostConfig{Resources: limits})
		ip := netip.MustParseAddr("20.1.2.3")
		for i := range 4 {
			h := n.Host(p2ptest.HostConfig{IP: ip})
			err := h.Connect(t.Context(), p2ptest.AddrInfo(target))
			synctest.Wait()
			if i < 2 {
				require.NoError(t, err)
				addr := target.Network().ConnsToPeer(h.ID())[0].RemoteMultiaddr().String()
				require.Contains(t, addr, "/ip4/20.1.2.3/tcp/")
			} else {
				require.Empty(t, target.Network().ConnsToPeer(h.ID()))
			}
		}
	})
}

type refuseAll struct{}

func (refuseAll) InterceptPeerDial(peer.ID) bool               { return true }
func (refuseAll) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (refuseAll) InterceptAccept(network.ConnMultiaddrs) bool  { return false }
func (refuseAll) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}
func (refuseAll) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func TestGaterAndRefusedDials(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := p2ptest.New(t, p2ptest.Config{})
		h := n.Host(p2ptest.HostConfig{})
		closed := n.Host(p2ptest.HostConfig{Gater: refuseAll{}})
		require.Error(t, h.Connect(t.Context(), p2ptest.AddrInfo(closed)))
		gone := n.Host(p2ptest.HostConfig{})
		where := p2ptest.AddrInfo(gone)
		require.NoError(t, gone.Close())
		require.ErrorContains(t, h.Connect(t.Context(), where), "refused")
	})
}

func TestShapes(t *testing.T) {
	conns := func(hosts []host.Host) (counts []int) {
		for _, h := range hosts {
			counts = append(counts, len(h.Network().Conns()))
		}
		return counts
	}
	for name, c := range map[string]struct {
		connect func(testing.TB, []host.Host)
		want    []int
	}{
		"line":   {p2ptest.Line, []int{1, 2, 2, 2, 1}},
		"ring":   {p2ptest.Ring, []int{2, 2, 2, 2, 2}},
		"star":   {p2ptest.Star, []int{4, 1, 1, 1, 1}},
		"full":   {p2ptest.Full, []int{4, 4, 4, 4, 4}},
		"degree": {func(t testing.TB, hs []host.Host) { p2ptest.Degree(t, hs, 4) }, []int{4, 4, 4, 4, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				hosts := p2ptest.Hosts(t, 5)
				c.connect(t, hosts)
				require.Equal(t, c.want, conns(hosts))
			})
		})
	}
}

func TestKeysAreTheSameInEveryRun(t *testing.T) {
	id, err := peer.IDFromPrivateKey(p2ptest.Key(0))
	require.NoError(t, err)
	h := p2ptest.Hosts(t, 1)[0]
	require.Equal(t, id, h.ID())
	require.True(t, strings.HasPrefix(id.String(), "16Uiu2HA"), "a secp256k1 identity")
}

func TestOpenStreamEndsWithItsContext(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Line(t, hosts)
		_, err := p2ptest.OpenStream(t.Context(), hosts[0], hosts[1].ID(), "/not/spoken")
		require.Error(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = p2ptest.OpenStream(ctx, hosts[0], hosts[1].ID(), echoID)
		require.Error(t, err)
	})
}

func TestLogs(t *testing.T) {
	var logs p2ptest.Logs
	require.Empty(t, logs.Lines())
	l := logs.Logger().With("peer", "a")
	l.Debug("one", "n", 1)
	l.Warn("two", "err", errors.New("bad"))
	require.Equal(t, []string{"level=DEBUG msg=one peer=a n=1", "level=WARN msg=two peer=a err=bad"}, logs.Lines())
	require.Equal(t, 2, logs.Count("peer=a"))
	require.Equal(t, 1, logs.Count("level=WARN"))
}

func TestGoroutines(t *testing.T) {
	outside := p2ptest.Goroutines()
	require.Positive(t, outside)
	p2ptest.Bubble(t, func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		before := p2ptest.Goroutines()
		for range 1000 {
			go func() { <-stop }()
		}
		synctest.Wait()
		require.Equal(t, before+1000, p2ptest.Goroutines())
	})
}
