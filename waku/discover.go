package waku

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

// Discovered is a node that the network's lists, discv5 or peers have named. It is what
// its owner says of itself, signed; nothing tells whether it is alive.
type Discovered struct {
	ID peer.ID
	// Addrs are where it can be dialled, as full multiaddrs that end in /p2p/<peer id>:
	// what [Node.Connect] takes.
	Addrs []string
	// Shards are those that it carries; none: it doesn't say.
	Shards []sharding.Shard
	// Capabilities are "relay", "store", "filter", "lightpush", "sync", "mix".
	Capabilities []string
	// ENR is the record, "enr:…", and Seq its number.
	ENR string
	Seq uint64
	// Source is "static" for boot nodes, "dns", "discv5" or "exchange".
	Source string
}

// maxDiscovered bounds what waits for a reader of Discover, and what it is known to
// have seen.
const maxDiscovered = 8192

// watcher is a reader of Discover.
type watcher struct {
	mu    sync.Mutex
	seen  map[peer.ID]uint64
	queue []Discovered
	ready chan struct{}
}

// Discover hands out nodes as they are found, each record once, until ctx ends or the
// node is closed. Meanwhile the node looks for others even if it needs none. What a
// slow reader leaves waiting is bounded: beyond some thousands nodes are left out.
func (n *Node) Discover(ctx context.Context) iter.Seq[Discovered] {
	return func(yield func(Discovered) bool) {
		w := &watcher{seen: map[peer.ID]uint64{}, ready: make(chan struct{}, 1)}
		d := n.discovery
		d.watch(w, true)
		defer d.watch(w, false)
		for _, r := range n.cfg.bootnodes {
			if shards, err := r.Shards(); err == nil {
				w.tell(peers.Static, r, shards)
			}
		}
		for {
			w.mu.Lock()
			queue := w.queue
			w.queue = nil
			w.mu.Unlock()
			for _, one := range queue {
				if !yield(one) {
					return
				}
			}
			if len(queue) > 0 {
				continue
			}
			select {
			case <-w.ready:
			case <-ctx.Done():
				return
			case <-n.tasks.ctx.Done():
				return
			}
		}
	}
}

func (d *discovery) watch(w *watcher, on bool) {
	d.mu.Lock()
	if on {
		d.watchers[w] = struct{}{}
	} else {
		delete(d.watchers, w)
	}
	d.mu.Unlock()
	d.shardsChanged()
}

func (d *discovery) isWatched() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.watchers) > 0
}

// tell hands a record to the readers of Discover.
func (d *discovery) tell(source peers.Source, r *enr.Record, shards sharding.Set) {
	d.mu.Lock()
	var all []*watcher
	for w := range d.watchers {
		all = append(all, w)
	}
	d.mu.Unlock()
	for _, w := range all {
		w.tell(source, r, shards)
	}
}

func (w *watcher) tell(source peers.Source, r *enr.Record, shards sharding.Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seq, known := w.seen[r.PeerID()]
	if known && seq >= r.Seq() || len(w.seen) >= maxDiscovered {
		return
	}
	w.seen[r.PeerID()] = r.Seq()
	one := Discovered{
		ID: r.PeerID(), Capabilities: r.Capabilities().Names(), ENR: r.String(), Seq: r.Seq(), Source: source.String(),
	}
	for shard := range shards.All() {
		one.Shards = append(one.Shards, shard)
	}
	for _, a := range r.Addrs() {
		one.Addrs = append(one.Addrs, fullAddr(a, r.PeerID()))
	}
	w.queue = append(w.queue, one)
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func fullAddr(a ma.Multiaddr, p peer.ID) string {
	return fmt.Sprintf("%s/p2p/%s", a, p)
}
