package waku

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/sharding"
)

const (
	// After a failure a service peer is left alone for firstRest, doubled with every
	// further one up to longestRest; one that lied, for liarRest.
	firstRest   = 500 * time.Millisecond
	longestRest = time.Minute
	liarRest    = 30 * time.Minute
	// maxResting is how many failed peers are remembered before those that have
	// rested are forgotten.
	maxResting = 256
)

// servers are the connected peers that speak a protocol and carry a shard, as far
// as they say what they carry.
func (n *Node) servers(s sharding.Shard, id protocol.ID) []peer.ID {
	relaying := n.relay.Peers(s)
	return slices.DeleteFunc(n.peers.proven(), func(p peer.ID) bool {
		r := n.peers.get(p)
		if r == nil || !n.speaks(p, id) {
			return true
		}
		shards := n.peers.carries(r, nil)
		return len(shards) > 0 && !slices.Contains(shards, s) && !slices.Contains(relaying, p)
	})
}

// restTable remembers which of a protocol's service peers failed. It forgets those
// that may be asked again.
type restTable struct {
	gate *gate // what fails while it is shut is nobody's fault

	mu     sync.Mutex
	failed map[peer.ID]*rest
}

type rest struct {
	count  int
	liar   bool
	silent bool // it answers, and doesn't push
	reason string
	until  time.Time // monotonic
}

// fail notes a failure: the peer is left alone for a while, and for so long at
// least as it asked for.
func (t *restTable) fail(p peer.ID, err error, asked time.Duration) {
	if !t.gate.isOpen() || errors.Is(err, ErrPaused) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.of(p)
	f.silent = f.silent || errors.Is(err, errSilent)
	f.note(err, max(min(firstRest<<min(f.count, 10), longestRest), min(asked, longestRest)))
}

// lied notes that a peer can't be believed.
func (t *restTable) lied(p peer.ID, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.of(p)
	f.liar = true
	f.note(err, liarRest)
}

// of returns a peer's entry. mu is held.
func (t *restTable) of(p peer.ID) *rest {
	if t.failed == nil {
		t.failed = map[peer.ID]*rest{}
	}
	f := t.failed[p]
	if f == nil {
		t.tidy()
		f = new(rest)
		t.failed[p] = f
	}
	return f
}

func (f *rest) note(err error, wait time.Duration) {
	f.count++
	f.reason = line(err)
	if until := time.Now().Add(wait); until.After(f.until) {
		f.until = until
	}
}

// tidy keeps the table small. mu is held.
func (t *restTable) tidy() {
	if len(t.failed) < maxResting {
		return
	}
	for p, f := range t.failed {
		if time.Since(f.until) > longestRest {
			delete(t.failed, p)
		}
	}
}

// answered forgets a peer's failures, but not that it lied, or that it doesn't push.
func (t *restTable) answered(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.failed[p]; f != nil && !f.liar && !f.silent {
		delete(t.failed, p)
	}
}

// pushed forgets as well that a peer didn't push.
func (t *restTable) pushed(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.failed[p]; f != nil && !f.liar {
		delete(t.failed, p)
	}
}

// isLiar tells whether a peer has lied and is still left alone for it.
func (t *restTable) isLiar(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failed[p]
	return f != nil && f.liar && time.Now().Before(f.until)
}

// failures is how often a peer has failed in a row.
func (t *restTable) failures(p peer.ID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.failed[p]; f != nil {
		return f.count
	}
	return 0
}

// rest is how long a peer is still left alone, and why.
func (t *restTable) rest(p peer.ID) (time.Duration, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failed[p]
	if f == nil {
		return 0, ""
	}
	if time.Since(f.until) > longestRest {
		delete(t.failed, p)
		return 0, ""
	}
	return max(0, time.Until(f.until)), f.reason
}

// ready are those of peers that aren't left alone, those first that failed least
// lately, and otherwise in random order.
func (t *restTable) ready(peers []peer.ID) []peer.ID {
	ready := slices.DeleteFunc(peers, func(p peer.ID) bool {
		left, _ := t.rest(p)
		return left > 0
	})
	rand.Shuffle(len(ready), func(i, j int) { ready[i], ready[j] = ready[j], ready[i] })
	slices.SortStableFunc(ready, func(a, b peer.ID) int { return t.failures(a) - t.failures(b) })
	return ready
}
