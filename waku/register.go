package waku

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/rendezvous"
)

// registration keeps the node registered for the shards that it relays, with points
// among its peers. Only nodes with WithNAT register: others don't know at which
// addresses they can be reached.
type registration struct {
	node      *Node
	registrar *rendezvous.Registrar

	mu      sync.Mutex
	told    map[registered]bool
	failure string
}

type registered struct {
	ns    string
	point peer.ID
}

func (n *Node) openRegistration() {
	n.rendezvous = rendezvous.NewClient(n.host, rendezvous.ClientConfig{})
	if n.nat == nil {
		return
	}
	r := &registration{node: n, told: map[registered]bool{}}
	r.registrar = rendezvous.NewRegistrar(registerer{r}, rendezvous.RegistrarConfig{
		Points: r.points,
		Addrs:  n.registerAddrs,
		OnFailure: func(p peer.ID, ns string, err error) {
			n.cfg.logger.Debug("rendezvous: not registered", "point", p, "namespace", ns, "err", line(err))
			r.mu.Lock()
			defer r.mu.Unlock()
			r.failure = line(err)
		},
	})
	n.registration = r
	n.onClose(r.registrar.Close)
}

// registerer tells of the first registration with each point.
type registerer struct{ r *registration }

// Register implements rendezvous.Registerer.
func (x registerer) Register(ctx context.Context, p peer.ID, ns string, addrs []ma.Multiaddr, ttl time.Duration) (time.Duration, error) {
	n := x.r.node
	granted, err := n.rendezvous.Register(noDial(ctx), p, ns, addrs, ttl)
	if err != nil {
		return granted, err
	}
	x.r.mu.Lock()
	defer x.r.mu.Unlock()
	x.r.failure = ""
	at := registered{ns, p}
	if s, err := rendezvous.ParseNamespace(ns); err == nil && !x.r.told[at] {
		if len(x.r.told) >= maxSeen {
			clear(x.r.told)
		}
		x.r.told[at] = true
		n.emit(Event{Kind: RendezvousRegistered, Peer: p, Shard: s})
		n.discovery.registeredAt(p, s)
	}
	return granted, nil
}

// Unregister implements rendezvous.Registerer.
func (x registerer) Unregister(ctx context.Context, p peer.ID, ns string) error {
	x.r.forget(func(at registered) bool { return at == registered{ns, p} })
	return x.r.node.rendezvous.Unregister(noDial(ctx), p, ns)
}

// forget lets registrations be told again.
func (r *registration) forget(which func(registered) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at := range r.told {
		if which(at) {
			delete(r.told, at)
		}
	}
}

// points are the connected peers that are rendezvous points, those that carry a shard of
// ours if there are any.
func (r *registration) points() []peer.ID {
	n := r.node
	all := slices.DeleteFunc(n.peers.proven(), func(p peer.ID) bool { return !n.speaks(p, rendezvous.ID) })
	members := slices.DeleteFunc(slices.Clone(all), func(p peer.ID) bool {
		r := n.peers.get(p)
		return r == nil || !n.isMember(r)
	})
	if len(members) > 0 {
		return members
	}
	return all
}

// registerAddrs are where others can reach the node: through circuits, or at its own
// addresses.
func (n *Node) registerAddrs() []ma.Multiaddr {
	if n.nat.verdict.Load().is != ReachabilityPublic {
		return n.nat.circuits.addrs()
	}
	return slices.DeleteFunc(n.addrs(), func(a ma.Multiaddr) bool { return !n.mayTell(a) })
}

// registerAnew follows a change of shards, addresses or points.
func (n *Node) registerAnew() {
	r := n.registration
	if r == nil {
		return
	}
	var namespaces []string
	for _, s := range n.shards.joined() {
		if n.relays(s.shard) {
			namespaces = append(namespaces, rendezvous.Namespace(s.shard))
		}
	}
	r.registrar.SetNamespaces(namespaces...)
	r.registrar.Changed()
}

// pointConnected has what is registered with a point registered again, which may have
// forgotten it.
func (n *Node) pointConnected(p peer.ID) {
	r := n.registration
	if r == nil || !n.speaks(p, rendezvous.ID) {
		return
	}
	r.forget(func(at registered) bool { return at.point == p })
	r.registrar.Renew(p)
	r.registrar.Changed()
}
