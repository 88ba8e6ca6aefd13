package waku

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxLeft is how many peers of a shard are remembered that this node hung up on.
	maxLeft = 16
	// recallEach is how often such a peer is dialled at most.
	recallEach = time.Minute
)

// forgedError is why a message blames who brought it.
type forgedError struct{ reason string }

func (e *forgedError) Error() string { return "it pushed a message that isn't genuine: " + e.reason }

// leftError ends a link to a peer that isn't to be believed.
type leftError struct{ reason string }

func (e *leftError) Error() string { return e.reason }

// leftPeer is one that this node hung up on, since it wasn't to be believed.
type leftPeer struct {
	info peer.AddrInfo
	next time.Time // not before
}

// forged leaves a peer that pushes what nobody of the community has written, if
// another one pushes. A node that doesn't hold the community's key passes forgeries
// on in good faith, and all that it brings is judged anyway: alone it is better than
// nobody. That holds for all shards of the community, which the same keys protect.
func (l *lightShard) forged(p peer.ID, err error) {
	l.count()
	l.blame(p, err)
	for _, s := range l.shard.sisters() {
		s.light.blame(p, err)
	}
}

// blame leaves a peer for a forgery.
func (l *lightShard) blame(p peer.ID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.rests().misled(p, err)
	k := l.links[p]
	switch {
	case k == nil || k.err != nil: // what was under way
	case l.goodBeside(k):
		l.leave(k, line(err))
	case news:
		l.failed(p, err)
		l.shard.node.cfg.logger.Warn("service peer kept until there is another", "peer", p, "shard", l.shard.shard, "reason", line(err))
		l.changed()
	}
}

// leave ends a link to a peer that isn't to be believed. mu is held.
func (l *lightShard) leave(k *lightLink, reason string) {
	l.end(k, &leftError{reason})
	n := l.shard.node
	n.emit(Event{Kind: ServicePeerLeft, Peer: k.peer, Shard: l.shard.shard, Reason: reason})
	n.cfg.logger.Warn("service peer left", "peer", k.peer, "shard", l.shard.shard, "reason", reason)
}

// hangUp disconnects a peer that was left, if it is of no other use, and doesn't dial it
// before it has rested. That comes after it was told to stop, or it would push what was
// cut off once more.
func (l *lightShard) hangUp(p peer.ID, reason string) {
	n := l.shard.node
	if n.isOfUse(p) {
		return
	}
	l.mu.Lock()
	if info := n.infoOf(p); len(info.Addrs) > 0 && len(l.left) < maxLeft {
		l.left[p] = &leftPeer{info: info}
	}
	rest, _ := l.rests().rest(p)
	l.mu.Unlock()
	n.discovery.book.Cut(time.Now(), p, time.Now().Add(rest))
	n.drop(p, reason)
}

// isOfUse tells whether a peer serves another shard, or is in the mesh of one.
func (n *Node) isOfUse(p peer.ID) bool {
	use := false
	n.linksTo(p, func(*lightLink) { use = true })
	for _, s := range n.shards.joined() {
		use = use || slices.Contains(n.relay.Mesh(s.shard), p)
	}
	return use
}

// infoOf is how a connected peer can be dialled again.
func (n *Node) infoOf(p peer.ID) peer.AddrInfo {
	info := peer.AddrInfo{ID: p}
	if r := n.peers.get(p); r != nil && !r.inbound {
		if addr, err := ma.NewMultiaddr(r.addr); err == nil {
			info.Addrs = append(info.Addrs, addr)
		}
	}
	info.Addrs = append(info.Addrs, n.host.Peerstore().Addrs(p)...)
	return info
}

// recall dials those that this node hung up on, when there is nobody else. mu is held.
func (l *lightShard) recall() {
	n := l.shard.node
	for p, x := range l.left {
		lies, _ := l.rests().failures(p)
		switch {
		case lies == 0: // long ago
			delete(l.left, p)
			continue
		case n.peers.get(p) != nil, time.Now().Before(x.next):
			continue
		}
		x.next = time.Now().Add(recallEach)
		n.tasks.start(func(ctx context.Context) {
			_, _, run, _ := n.gate.look()
			ctx, done := during(ctx, run)
			defer done()
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			if _, err := n.connect(ctx, x.info); err != nil && !errors.Is(err, ErrPaused) {
				n.cfg.logger.Debug("a service peer that was left doesn't come back", "peer", p, "err", line(err))
			}
		})
	}
}
