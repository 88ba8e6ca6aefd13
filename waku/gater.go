package waku

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// cutFor is how long relay keeps a peer cut.
	cutFor = 10 * time.Minute
	// rejectedFor keeps libraries from dialling again at once who was turned
	// away for what it is. Who dials on purpose pardons first.
	rejectedFor = 10 * time.Second
	// maxCuts bounds the book: identities cost nothing. What falls out of it is
	// still refused by relay itself.
	maxCuts = 4096
)

// gater refuses connections with peers that were cut, or turned away just now, dials
// of addresses that strangers may not name, and all while the node is paused.
type gater struct {
	gate *gate // nil: always open
	// mayDial judges an address, names resolved; nil: all are good.
	mayDial func(peer.ID, ma.Multiaddr) bool
	// mayCircuit tells whether circuits may be dialled at all; nil: they may not.
	mayCircuit func() bool

	mu    sync.Mutex
	cuts  map[peer.ID]cut
	named []*peer.AddrInfo // whom the application has named, and where
}

type cut struct {
	until    time.Time
	reason   string
	rejected bool // for what it is, not for what it sent
}

var _ connmgr.ConnectionGater = (*gater)(nil)

func newGater() *gater { return &gater{cuts: map[peer.ID]cut{}} }

// name lets p be dialled where the application has placed it, until done is called.
func (g *gater) name(p peer.AddrInfo) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.named = append(g.named, &p)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.named = slices.DeleteFunc(g.named, func(x *peer.AddrInfo) bool { return x == &p })
	}
}

// isNamed tells whether the application has placed p there, or given a name, which
// leads wherever it leads.
func (g *gater) isNamed(p peer.ID, at ma.Multiaddr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.named, func(x *peer.AddrInfo) bool {
		return x.ID == p && slices.ContainsFunc(x.Addrs, func(a ma.Multiaddr) bool { return !isIP(a) || a.Equal(at) })
	})
}

func (g *gater) cut(p peer.ID, reason string) {
	g.refuse(p, cut{until: time.Now().Add(cutFor), reason: reason})
}

func (g *gater) reject(p peer.ID, reason string) {
	if g.allow(p) {
		g.refuse(p, cut{until: time.Now().Add(rejectedFor), reason: reason, rejected: true})
	}
}

// pardon lets a peer in that was turned away, but not one that was cut.
func (g *gater) pardon(p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cuts[p].rejected {
		delete(g.cuts, p)
	}
}

func (g *gater) refuse(p peer.ID, c cut) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.cuts) >= maxCuts {
		g.makeRoom(time.Now())
	}
	g.cuts[p] = c
}

// makeRoom drops what is over, or else the one that ends first. mu is held.
func (g *gater) makeRoom(now time.Time) {
	var first peer.ID
	for p, c := range g.cuts {
		switch {
		case !now.Before(c.until):
			delete(g.cuts, p)
		case first == "" || c.until.Before(g.cuts[first].until):
			first = p
		}
	}
	if len(g.cuts) >= maxCuts {
		delete(g.cuts, first)
	}
}

// isCut returns why p is refused, if that still counts.
func (g *gater) isCut(p peer.ID) (reason string, yes bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, ok := g.cuts[p]
	if ok && !time.Now().Before(c.until) {
		delete(g.cuts, p)
		return "", false
	}
	return c.reason, ok
}

func (g *gater) allow(p peer.ID) bool {
	_, cut := g.isCut(p)
	return !cut
}

func (g *gater) isOpen() bool { return g.gate == nil || g.gate.isOpen() }

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gater) InterceptPeerDial(p peer.ID) bool { return g.isOpen() && g.allow(p) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gater) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	if isCircuit(a) && (g.mayCircuit == nil || !g.mayCircuit()) {
		return false
	}
	return g.mayDial == nil || g.isNamed(p, a) || g.mayDial(p, a)
}

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return g.isOpen() }

// InterceptSecured implements connmgr.ConnectionGater.
func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.isOpen() && g.allow(p)
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
