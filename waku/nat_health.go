package waku

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/rendezvous"
	"github.com/status-im/shoal/sharding"
)

// NATHealth is how well a node with [WithNAT] can be reached.
type NATHealth struct {
	// Reachability says whether others can dial the node, Reason why it thinks so,
	// and Since, by the node's clock, since when.
	Reachability Reachability
	Reason       string
	Since        time.Time
	// Circuits are those through which others can reach a private node.
	Circuits []Circuit
	// Registrations are where others find it.
	Registrations []Registration
	// Punched counts the direct connections that came of circuits, and PunchFailed
	// those that didn't.
	Punched, PunchFailed uint64
	// Failure says what is wrong, in a sentence; empty: nothing is.
	Failure string
}

// Circuit is one through which others can reach a node.
type Circuit struct {
	// Relayer is the peer that it leads through.
	Relayer peer.ID
	// Addrs are its addresses, as full multiaddrs that end in /p2p-circuit/p2p/<peer
	// id>.
	Addrs []string
	// Since and Expires are by the node's clock. It is renewed in time.
	Since, Expires time.Time
}

// Registration is where a node is registered with a rendezvous point.
type Registration struct {
	Shard   sharding.Shard
	Point   peer.ID
	Expires time.Time
}

// health is nil without WithNAT.
func (k *natKeeper) health() *NATHealth {
	if k == nil {
		return nil
	}
	n := k.node
	v := k.verdict.Load()
	h := &NATHealth{Reachability: v.is, Reason: v.why, Since: v.at, Circuits: k.circuits.health()}
	now := time.Now()
	for _, r := range n.registration.registrar.Registrations() {
		if s, err := rendezvous.ParseNamespace(r.Namespace); err == nil {
			h.Registrations = append(h.Registrations, Registration{Shard: s, Point: r.Point, Expires: n.cfg.now().Add(r.Expires.Sub(now))})
		}
	}
	var punch string
	h.Punched, h.PunchFailed, punch = k.punches.counts()
	h.Failure = k.failure(h, punch)
	return h
}

// failure says what is wrong first.
func (k *natKeeper) failure(h *NATHealth, punch string) string {
	n := k.node
	var why []string
	for _, s := range n.shards.joined() {
		if s.isServed() {
			why = append(why, fmt.Sprintf("shard %s has no mesh: filter and light push stand in", s.shard))
			break
		}
	}
	if k.isPrivate() && n.relaysAny() {
		switch {
		case !n.listens():
			why = append(why, "it doesn't listen, so nobody can be let in")
		case !k.punches.isReady():
			why = append(why, "no peer has said yet where it sees this node")
		case len(h.Circuits) == 0:
			why = append(why, "no peer gives it a circuit"+prefixed(": ", k.circuits.lastFailure()))
		case len(h.Registrations) == 0:
			why = append(why, "no rendezvous point knows it"+prefixed(": ", n.registration.lastFailure()))
		}
	}
	if h.PunchFailed > 0 && (h.Punched == 0 || len(why) > 0) {
		why = append(why, fmt.Sprintf("%d of %d attempts at a direct connection failed; last: %s", h.PunchFailed, h.Punched+h.PunchFailed, punch))
	}
	return strings.Join(why, "; ")
}

func (k *circuitKeeper) health() (out []Circuit) {
	n := k.node
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, c := range k.held {
		x := Circuit{Relayer: p, Since: c.since, Expires: n.cfg.now().Add(time.Until(c.expires))}
		for _, a := range c.addrs {
			x.Addrs = append(x.Addrs, fullAddr(a, n.host.ID()))
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Circuit) int { return strings.Compare(string(a.Relayer), string(b.Relayer)) })
	return out
}

func (k *circuitKeeper) lastFailure() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failure
}

func (r *registration) lastFailure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// HelperHealth is what a node does for peers that can't be reached: it does while it
// relays and others can reach it.
type HelperHealth struct {
	// Registered counts the registrations with the node as a rendezvous point, of
	// Peers peers; nil: it isn't one.
	Point *rendezvous.PointStats
	// Circuits are those that lead through the node; nil: none do.
	Circuits *CircuitRelayHealth
}

// unreachable is what the summary says of a private node.
func (h *NATHealth) unreachable() string {
	if h == nil || h.Reachability != ReachabilityPrivate || h.Failure == "" {
		return ""
	}
	return "others can't reach this node: " + h.Failure
}
