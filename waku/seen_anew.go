package waku

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// QUIC connections survive a change of the node's public address, and nobody tells it of
// the new one: identify asks once for each connection. So when no hole can be punched any
// more, the relayers are dialled anew, one after the other.
const (
	// seenAnewEach is the shortest pause between two such rounds, doubled up to
	// longestSeenAnew while no hole is punched.
	seenAnewEach    = 2 * time.Minute
	longestSeenAnew = 6 * time.Hour
	// seenAnewPause is between two relayers: one of them is there all the time.
	seenAnewPause = 3 * time.Second
)

// errSeenAnew is why: nothing has gone wrong with the peer.
var errSeenAnew = errors.New("dialled anew, to learn this node's address")

// fresh says that the node's addresses are right: a hole was punched.
func (k *natKeeper) fresh() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.anew = 0
}

// stale says that the node's addresses may be wrong. It doesn't wait.
func (k *natKeeper) stale() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.seen) < max(k.anew, seenAnewEach) && !k.seen.IsZero() {
		return
	}
	k.anew = min(max(2*k.anew, seenAnewEach), longestSeenAnew)
	k.seen = time.Now()
	k.node.tasks.start(k.beSeenAnew)
}

// beSeenAnew dials those relayers anew whose connections may have outlived a change of
// the address.
func (k *natKeeper) beSeenAnew(ctx context.Context) {
	n := k.node
	_, open, run, _ := n.gate.look()
	if !open {
		return
	}
	ctx, done := during(ctx, run)
	defer done()
	for _, p := range k.circuits.relayers() {
		r := n.peers.get(p)
		if r == nil || r.inbound || !strings.Contains(r.addr, "/quic") {
			continue
		}
		at, err := ma.NewMultiaddr(r.addr)
		if err != nil {
			continue
		}
		n.cfg.logger.Debug("dialling a relayer anew, to learn this node's address", "peer", p)
		n.drop(p, errSeenAnew.Error())
		pause(ctx, hangUpTimeout, r.gone)
		info := peer.AddrInfo{ID: p, Addrs: append([]ma.Multiaddr{at}, slices.DeleteFunc(n.host.Peerstore().Addrs(p), isCircuit)...)}
		dialling, cancel := context.WithTimeout(ctx, dialTimeout)
		if !n.isStatic(p) {
			_, err = n.connect(dialling, info)
		}
		cancel()
		n.retryStatic()
		if err != nil {
			n.cfg.logger.Debug("dialling a relayer anew", "peer", p, "err", line(err))
		}
		if !pause(ctx, seenAnewPause, nil) {
			return
		}
	}
}
