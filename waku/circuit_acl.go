package waku

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	circuitrelay "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"
)

// The circuits that a relayer gives others carry what it takes to punch a hole, some
// 15 KiB in all, and not messages.
const (
	// maxReservedCircuits is how many peers may be reachable through one node,
	// however many connections it may have.
	maxReservedCircuits = 4096
	// circuitsPerIP is how many of them may be at one address.
	circuitsPerIP = 8
	// strangersShare is which part of them may be peers that carry no shard of ours.
	strangersShare = 4
	// circuitsPerPeer is how many circuits of one peer may be open at a time, and
	// circuitTime and circuitBytes, in each direction, how much one may be used.
	circuitsPerPeer = 16
	circuitTime     = 2 * time.Minute
	circuitBytes    = 128 << 10
	// circuitsPerSecond are opened in the long run, circuitBurst at once; one address
	// opens one every callerEvery, callerBurst at once.
	circuitsPerSecond = 4
	circuitBurst      = 128
	callerEvery       = 2 * time.Second
	callerBurst       = 24
	// maxCallers bounds what is remembered of who opened circuits.
	maxCallers = 4096
	// aclWait is how long a peer that came just now may take to say what it carries.
	aclWait = 3 * time.Second
)

// circuitACL decides who gets a circuit: peers of our shards first. What is in use is
// never taken from anybody.
type circuitACL struct {
	node *Node

	mu      sync.Mutex
	holds   map[peer.ID]circuitHold
	all     *rate.Limiter
	callers map[string]*rate.Limiter

	reservations, open                   atomic.Int64
	granted, renewed, refused, strangers atomic.Uint64
	opened, closed, declined, bytes      atomic.Uint64
}

// circuitHold is a peer that may have reserved.
type circuitHold struct {
	until  time.Time
	member bool
}

var (
	_ circuitrelay.ACLFilter     = (*circuitACL)(nil)
	_ circuitrelay.MetricsTracer = (*circuitACL)(nil)
)

func newCircuitACL(n *Node) *circuitACL {
	return &circuitACL{
		node: n, holds: map[peer.ID]circuitHold{}, callers: map[string]*rate.Limiter{},
		all: rate.NewLimiter(circuitsPerSecond, circuitBurst),
	}
}

// resources are the limits of the library. Who has a circuit is connected, so there are
// no more than half of the connections that others may make.
func (a *circuitACL) resources() circuitrelay.Resources {
	c := circuitrelay.DefaultResources()
	c.MaxReservations = a.most()
	c.MaxCircuits = circuitsPerPeer
	c.MaxReservationsPerIP = circuitsPerIP
	c.MaxReservationsPerASN = max(a.most()/4, circuitsPerIP)
	if a.node.cfg.network.Private { // all may live at one address
		c.MaxReservationsPerIP, c.MaxReservationsPerASN = a.most(), a.most()
	}
	c.Limit = &circuitrelay.RelayLimit{Duration: circuitTime, Data: circuitBytes}
	return c
}

func (a *circuitACL) most() int {
	return min(max(1, inboundShare(a.node.cfg.maxConns)/2), maxReservedCircuits)
}

// AllowReserve implements relay.ACLFilter.
func (a *circuitACL) AllowReserve(p peer.ID, _ ma.Multiaddr) bool {
	n := a.node
	r := n.peers.get(p)
	if r == nil {
		return false // gone, or turned away
	}
	timer := time.NewTimer(aclWait)
	defer timer.Stop()
	select {
	case <-r.settled:
	case <-r.gone:
		return false
	case <-timer.C:
	case <-n.tasks.ctx.Done():
		return false
	}
	if n.peers.failed(r) != nil {
		return false
	}
	member := n.isMember(r)
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again := a.holds[p]; !again && !member && a.countStrangers(now) >= max(1, a.most()/strangersShare) {
		a.strangers.Add(1)
		return false
	}
	a.holds[p] = circuitHold{now.Add(time.Hour), member}
	return true
}

// countStrangers forgets those who are gone, and counts the strangers that are left. mu
// is held.
func (a *circuitACL) countStrangers(now time.Time) (strangers int) {
	for p, h := range a.holds {
		switch {
		case now.After(h.until) || !a.node.isDirect(p):
			delete(a.holds, p)
		case !h.member:
			strangers++
		}
	}
	return strangers
}

// members are those who carry a shard of ours and may have a circuit.
func (a *circuitACL) members() (ids []peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.countStrangers(now)
	for p, h := range a.holds {
		if h.member {
			ids = append(ids, p)
		}
	}
	return ids
}

func (a *circuitACL) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.holds)
	a.reservations.Store(0)
}

// AllowConnect implements relay.ACLFilter.
func (a *circuitACL) AllowConnect(src peer.ID, at ma.Multiaddr, _ peer.ID) bool {
	if _, cut := a.node.gater.isCut(src); cut || !a.afford(at) {
		a.declined.Add(1)
		return false
	}
	return true
}

// afford takes what a circuit costs from the caller's address and from all.
func (a *circuitACL) afford(at ma.Multiaddr) bool {
	ip, err := manet.ToIP(at)
	if err != nil {
		return false
	}
	if ip.To4() == nil { // a /56 is one household
		ip = slices.Clone(ip)
		clear(ip[7:])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.node.cfg.network.Private {
		caller := a.callers[string(ip)]
		if caller == nil {
			if len(a.callers) >= maxCallers {
				a.forgetCallers()
			}
			caller = rate.NewLimiter(rate.Every(callerEvery), callerBurst)
			a.callers[string(ip)] = caller
		}
		if !caller.Allow() {
			return false
		}
	}
	return a.all.Allow()
}

// forgetCallers makes room: first of those who haven't opened any for a while, and if
// there are none, of anybody. mu is held.
func (a *circuitACL) forgetCallers() {
	for ip, l := range a.callers {
		if l.Tokens() >= callerBurst {
			delete(a.callers, ip)
		}
	}
	for ip := range a.callers {
		if len(a.callers) < maxCallers {
			return
		}
		delete(a.callers, ip)
	}
}

// RelayStatus implements relay.MetricsTracer.
func (a *circuitACL) RelayStatus(bool) {}

// ConnectionOpened implements relay.MetricsTracer.
func (a *circuitACL) ConnectionOpened() { a.open.Add(1); a.opened.Add(1) }

// ConnectionClosed implements relay.MetricsTracer.
func (a *circuitACL) ConnectionClosed(time.Duration) { a.open.Add(-1); a.closed.Add(1) }

// ConnectionRequestHandled implements relay.MetricsTracer.
func (a *circuitACL) ConnectionRequestHandled(circuitpb.Status) {}

// ReservationAllowed implements relay.MetricsTracer.
func (a *circuitACL) ReservationAllowed(renewal bool) {
	if renewal {
		a.renewed.Add(1)
		return
	}
	a.granted.Add(1)
	a.reservations.Add(1)
}

// ReservationClosed implements relay.MetricsTracer.
func (a *circuitACL) ReservationClosed(n int) { a.reservations.Add(int64(-n)) }

// ReservationRequestHandled implements relay.MetricsTracer.
func (a *circuitACL) ReservationRequestHandled(s circuitpb.Status) {
	if s != circuitpb.Status_OK {
		a.refused.Add(1)
	}
}

// BytesTransferred implements relay.MetricsTracer.
func (a *circuitACL) BytesTransferred(n int) { a.bytes.Add(uint64(n)) }

// CircuitRelayHealth is what a node does for peers that others can't reach.
type CircuitRelayHealth struct {
	// Reservations is how many peers others can reach through this node, of Max;
	// Circuits how many are being used now.
	Reservations, Max, Circuits int
	// Granted counts reservations, renewals not included, and Refused those that
	// weren't granted, for want of room or because one address, or peers that carry
	// no shard of ours, had enough.
	Granted, Refused uint64
	// Opened counts circuits, Declined those that weren't opened because of the
	// limits of their rate, and Bytes what went through all, both directions
	// together.
	Opened, Declined, Bytes uint64
}

func (a *circuitACL) health() *CircuitRelayHealth {
	return &CircuitRelayHealth{
		Reservations: int(max(0, a.reservations.Load())), Max: a.most(), Circuits: int(max(0, a.open.Load())),
		Granted: a.granted.Load(), Refused: a.refused.Load(),
		Opened: a.opened.Load(), Declined: a.declined.Load(), Bytes: a.bytes.Load(),
	}
}
