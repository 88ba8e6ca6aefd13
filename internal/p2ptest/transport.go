package p2ptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	mafmt "github.com/multiformats/go-multiaddr-fmt"
	manet "github.com/multiformats/go-multiaddr/net"
)

// acceptBacklog is how many connections may wait for a listener's Accept.
const acceptBacklog = 1024

var errAddrInUse = errors.New("p2ptest: address already in use")

// memTransport is a libp2p transport whose wires are the pipes of one Network.
// It takes the place of TCP: its addresses are /ip4/…/tcp/…, so that gaters,
// resource manager and peer scores see addresses as they do in life.
type memTransport struct {
	net      *Network
	ip       netip.Addr // source address of dials
	upgrader transport.Upgrader
	rcmgr    network.ResourceManager
}

var _ transport.Transport = (*memTransport)(nil)

var dialable = mafmt.And(mafmt.IP, mafmt.Base(ma.P_TCP))

func (t *memTransport) CanDial(addr ma.Multiaddr) bool { return dialable.Matches(addr) }
func (t *memTransport) Protocols() []int               { return []int{ma.P_TCP} }
func (t *memTransport) Proxy() bool                    { return false }
func (t *memTransport) String() string                 { return "p2ptest" }

func (t *memTransport) Dial(ctx context.Context, raddr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	scope, err := t.rcmgr.OpenConnection(network.DirOutbound, true, raddr)
	if err != nil {
		return nil, err
	}
	c, err := t.dial(ctx, raddr, p, scope)
	if err != nil {
		scope.Done()
		return nil, err
	}
	return c, nil
}

func (t *memTransport) dial(ctx context.Context, raddr ma.Multiaddr, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	_, hostport, err := manet.DialArgs(raddr)
	if err != nil {
		return nil, err
	}
	c, err := t.net.dial(t.ip, hostport)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", hostport, err)
	}
	wrapped, err := manet.WrapNetConn(c)
	if err != nil {
		return nil, err
	}
	return t.upgrader.Upgrade(ctx, t, wrapped, network.DirOutbound, p, scope)
}

func (t *memTransport) Listen(laddr ma.Multiaddr) (transport.Listener, error) {
	_, hostport, err := manet.DialArgs(laddr)
	if err != nil {
		return nil, err
	}
	l, err := t.net.listen(hostport)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", hostport, err)
	}
	wrapped, err := manet.WrapNetListener(l)
	if err != nil {
		return nil, err
	}
	return t.upgrader.UpgradeGatedMaListener(t, t.upgrader.GateMaListener(wrapped)), nil
}

// listen reserves an address; port 0 picks a free one.
func (n *Network) listen(hostport string) (*listener, error) {
	at, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), n.freePort())
	}
	if _, taken := n.listeners[at]; taken {
		return nil, errAddrInUse
	}
	l := &listener{net: n, at: at, accept: make(chan *conn, acceptBacklog), closed: make(chan struct{})}
	n.listeners[at] = l
	return l, nil
}

// dial connects from an address of its own to a listening one. The lock is
// held while the listener is handed its end, so that a closing listener finds
// every end it must close.
func (n *Network) dial(from netip.Addr, hostport string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[to]
	if n.away[from] || n.away[to.Addr()] || n.apart(from, to.Addr()) {
		return nil, syscall.EHOSTUNREACH
	}
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	source := net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, n.freePort()))
	here, there := newConnPair(source, net.TCPAddrFromAddrPort(to), n.latency)
	here.net, there.net = n, n
	here.mine, here.theirs = n.meter(from), n.meter(to.Addr())
	there.mine, there.theirs = here.theirs, here.mine
	select {
	case l.accept <- there: // whole from here on: the listener's side may write at once
		here.mine.conns.Add(1)
		there.mine.conns.Add(1)
		n.conns[here], n.conns[there] = from, to.Addr()
		here.peer, there.peer = to.Addr(), from
		return here, nil
	default:
		return nil, syscall.ECONNREFUSED
	}
}

func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// Vanish takes a host off the network, as when a phone loses it: nobody is told,
// what is written to its connections vanishes for good, and new ones can't be made
// until Return.
func (n *Network) Vanish(h host.Host) {
	ip := hostIP(h)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away[ip] = true
	for c, at := range n.conns {
		if at == ip {
			c.in.lose()
			c.out.lose()
		}
	}
}

// Split parts the network: hosts on different sides hear nothing of each other, as if
// either had vanished, until Mend. Hosts that aren't named hear both sides.
func (n *Network) Split(sides ...[]host.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sides = make(map[netip.Addr]int)
	for i, hosts := range sides {
		for _, h := range hosts {
			n.sides[hostIP(h)] = i + 1
		}
	}
	for c, at := range n.conns {
		if n.apart(at, c.peer) {
			c.in.lose()
			c.out.lose()
		}
	}
}

// Mend lets the sides of a Split make new connections. Old ones stay silent.
func (n *Network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sides = nil
}

// apart tells whether two addresses are on different sides; n.mu is held.
func (n *Network) apart(a, b netip.Addr) bool {
	return n.sides[a] != 0 && n.sides[b] != 0 && n.sides[a] != n.sides[b]
}

// Return lets a host make new connections again. Old ones stay silent.
func (n *Network) Return(h host.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.away, hostIP(h))
}

// hostIP is the address that a host has on its network.
func hostIP(h host.Host) netip.Addr {
	for _, a := range h.Addrs() {
		if ip, err := manet.ToIP(a); err == nil {
			at, _ := netip.AddrFromSlice(ip)
			return at.Unmap()
		}
	}
	return netip.Addr{}
}

// freePort counts through the ephemeral range; n.mu is held. Two dials may
// share a source port after 28,000 others, which nothing here minds.
func (n *Network) freePort() uint16 {
	n.nextPort = (n.nextPort + 1) % (60999 - 32768)
	return 32768 + n.nextPort
}

type listener struct {
	net    *Network
	at     netip.AddrPort
	accept chan *conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.at)
		l.net.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.accept:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
