package waku

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	circuitrelay "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/rendezvous"
)

// helper is what a node that relays does for those that can't be reached: it is a
// rendezvous point for its shards, and holds circuits.
type helper struct {
	node *Node

	mu    sync.Mutex
	point *rendezvous.Point
	relay *circuitrelay.Relay
	acl   *circuitACL
	tests *reachTester
	read  bool // what the last run kept
	// kept is what the point knew when it was closed, for the next one.
	kept []byte
	// past is what earlier points and relays have done.
	pastPoint rendezvous.PointStats
}

// statePoint is the name of what a rendezvous point keeps for the next run.
const statePoint = "rendezvous"

// memoryOnly is how often a point without a store is saved: when it is closed.
const memoryOnly = 24 * time.Hour

// open reads what the last run's point knew, which the first point waits for.
func (h *helper) open() {
	n := h.node
	if n.cfg.noPoint || n.cfg.state == nil {
		h.read = true
		return
	}
	n.tasks.start(func(ctx context.Context) {
		kept := n.state.load(ctx, statePoint)
		h.mu.Lock()
		h.kept, h.read = kept, true
		h.mu.Unlock()
		h.review()
	})
}

// relaysAny tells whether the node relays a shard.
func (n *Node) relaysAny() bool {
	return slices.ContainsFunc(n.shards.all(), func(s *shard) bool { return n.relays(s.shard) })
}

// listens tells whether anybody could dial the node at all.
func (n *Node) listens() bool {
	return slices.ContainsFunc(n.host.Network().ListenAddresses(), func(a ma.Multiaddr) bool { return !isCircuit(a) })
}

// review opens and closes what the node does for others.
func (h *helper) review() {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.node
	helps := !n.isClosed() && n.gate.isOpen() && n.isPublic() && n.relaysAny() && n.listens()
	if helps && !n.cfg.noPoint && h.read {
		h.openPoint()
	} else {
		h.closePoint()
	}
	if helps && !n.cfg.noCircuits {
		h.openRelay()
	} else {
		h.closeRelay()
	}
}

func (h *helper) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closePoint()
	h.closeRelay()
	return nil
}

func (h *helper) openPoint() {
	if h.point != nil {
		return
	}
	n := h.node
	cfg := rendezvous.PointConfig{
		Serves:    n.servesNamespace,
		Snapshots: pointState{h},
		SaveEvery: memoryOnly,
		OnFailure: func(from peer.ID, err error) {
			n.cfg.logger.Debug("rendezvous: a request came to nothing", "peer", from, "err", line(err))
		},
	}
	if n.cfg.state != nil {
		cfg.SaveEvery = 0 // as by default
	}
	if n.cfg.network.Private { // all may live at one address
		cfg.MaxPerAddress = rendezvous.DefaultMaxRegistrations
		cfg.AddressRate = -1
	}
	h.point = rendezvous.NewPoint(n.host, cfg)
}

func (h *helper) closePoint() {
	if h.point == nil {
		return
	}
	st := h.point.Stats()
	if err := h.point.Close(); err != nil {
		h.node.cfg.logger.Warn("the rendezvous point's registrations can't be kept", "err", line(err))
	}
	addPointStats(&h.pastPoint, st)
	h.point = nil
}

// servesNamespace tells whether a namespace is that of a shard that this node relays.
func (n *Node) servesNamespace(ns string) bool {
	s, err := rendezvous.ParseNamespace(ns)
	return err == nil && n.relays(s)
}

// pointState keeps a point's registrations in the node's memory, and in its state store
// if it has one. The helper's mu is held whenever a point is opened or closed; in
// between it saves by itself.
type pointState struct{ h *helper }

// Load implements rendezvous.Snapshots.
func (s pointState) Load() ([]byte, error) { return s.h.kept, nil }

// Save implements rendezvous.Snapshots.
func (s pointState) Save(b []byte) error {
	b = slices.Clone(b)
	s.h.kept = b
	s.h.node.state.save(statePoint, b)
	return nil
}

func (h *helper) openRelay() {
	if h.relay != nil {
		return
	}
	n := h.node
	if h.acl == nil {
		h.acl = newCircuitACL(n)
	}
	opts := []circuitrelay.Option{
		circuitrelay.WithResources(h.acl.resources()),
		circuitrelay.WithACL(h.acl),
		circuitrelay.WithMetricsTracer(h.acl),
		circuitrelay.WithReservationAddressFilter(n.mayTell),
	}
	r, err := circuitrelay.New(n.host, opts...)
	if err != nil {
		n.cfg.logger.Warn("no circuits for others", "err", line(err))
		return
	}
	h.relay = r
	if n.nat != nil || n.cfg.host != nil || n.cfg.network.Private {
		return
	}
	if h.tests, err = newReachTester(n); err != nil {
		n.cfg.logger.Warn("others can't be told whether they can be reached", "err", line(err))
	}
}

func (h *helper) closeRelay() {
	if h.relay == nil {
		return
	}
	if err := h.relay.Close(); err != nil {
		h.node.cfg.logger.Debug("closing the circuit relay", "err", line(err))
	}
	if h.tests != nil {
		if err := h.tests.close(); err != nil {
			h.node.cfg.logger.Debug("closing AutoNAT", "err", line(err))
		}
	}
	h.relay, h.tests = nil, nil
	h.acl.clear()
}

// reserved are the peers of our shards that hold a circuit here.
func (h *helper) reserved() []peer.ID {
	h.mu.Lock()
	acl := h.acl
	h.mu.Unlock()
	if acl == nil {
		return nil
	}
	return acl.members()
}

// stats are what the point and the circuit relay hold and have done; nil: there is none
// now.
func (h *helper) stats() (point *rendezvous.PointStats, circuits *CircuitRelayHealth) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.point != nil {
		st := h.point.Stats()
		addPointStats(&st, h.pastPoint)
		point = &st
	}
	if h.relay != nil {
		circuits = h.acl.health()
	}
	return point, circuits
}

// addPointStats adds what is counted, and not what there is.
func addPointStats(to *rendezvous.PointStats, more rendezvous.PointStats) {
	to.Registered += more.Registered
	to.Renewed += more.Renewed
	to.Unregistered += more.Unregistered
	to.Expired += more.Expired
	to.Displaced += more.Displaced
	to.Discovered += more.Discovered
	to.Shown += more.Shown
	to.Failed += more.Failed
	refused := map[rendezvous.StatusCode]uint64{}
	for _, from := range []map[rendezvous.StatusCode]uint64{to.Refused, more.Refused} {
		for code, n := range from {
			refused[code] += n
		}
	}
	to.Refused = refused
}

// mayTell tells whether an address is one that others may be told of.
func (n *Node) mayTell(a ma.Multiaddr) bool {
	return n.cfg.network.Private || n.discovery.book.MayDial("", a)
}
