package waku

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

// The libp2p host writes errors to the process's standard error, with a logger that
// is nobody's, when a listener that is being closed says so in other words than it
// expects. Those of TCP (sometimes) and WebSocket (mostly) do. Hence these two.

type quietTCP struct {
	*tcp.TcpTransport
	door *doorstep
}

func (d *doorstep) newTCP(u transport.Upgrader, r network.ResourceManager, shared *tcpreuse.ConnMgr) (*quietTCP, error) {
	t, err := tcp.NewTCPTransport(&doorUpgrader{Upgrader: u, door: d, free: greeting}, r, shared)
	return &quietTCP{t, d}, err
}

// Listen implements transport.Transport.
func (t *quietTCP) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	return quiet(t.door)(t.TcpTransport.Listen(addr))
}

type quietWebsocket struct {
	*websocket.WebsocketTransport
	door *doorstep
}

func (d *doorstep) newWebsocket(u transport.Upgrader, r network.ResourceManager, shared *tcpreuse.ConnMgr) (*quietWebsocket, error) {
	t, err := websocket.New(&doorUpgrader{Upgrader: u, door: d}, r, shared)
	return &quietWebsocket{t, d}, err
}

// Listen implements transport.Transport.
func (t *quietWebsocket) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	return quiet(t.door)(t.WebsocketTransport.Listen(addr))
}

func quiet(d *doorstep) func(transport.Listener, error) (transport.Listener, error) {
	return func(l transport.Listener, err error) (transport.Listener, error) {
		if err != nil {
			return nil, err
		}
		return &quietListener{Listener: l, door: d}, nil
	}
}

type quietListener struct {
	transport.Listener
	door   *doorstep
	closed atomic.Bool
}

// Accept implements transport.Listener.
func (l *quietListener) Accept() (transport.CapableConn, error) {
	c, err := l.Listener.Accept()
	if err != nil && l.closed.Load() {
		return nil, transport.ErrListenerClosed
	}
	if err == nil {
		l.door.known(c.RemoteMultiaddr())
	}
	return c, err
}

// Close implements transport.Listener.
func (l *quietListener) Close() error {
	l.closed.Store(true)
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
