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

type quietTCP struct{ *tcp.TcpTransport }

func newTCP(u transport.Upgrader, r network.ResourceManager, shared *tcpreuse.ConnMgr) (*quietTCP, error) {
	t, err := tcp.NewTCPTransport(u, r, shared)
	return &quietTCP{t}, err
}

// Listen implements transport.Transport.
func (t *quietTCP) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	return quiet(t.TcpTransport.Listen(addr))
}

type quietWebsocket struct{ *websocket.WebsocketTransport }

func newWebsocket(u transport.Upgrader, r network.ResourceManager, shared *tcpreuse.ConnMgr) (*quietWebsocket, error) {
	t, err := websocket.New(u, r, shared)
	return &quietWebsocket{t}, err
}

// Listen implements transport.Transport.
func (t *quietWebsocket) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	return quiet(t.WebsocketTransport.Listen(addr))
}

func quiet(l transport.Listener, err error) (transport.Listener, error) {
	if err != nil {
		return nil, err
	}
	return &quietListener{Listener: l}, nil
}

type quietListener struct {
	transport.Listener
	closed atomic.Bool
}

// Accept implements transport.Listener.
func (l *quietListener) Accept() (transport.CapableConn, error) {
	c, err := l.Listener.Accept()
	if err != nil && l.closed.Load() {
		return nil, transport.ErrListenerClosed
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
