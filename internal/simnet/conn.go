package simnet

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// conn is one end of a connection.
type conn struct {
	net           *Network
	local, remote *Host
	far           *conn // the other end
	dir           network.Direction
	latency       time.Duration
	opened        time.Time
	arrival       time.Duration // of what was sent last; local.up.mu

	mu      sync.Mutex
	streams []*stream
	closed  bool
}

var _ network.Conn = (*conn)(nil)

func (c *conn) count(class Class, n int) {
	c.local.out.bytes[class].Add(uint64(n))
	c.remote.in.bytes[class].Add(uint64(n))
}

// send puts an event of so many bytes on its way to the other end. It returns how long
// a writer has to wait until there is room for more.
func (c *conn) send(e event, bytes int) (wait time.Duration) {
	if c.local.dead.Load() {
		return 0
	}
	e.end = c.far
	var lost int
	onWire := bytes
	if bytes > 0 {
		t := &c.net.cfg.Transport
		packets, added, acked := t.Cost(bytes)
		lost = c.net.lost(packets)
		added += lost * (t.Room + t.Header)
		onWire += added
		e.seg.split.bytes[Overhead] += uint32(added)
		c.local.out.add(&e.seg.split)
		c.far.count(Overhead, acked)
	}
	up := &c.local.up
	up.mu.Lock()
	now := c.net.clock.now()
	start := max(now, up.free)
	end := start + airtime(onWire, c.local.line.Up)
	up.free = end
	e.at = end + c.latency
	if lost > 0 { // each after the other, as a rule
		e.at += time.Duration(lost) * (2*c.latency + resendAfter)
	}
	e.at = max(e.at, c.arrival)
	c.arrival = e.at
	up.mu.Unlock()
	c.net.clock.add(e)
	return end - now - airtime(c.local.line.Buffer, c.local.line.Up)
}

func airtime(bytes int, rate float64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(bytes) * 8 / rate * float64(time.Second))
}

// received is when something that arrives has come in through the downlink.
func (h *Host) received(at time.Duration, bytes int) time.Duration {
	if h.line.Down <= 0 {
		return at
	}
	h.down.mu.Lock()
	defer h.down.mu.Unlock()
	h.down.free = max(at, h.down.free) + airtime(bytes, h.line.Down)
	return h.down.free
}

// open makes a stream and lets the other end know.
func (c *conn) open(id protocol.ID) (network.Stream, error) {
	here, there := newStream(c, id), newStream(c.far, id)
	here.far, there.far = there, here
	here.dir, there.dir = network.DirOutbound, network.DirInbound
	if !c.keep(here) {
		return nil, network.ErrReset
	}
	c.count(Setup, 2*(len(id)+22)+2*c.net.cfg.Transport.Frame)
	c.send(event{do: func() {
		handle := c.remote.handler(id)
		if handle == nil || !c.far.keep(there) {
			_ = there.Reset()
			return
		}
		go handle(there)
	}}, 0)
	return here, nil
}

func (c *conn) keep(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.streams = append(c.streams, s)
	}
	return !c.closed
}

func (c *conn) drop(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = slices.DeleteFunc(c.streams, func(x *stream) bool { return x == s })
}

// end closes this end and tells nobody but its host.
func (c *conn) end() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	streams := c.streams
	c.streams = nil
	c.mu.Unlock()
	for _, s := range streams {
		s.broken()
	}
	h, p := c.local, c.remote.id
	h.mu.Lock()
	h.conns[p] = slices.DeleteFunc(slices.Clone(h.conns[p]), func(x *conn) bool { return x == c })
	if len(h.conns[p]) == 0 {
		delete(h.conns, p)
	}
	h.mu.Unlock()
	for _, w := range h.notifiees() {
		w.Disconnected((*swarm)(h), c)
	}
}

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close ends the connection here, and there when the other end hears of it.
func (c *conn) Close() error {
	if c.isClosed() {
		return nil
	}
	c.send(event{do: c.far.end}, 0)
	c.end()
	return nil
}

func (c *conn) CloseWithError(network.ConnErrorCode) error { return c.Close() }
func (c *conn) ID() string                                 { return fmt.Sprintf("%d-%d", c.local.Number, c.remote.Number) }
func (c *conn) IsClosed() bool                             { return c.isClosed() }
func (c *conn) As(any) bool                                { return false }
func (c *conn) LocalPeer() peer.ID                         { return c.local.id }
func (c *conn) RemotePeer() peer.ID                        { return c.remote.id }
func (c *conn) RemotePublicKey() ic.PubKey                 { return nil }
func (c *conn) LocalMultiaddr() ma.Multiaddr               { return c.local.addr }
func (c *conn) RemoteMultiaddr() ma.Multiaddr              { return c.remote.addr }
func (c *conn) Scope() network.ConnScope                   { return &network.NullScope{} }

func (c *conn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: c.net.cfg.Transport.Name}
}

func (c *conn) NewStream(context.Context) (network.Stream, error) { return nil, errNotSimulated }

func (c *conn) Stat() network.ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return network.ConnStats{
		Stats:      network.Stats{Direction: c.dir, Opened: c.opened},
		NumStreams: len(c.streams),
	}
}

func (c *conn) GetStreams() []network.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]network.Stream, len(c.streams))
	for i, s := range c.streams {
		all[i] = s
	}
	return all
}
