package waku

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Reachability says whether others can dial a node.
type Reachability uint8

// What is known of a node's reachability.
const (
	// ReachabilityUnknown: nobody has tried yet.
	ReachabilityUnknown Reachability = iota
	// ReachabilityPublic: others can dial it, at an address that it announces.
	ReachabilityPublic
	// ReachabilityPrivate: they can't, or nobody could tell them where.
	ReachabilityPrivate
)

// String returns "unknown", "public" or "private".
func (r Reachability) String() string {
	switch r {
	case ReachabilityUnknown:
		return "unknown"
	case ReachabilityPublic:
		return "public"
	case ReachabilityPrivate:
		return "private"
	}
	return fmt.Sprintf("reachability %d", uint8(r))
}

// unknownFor is after how long without a verdict a node begins to act as if it were
// private: a circuit that wasn't needed does no harm.
const unknownFor = 10 * time.Second

// natKeeper follows whether others can reach the node, and sees to what follows from
// that. There is none without WithNAT.
type natKeeper struct {
	node     *Node
	circuits *circuitKeeper
	punches  punchTable

	verdict   atomic.Pointer[natVerdict]
	reviewing sync.Mutex // one review after the other

	mu   sync.Mutex
	v1   network.Reachability // AutoNAT v1's opinion
	seen time.Time            // when relayers were dialled anew last
	anew time.Duration        // until it may be done again
}

// natVerdict doesn't change.
type natVerdict struct {
	is        Reachability
	why       string
	since     time.Time      // monotonic
	at        time.Time      // the node's clock
	confirmed []ma.Multiaddr // at which others have reached the node
}

func newNATKeeper(n *Node) *natKeeper {
	k := &natKeeper{node: n}
	k.punches = punchTable{node: n, m: map[peerID]*meeting{}, seen: make(chan struct{}, 1), ready: make(chan struct{})}
	k.circuits = newCircuitKeeper(n)
	k.verdict.Store(&natVerdict{since: time.Now(), at: n.cfg.now(), why: "nobody has tried yet"})
	return k
}

// isPrivate tells whether the node does what private ones do.
func (k *natKeeper) isPrivate() bool {
	v := k.verdict.Load()
	return v.is == ReachabilityPrivate || v.is == ReachabilityUnknown && time.Since(v.since) >= unknownFor
}

// mayCircuit tells whether the node dials and takes circuits: a public one never does.
func (n *Node) mayCircuit() bool {
	return n.nat != nil && n.nat.verdict.Load().is != ReachabilityPublic
}

// isPublic tells whether others can reach the node, as far as it knows: without WithNAT
// its addresses are taken for what they are.
func (n *Node) isPublic() bool {
	return n.nat == nil || n.nat.verdict.Load().is == ReachabilityPublic
}

// openNAT begins to follow.
func (n *Node) openNAT() error {
	k := n.nat
	if k == nil {
		return nil
	}
	sub, err := n.host.EventBus().Subscribe([]any{
		new(event.EvtLocalReachabilityChanged), new(event.EvtHostReachableAddrsChanged), new(event.EvtLocalAddressesUpdated),
	})
	if err != nil {
		return fmt.Errorf("waku: watching reachability: %w", err)
	}
	n.onClose(sub.Close)
	if err := k.circuits.open(); err != nil {
		return err
	}
	n.tasks.start(k.punches.prepare)
	n.tasks.start(func(ctx context.Context) {
		k.review()
		for {
			select {
			case e, open := <-sub.Out():
				if !open {
					return
				}
				if v1, ok := e.(event.EvtLocalReachabilityChanged); ok {
					k.mu.Lock()
					k.v1 = v1.Reachability
					k.mu.Unlock()
				}
				k.review()
			case <-ctx.Done():
				return
			}
		}
	})
	n.tasks.start(k.circuits.keep)
	n.tasks.start(n.watchMeshes)
	return nil
}

// review judges anew, and lets what depends on it follow.
func (k *natKeeper) review() {
	k.reviewing.Lock()
	defer k.reviewing.Unlock()
	n := k.node
	was := k.verdict.Load()
	is, why, confirmed := k.judge()
	same := slices.EqualFunc(was.confirmed, confirmed, ma.Multiaddr.Equal)
	if is == was.is && same {
		n.registerAnew()
		return
	}
	v := &natVerdict{is: is, why: why, since: was.since, at: was.at, confirmed: confirmed}
	if is != was.is {
		v.since, v.at = time.Now(), n.cfg.now()
	}
	k.verdict.Store(v)
	if is != was.is {
		n.cfg.logger.Info("reachability", "is", is, "because", why)
		n.emit(Event{Kind: ReachabilityChanged, Reachability: is, Reason: why})
		k.useCircuits()
		n.discovery.reopenDiscv5()
		n.meshesChanged()
	}
	k.circuits.changed()
	k.circuits.announce(true)
	n.helper.review()
	n.refreshRecord()
	n.registerAnew()
	n.discovery.changed()
}

// useCircuits tells the book whether others may be dialled through circuits.
func (k *natKeeper) useCircuits() {
	k.node.discovery.book.UseCircuits(time.Now(), k.node.mayCircuit() && k.punches.isReady())
}

// judge weighs what is known: what others have reached counts most. That somebody
// reached the node somewhere (AutoNAT v1) counts only if it can tell others where.
func (k *natKeeper) judge() (is Reachability, why string, confirmed []ma.Multiaddr) {
	k.mu.Lock()
	v1 := k.v1
	k.mu.Unlock()
	h := k.node.host
	if k.node.cfg.network.Private {
		if v1 == network.ReachabilityPrivate {
			return ReachabilityPrivate, "others couldn't reach it", nil
		}
		return ReachabilityPublic, "the network is a private one", nil
	}
	var unreachable []ma.Multiaddr
	if c, ok := h.(interface {
		ConfirmedAddrs() (reachable, unreachable, unknown []ma.Multiaddr)
	}); ok {
		confirmed, unreachable, _ = c.ConfirmedAddrs()
	}
	if len(confirmed) > 0 {
		return ReachabilityPublic, fmt.Sprintf("others have reached it at %s", confirmed[0]), confirmed
	}
	public := slices.DeleteFunc(k.own(), func(a ma.Multiaddr) bool { return !manet.IsPublicAddr(a) })
	untold := slices.DeleteFunc(slices.Clone(public), func(a ma.Multiaddr) bool { return slices.ContainsFunc(unreachable, a.Equal) })
	switch {
	case len(public) == 0 && v1 == network.ReachabilityPublic:
		return ReachabilityPrivate, "others can reach it, but too few agree on where", nil
	case len(public) == 0:
		return ReachabilityPrivate, "none of its addresses is one of the internet's", nil
	case len(untold) == 0, v1 == network.ReachabilityPrivate:
		return ReachabilityPrivate, "others couldn't reach it", nil
	case v1 == network.ReachabilityPublic:
		return ReachabilityPublic, "others have reached it", nil
	}
	return ReachabilityUnknown, "nobody has tried yet", nil
}

// own are the host's own addresses, without circuits.
func (k *natKeeper) own() []ma.Multiaddr {
	if all, ok := k.node.host.(interface{ AllAddrs() []ma.Multiaddr }); ok {
		return slices.Clone(all.AllAddrs())
	}
	return slices.DeleteFunc(slices.Clone(k.node.host.Addrs()), isCircuit)
}

// announce picks those of the host's addresses that others are told.
func (k *natKeeper) announce(addrs []ma.Multiaddr) []ma.Multiaddr {
	v := k.verdict.Load()
	private := k.node.cfg.network.Private
	return slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool {
		switch {
		case isCircuit(a):
			return v.is == ReachabilityPublic
		case slices.ContainsFunc(v.confirmed, a.Equal):
			return false
		case v.is == ReachabilityPrivate:
			return true
		}
		return !private && !manet.IsPublicAddr(a)
	})
}

// isCircuit tells whether an address leads through a relay.
func isCircuit(a ma.Multiaddr) bool {
	return slices.ContainsFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
}

// recordCircuits are the circuits that the node's record names.
func (k *natKeeper) recordCircuits() []ma.Multiaddr {
	if k.verdict.Load().is == ReachabilityPublic {
		return nil
	}
	return k.circuits.addrs()
}
