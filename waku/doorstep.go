package waku

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// doorLook is how often is looked whether who came too often may go on.
	doorLook = 100 * time.Millisecond
	// greeting is what TCP peers say before the handshake that costs something: both
	// lines of multistream.
	greeting = len("\x13/multistream/1.0.0\n\x07/noise\n")
)

// errTooOften is the end of a connection from an address that makes too many.
var errTooOften = errors.New("waku: connected too often")

// doorstep is where those stand who have connected by TCP and haven't shown who they
// are. Behind one address there may be a whole village, so that nobody in it may lock out
// the others: who hangs up before the handshake hasn't come too often; who comes too
// often waits, and isn't sent away; and where there is no room, whoever has stood there
// longest makes some.
type doorstep struct {
	resources *resources
	gater     connmgr.ConnectionGater

	mu   sync.Mutex
	here map[netip.Prefix][]*stranger // the oldest first
}

func newDoorstep(r *resources, g connmgr.ConnectionGater) *doorstep {
	return &doorstep{resources: r, gater: g, here: map[netip.Prefix][]*stranger{}}
}

// doorUpgrader has strangers wait at the door.
type doorUpgrader struct {
	transport.Upgrader
	door *doorstep
	free int // bytes that cost nothing
}

// GateMaListener implements transport.Upgrader.
func (u *doorUpgrader) GateMaListener(l manet.Listener) transport.GatedMaListener {
	return &doorListener{Listener: l, door: u.door, free: u.free}
}

type doorListener struct {
	manet.Listener
	door *doorstep
	free int
}

// Accept implements transport.GatedMaListener.
func (l *doorListener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, nil, err
		}
		if !l.door.gater.InterceptAccept(c) {
			_ = c.Close()
			continue
		}
		if s := l.door.enter(c, l.free); s != nil {
			return s, s.scope, nil
		}
		_ = c.Close()
	}
}

// enter finds room for a connection; nil: there is none.
func (d *doorstep) enter(c manet.Conn, free int) *stranger {
	from := placeOf(c.RemoteMultiaddr())
	scope, err := d.resources.ResourceManager.OpenConnection(network.DirInbound, true, c.RemoteMultiaddr())
	for err != nil {
		oldest := d.oldest(from)
		if oldest == nil {
			return nil
		}
		_ = oldest.Close()
		oldest.scope.Done()
		scope, err = d.resources.ResourceManager.OpenConnection(network.DirInbound, true, c.RemoteMultiaddr())
	}
	s := &stranger{Conn: c, door: d, scope: scope, place: from, free: free, gone: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.here[from] = append(d.here[from], s)
	return s
}

// oldest takes away who has stood there longest of all from a place; of the place that
// has most, if from that one there is nobody.
func (d *doorstep) oldest(from netip.Prefix) *stranger {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.here[from]) == 0 {
		for p, all := range d.here {
			if len(all) > len(d.here[from]) {
				from = p
			}
		}
	}
	if len(d.here[from]) == 0 {
		return nil
	}
	s := d.here[from][0]
	d.remove(s)
	return s
}

// remove takes a stranger off the doorstep. mu is held.
func (d *doorstep) remove(s *stranger) {
	left := slices.DeleteFunc(d.here[s.place], func(x *stranger) bool { return x == s })
	if d.here[s.place] = left; len(left) == 0 {
		delete(d.here, s.place)
	}
}

// known is told of connections whose handshake is over.
func (d *doorstep) known(at ma.Multiaddr) {
	where, ok := socketOf(at)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.here[prefixOf(where.Addr())] {
		if x, ok := socketOf(s.RemoteMultiaddr()); ok && x == where {
			d.remove(s)
			return
		}
	}
}

// stranger is a connection by TCP; after the handshake it is one like any other.
type stranger struct {
	manet.Conn
	door  *doorstep
	scope network.ConnManagementScope
	place netip.Prefix
	free  int // bytes left that cost nothing; used by reads only, which aren't concurrent
	paid  bool
	once  sync.Once
	gone  chan struct{}
}

// Read implements net.Conn.
func (s *stranger) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if s.paid {
		return n, err
	}
	if s.free -= n; s.free < 0 {
		if !s.pay() {
			return 0, errTooOften
		}
		s.paid = true
	}
	return n, err
}

// pay waits until the address has not come too often, or the connection has ended: the
// handshake has its own time limit.
func (s *stranger) pay() bool {
	for !s.door.resources.allow(s.RemoteMultiaddr()) {
		select {
		case <-s.gone:
			return false
		case <-time.After(doorLook):
		}
	}
	return true
}

// Close implements net.Conn.
func (s *stranger) Close() error {
	s.once.Do(func() {
		close(s.gone)
		s.door.mu.Lock()
		defer s.door.mu.Unlock()
		s.door.remove(s)
	})
	return s.Conn.Close()
}

// The transport sets these where there are any.

// SetLinger is that of net.TCPConn.
func (s *stranger) SetLinger(sec int) error {
	if c, ok := s.Conn.(interface{ SetLinger(int) error }); ok {
		return c.SetLinger(sec)
	}
	return nil
}

// SetKeepAlive is that of net.TCPConn.
func (s *stranger) SetKeepAlive(on bool) error {
	if c, ok := s.Conn.(interface{ SetKeepAlive(bool) error }); ok {
		return c.SetKeepAlive(on)
	}
	return nil
}

// SetKeepAlivePeriod is that of net.TCPConn.
func (s *stranger) SetKeepAlivePeriod(d time.Duration) error {
	if c, ok := s.Conn.(interface{ SetKeepAlivePeriod(time.Duration) error }); ok {
		return c.SetKeepAlivePeriod(d)
	}
	return nil
}

// resources is a resource manager that also counts how often an address connects, and a
// peer opens streams.
type resources struct {
	network.ResourceManager
	churn  *rate.Limiter
	intake *intake
}

// OpenConnection implements network.ResourceManager.
func (r *resources) OpenConnection(dir network.Direction, usefd bool, at ma.Multiaddr) (network.ConnManagementScope, error) {
	if !r.allow(at) {
		return nil, errTooOften
	}
	return r.ResourceManager.OpenConnection(dir, usefd, at)
}

func (r *resources) allow(at ma.Multiaddr) bool {
	ip, err := manet.ToIP(at)
	if err != nil {
		return true
	}
	addr, ok := netip.AddrFromSlice(ip)
	return !ok || r.churn.Allow(addr.Unmap())
}

// socketOf is the IP address and TCP port of a multiaddr.
func socketOf(a ma.Multiaddr) (netip.AddrPort, bool) {
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.AddrPort{}, false
	}
	port, err := a.ValueForProtocol(ma.P_TCP)
	if err != nil {
		return netip.AddrPort{}, false
	}
	addr, ok := netip.AddrFromSlice(ip)
	n, err := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok && err == nil
}

// placeOf is what counts as one address: an IPv4 address or an IPv6 /64.
func placeOf(a ma.Multiaddr) netip.Prefix {
	at, _ := socketOf(a)
	return prefixOf(at.Addr())
}

func prefixOf(ip netip.Addr) netip.Prefix {
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits)
	return p
}
