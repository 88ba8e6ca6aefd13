package simnet_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/simnet"
)

// socket counts what real hosts hand to the kernel.
type socket struct{ calls, bytes atomic.Int64 }

func (s *socket) wrote(n int) { s.calls.Add(1); s.bytes.Add(int64(n)) }

type countedConn struct {
	net.Conn
	to *socket
}

func (c countedConn) Write(b []byte) (int, error) {
	c.to.wrote(len(b))
	return c.Conn.Write(b)
}

// countedNoise is Noise over a connection that is counted.
type countedNoise struct {
	*noise.Transport
	to *socket
}

func (t countedNoise) SecureInbound(ctx context.Context, c net.Conn, p peer.ID) (sec.SecureConn, error) {
	return t.Transport.SecureInbound(ctx, countedConn{c, t.to}, p)
}

func (t countedNoise) SecureOutbound(ctx context.Context, c net.Conn, p peer.ID) (sec.SecureConn, error) {
	return t.Transport.SecureOutbound(ctx, countedConn{c, t.to}, p)
}

type countedPackets struct {
	net.PacketConn
	to *socket
}

func (c countedPackets) WriteTo(b []byte, a net.Addr) (int, error) {
	c.to.wrote(len(b))
	return c.PacketConn.WriteTo(b, a)
}

func tcpHost(t *testing.T, to *socket) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.Security(noise.ID, func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*countedNoise, error) {
			n, err := noise.New(id, key, muxers)
			return &countedNoise{n, to}, err
		}))
	require.NoError(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func quicHost(t *testing.T, to *socket) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.QUICReuse(quicreuse.NewConnManager, quicreuse.DisableReuseport(),
			quicreuse.OverrideListenUDP(func(network string, a *net.UDPAddr) (net.PacketConn, error) {
				c, err := net.ListenUDP(network, a)
				if err == nil {
					t.Cleanup(func() { c.Close() }) // a host leaves those it dialled from open
				}
				return countedPackets{c, to}, err
			})))
	require.NoError(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

// calibrated are sizes of RPCs: a call off, offers, messages.
var calibrated = []int{48, 600, 2100, 20_000, 100_000}

// TestCalibration measures with real hosts what simnet's transports add to a write.
// Whoever reads has read it all before the next one, as on a mesh link that isn't full.
func TestCalibration(t *testing.T) {
	const id, writes = protocol.ID("/calibration/1"), 40
	for _, c := range []struct {
		model simnet.Transport
		make  func(*testing.T, *socket) host.Host
	}{{simnet.TCP(), tcpHost}, {simnet.QUIC(), quicHost}} {
		t.Run(c.model.Name, func(t *testing.T) {
			var out, back socket
			from, to := c.make(t, &out), c.make(t, &back)
			read := make(chan int, 1)
			sizes := make(chan int, 1)
			to.SetStreamHandler(id, func(s network.Stream) {
				defer s.Reset()
				for size := range sizes {
					n, _ := io.ReadFull(s, make([]byte, size))
					read <- n
				}
			})
			p2ptest.Connect(t, from, to)
			s, err := from.NewStream(t.Context(), to.ID(), id)
			require.NoError(t, err)
			write := func(size int) {
				sizes <- size
				_, err := s.Write(make([]byte, size))
				require.NoError(t, err)
				require.Equal(t, size, <-read)
			}
			defer close(sizes)
			for range 20 { // the stream's opening, the congestion window's
				write(20_000)
			}
			for _, size := range calibrated {
				calls, bytes, answers, answered := out.calls.Load(), out.bytes.Load(), back.calls.Load(), back.bytes.Load()
				for range writes {
					write(size)
				}
				calls, bytes = out.calls.Load()-calls, out.bytes.Load()-bytes
				answers, answered = back.calls.Load()-answers, back.bytes.Load()-answered
				packets, sent, acked := c.model.Cost(size)
				real := float64(bytes)/writes - float64(size) // what the socket saw beyond the write
				modelled := float64(sent)
				if c.model.Name == "tcp" {
					modelled -= float64(packets * c.model.Header) // the kernel's, not seen here
				} else {
					real += 28 * float64(calls) / writes
				}
				t.Logf("%6d bytes: added %.1f in %.2f calls, modelled %.0f and %d packets; back %.1f bytes in %.2f calls, modelled %d",
					size, real, float64(calls)/writes, modelled, packets, float64(answered)/writes, float64(answers)/writes, acked)
				require.InDelta(t, float64(size)+modelled, float64(size)+real, 0.03*float64(size)+25)
			}
		})
	}
}
