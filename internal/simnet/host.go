package simnet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	p2pevent "github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

var (
	errClosed      = errors.New("simnet: host is closed")
	errUnreachable = errors.New("simnet: nobody answers there")
)

// Host is a host.Host on a Network. See the package comment for what it can't do.
type Host struct {
	// Number counts the network's hosts from 0.
	Number int

	net   *Network
	id    peer.ID
	ip    netip.Addr
	addr  ma.Multiaddr
	place place
	line  Line
	mux   *multistream.MultistreamMuxer[protocol.ID]
	bus   p2pevent.Bus
	known p2pevent.Emitter // EvtPeerIdentificationCompleted
	news  p2pevent.Emitter // EvtPeerProtocolsUpdated

	dead    atomic.Bool
	side    atomic.Int32
	in, out meter

	up, down queue

	mu       sync.RWMutex
	closed   bool
	handlers map[protocol.ID]network.StreamHandler
	conns    map[peer.ID][]*conn
	watchers []network.Notifiee
}

// queue is a line's one direction: when it will be free.
type queue struct {
	mu   sync.Mutex
	free time.Duration
}

var _ host.Host = (*Host)(nil)

// HostConfig says what one host is like. The zero value works.
type HostConfig struct {
	// Line is its access to the network. Zero: without limits.
	Line Line
	// IP is its address. Zero: one of its own, of 20.0.0.0/8.
	IP netip.Addr
}

// Host adds a host. Its id is the same in every run: it is made up, no key belongs to
// it.
func (n *Network) Host(c HostConfig) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.hosts)
	if !c.IP.IsValid() {
		c.IP = netip.AddrFrom4([4]byte{20, byte(number >> 16), byte(number >> 8), byte(number)})
	}
	if c.Line.Buffer == 0 {
		c.Line.Buffer = 256 << 10
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("shoal simulated host "), uint64(number)))
	h := &Host{
		Number: number, net: n, ip: c.IP, line: c.Line,
		id:       peer.ID(append([]byte{0x12, 0x20}, sum[:]...)), // a SHA-256 multihash, as of an RSA key
		addr:     ma.StringCast(fmt.Sprintf("/ip4/%s/tcp/60000", c.IP)),
		place:    newPlace(n.rand),
		mux:      multistream.NewMultistreamMuxer[protocol.ID](),
		bus:      eventbus.NewBus(),
		handlers: map[protocol.ID]network.StreamHandler{},
		conns:    map[peer.ID][]*conn{},
	}
	h.known, _ = h.bus.Emitter(new(p2pevent.EvtPeerIdentificationCompleted))
	h.news, _ = h.bus.Emitter(new(p2pevent.EvtPeerProtocolsUpdated))
	n.hosts[h.id] = h
	return h
}

// ID implements host.Host.
func (h *Host) ID() peer.ID { return h.id }

// Addrs implements host.Host.
func (h *Host) Addrs() []ma.Multiaddr { return []ma.Multiaddr{h.addr} }

// Network implements host.Host.
func (h *Host) Network() network.Network { return (*swarm)(h) }

// Peerstore implements host.Host. It knows the addresses of everybody, forgets what it
// is told, and can't do anything else.
func (h *Host) Peerstore() peerstore.Peerstore { return book{net: h.net} }

// Mux implements host.Host.
func (h *Host) Mux() protocol.Switch { return h.mux }

// ConnManager implements host.Host: no connection is ever trimmed.
func (h *Host) ConnManager() connmgr.ConnManager { return connmgr.NullConnMgr{} }

// EventBus implements host.Host. The only events are the end of identify and
// protocols that a peer added.
func (h *Host) EventBus() p2pevent.Bus { return h.bus }

// Dead reports whether the host was killed.
func (h *Host) Dead() bool { return h.dead.Load() }

// Traffic is what the host has received and sent.
func (h *Host) Traffic() Traffic { return Traffic{In: h.in.flow(), Out: h.out.flow()} }

// SetStreamHandler implements host.Host.
func (h *Host) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	h.mux.AddHandler(id, nil)
	h.mu.Lock()
	h.handlers[id] = f
	h.mu.Unlock()
	for _, c := range h.allConns() {
		c.send(event{do: func() {
			_ = c.remote.news.Emit(p2pevent.EvtPeerProtocolsUpdated{Peer: h.id, Added: []protocol.ID{id}})
		}}, 0)
	}
}

// SetStreamHandlerMatch implements host.Host for the protocol itself alone.
func (h *Host) SetStreamHandlerMatch(id protocol.ID, _ func(protocol.ID) bool, f network.StreamHandler) {
	h.SetStreamHandler(id, f)
}

// RemoveStreamHandler implements host.Host.
func (h *Host) RemoveStreamHandler(id protocol.ID) {
	h.mux.RemoveHandler(id)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.handlers, id)
}

func (h *Host) handler(id protocol.ID) network.StreamHandler {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.handlers[id]
}

// Connect implements host.Host. It takes the round trips of a handshake; both sides
// know each other's protocols one round trip later.
func (h *Host) Connect(ctx context.Context, info peer.AddrInfo) error {
	if len(h.connsTo(info.ID)) > 0 {
		return nil
	}
	to := h.net.host(info.ID)
	if to == nil || to == h {
		return errUnreachable
	}
	trip := 2 * h.net.latency(h, to)
	timer := time.NewTimer(time.Duration(h.net.cfg.Transport.RoundTrips) * trip)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if h.dead.Load() || to.dead.Load() || h.net.apart(h, to) {
		return errUnreachable
	}
	return h.link(to)
}

// link makes a connection, unless there is one.
func (h *Host) link(to *Host) error {
	here := &conn{net: h.net, local: h, remote: to, dir: network.DirOutbound, opened: time.Now()}
	there := &conn{net: h.net, local: to, remote: h, dir: network.DirInbound, opened: here.opened}
	here.far, there.far = there, here
	here.latency = h.net.latency(h, to)
	there.latency = here.latency
	first, second := h, to // one order for all, lest two hosts wait for each other
	if second.Number < first.Number {
		first, second = second, first
	}
	first.mu.Lock()
	second.mu.Lock()
	switch {
	case h.closed || to.closed:
		second.mu.Unlock()
		first.mu.Unlock()
		return errClosed
	case len(h.conns[to.id]) > 0:
		second.mu.Unlock()
		first.mu.Unlock()
		return nil
	}
	h.conns[to.id] = append(h.conns[to.id], here)
	to.conns[h.id] = append(to.conns[h.id], there)
	second.mu.Unlock()
	first.mu.Unlock()
	for _, c := range []*conn{here, there} {
		c.count(Setup, h.net.cfg.Transport.Setup)
		for _, w := range c.local.notifiees() {
			w.Connected((*swarm)(c.local), c)
		}
		h.net.clock.after(2*c.latency, func() { c.identified() })
	}
	return nil
}

func (c *conn) identified() {
	if !c.isClosed() {
		_ = c.local.known.Emit(p2pevent.EvtPeerIdentificationCompleted{
			Peer: c.remote.id, Conn: c, Protocols: c.remote.mux.Protocols(),
		})
	}
}

// NewStream implements host.Host. The peer's protocols are known, so it takes no
// round trip: the peer hears of the stream in a moment.
func (h *Host) NewStream(_ context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	conns := h.connsTo(p)
	if len(conns) == 0 {
		return nil, network.ErrNoConn
	}
	c := conns[0]
	for _, id := range ids {
		if c.remote.handler(id) != nil {
			return c.open(id)
		}
	}
	return nil, multistream.ErrNotSupported[protocol.ID]{Protos: ids}
}

// Close implements host.Host: connections end, and the network forgets the host's
// handlers. What still runs on its streams is told so.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	for _, c := range h.allConns() {
		_ = c.Close()
	}
	return errors.Join(h.known.Close(), h.news.Close())
}

func (h *Host) connsTo(p peer.ID) []*conn {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(h.conns[p])
}

func (h *Host) allConns() (all []*conn) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, cs := range h.conns {
		all = append(all, cs...)
	}
	return all
}

func (h *Host) notifiees() []network.Notifiee {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(h.watchers)
}
