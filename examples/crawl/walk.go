package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

const (
	// Strangers' records say whom to dial, so the dials are bounded: so many at once,
	// a second, and addresses of one node.
	dialsAtOnce   = 16
	dialsASecond  = 20
	addrsOfOne    = 3
	dialTimeout   = 5 * time.Second
	maxNodes      = 8192
	finishTimeout = 10 * time.Second // for the dials that are left when the walk ends
	// stay is how many nodes stay connected, for they may name others.
	stay = 24
)

// found is what is known of a node.
type found struct {
	waku.Discovered
	State state
	Agent string
	Why   string // it isn't alive
}

// state is what became of dialling a node.
type state int

const (
	untried state = iota // nobody dialled it
	alive                // it answered and belongs to the network
	foreign              // it answered, or says in its record, that it doesn't
	dead                 // it didn't answer
	states               // how many there are
)

// walker finds nodes and dials each of them once.
type walker struct {
	node  *waku.Node
	lasts time.Duration
	began time.Time

	mu       sync.Mutex
	nodes    map[peer.ID]*found
	order    []*found // as they were found
	dialling int
	looking  bool // for more
	kept     []peer.ID
	took     time.Duration
}

func newWalker(n *waku.Node, lasts time.Duration) *walker {
	return &walker{node: n, lasts: lasts, began: time.Now(), nodes: map[peer.ID]*found{}, looking: true}
}

// walk looks for nodes until its time is over or ctx ends, and dials them.
func (w *walker) walk(ctx context.Context) {
	looking, stop := context.WithTimeout(ctx, w.lasts)
	defer stop()
	dialling, cancel := context.WithTimeout(ctx, w.lasts+finishTimeout)
	defer cancel()
	queue := make(chan *found, maxNodes)
	pace := rate.NewLimiter(dialsASecond, dialsAtOnce)
	var workers sync.WaitGroup
	for range dialsAtOnce {
		workers.Go(func() {
			for f := range queue {
				if pace.Wait(dialling) == nil {
					w.dial(dialling, f)
				}
			}
		})
	}
	for d := range w.node.Discover(looking) {
		if f, fresh := w.met(d); fresh {
			queue <- f // it has room for all
		}
	}
	w.mu.Lock()
	w.looking, w.took = false, time.Since(w.began)
	w.mu.Unlock()
	close(queue)
	workers.Wait()
}

// met takes down what was found. It is fresh if it is to be dialled.
func (w *walker) met(d waku.Discovered) (f *found, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f, known := w.nodes[d.ID]; known { // a newer record; its first source counts
		d.Source = f.Source
		f.Discovered = d
		return f, false
	}
	if len(w.nodes) >= maxNodes {
		return nil, false
	}
	f = &found{Discovered: d}
	w.nodes[d.ID] = f
	w.order = append(w.order, f)
	if cluster, ok := clusterOf(d); ok && cluster != w.node.Network().Cluster {
		f.State, f.Why = foreign, "its record says so"
		return f, false
	}
	return f, true
}

// clusterOf is the network that a record names, if it does.
func clusterOf(d waku.Discovered) (cluster uint16, ok bool) {
	if len(d.Shards) == 0 {
		return 0, false
	}
	return d.Shards[0].Cluster, true
}

// dial finds out whether a node is alive.
func (w *walker) dial(ctx context.Context, f *found) {
	w.mu.Lock()
	w.dialling++
	id, addrs := f.ID, f.Addrs
	w.mu.Unlock()
	s, why := untried, "its record has no address to dial"
	for _, addr := range w.dialable(addrs) {
		if s, why = w.try(ctx, addr); s != dead {
			break
		}
	}
	agent, shards := w.look(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialling--
	f.State, f.Why = s, why
	if s == alive {
		f.Agent = agent
		if len(shards) > 0 { // what it says now counts more than what it had signed
			f.Shards = shards
		}
		w.keep(id)
	}
}

// dialable leaves out addresses that strangers have no business to make us dial.
func (w *walker) dialable(addrs []string) (out []string) {
	for _, addr := range addrs {
		a, err := multiaddr.NewMultiaddr(addr)
		if err != nil || !w.node.Network().Private && !manet.IsPublicAddr(a) {
			continue
		}
		if out = append(out, addr); len(out) == addrsOfOne {
			break
		}
	}
	return out
}

// try dials one address.
func (w *walker) try(ctx context.Context, addr string) (state, string) {
	trying, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	_, err := w.node.Connect(trying, addr)
	var refused *waku.PeerError
	switch {
	case err == nil:
		return alive, ""
	case ctx.Err() != nil:
		return untried, "there was no time left"
	case !errors.As(err, &refused):
		return untried, err.Error()
	case unreachable(trying, err):
		return dead, refused.Reason
	}
	return foreign, refused.Reason
}

// unreachable tells whether nobody answered at all.
func unreachable(trying context.Context, err error) bool {
	var dial *swarm.DialError
	return errors.As(err, &dial) || trying.Err() != nil
}

// look is what a connected node says of itself.
func (w *walker) look(id peer.ID) (agent string, shards []sharding.Shard) {
	for _, p := range w.node.Peers() {
		if p.ID == id {
			return p.Agent, p.Shards
		}
	}
	return "", nil
}

// keep stays connected with the latest few. The walker's mu is held.
func (w *walker) keep(id peer.ID) {
	if w.kept = append(w.kept, id); len(w.kept) > stay {
		oldest := w.kept[0]
		w.kept = w.kept[1:]
		_ = w.node.Disconnect(oldest) // it may be gone already
	}
}
