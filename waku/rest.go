package waku

import (
	"cmp"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/sharding"
)

const (
	// After a failure a service peer is left alone for firstRest, doubled with every
	// further one up to longestRest.
	firstRest   = 500 * time.Millisecond
	longestRest = time.Minute
	// One that lied is left alone for liarRest. Who may have passed on in good faith
	// what others made up is so for firstLiarRest, doubled each time up to liarRest.
	firstLiarRest = 30 * time.Second
	liarRest      = 30 * time.Minute
	// maxResting is how many failures of peers are remembered.
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

// restTable remembers which of a protocol's service peers failed, and on which shard
// if only that is concerned. It forgets those that may be asked again.
type restTable struct {
	gate *gate // what fails while it is shut is nobody's fault

	mu     sync.Mutex
	failed map[restKey]*rest
	// pinged is when a ping began, whichever shard's.
	pinged map[peer.ID]time.Time
}

// restKey is a peer on one shard, named by its pubsub topic, or on all: "".
type restKey struct {
	peer  peer.ID
	topic string
}

type rest struct {
	count  int
	lies   int
	silent bool // it answers, and doesn't push
	reason string
	// Times are monotonic. liar is until when it rests because it lied.
	until, liar time.Time
}

// over tells whether the rest has been over for so long that it is forgotten. What
// an answer doesn't make up for is remembered for longer.
func (f *rest) over() bool {
	memory := longestRest
	if f.lies > 0 || f.silent {
		memory = liarRest
	}
	return time.Since(f.until) > memory
}

func (f *rest) note(err error, wait time.Duration) {
	f.count++
	f.reason = line(err)
	if until := time.Now().Add(wait); until.After(f.until) {
		f.until = until
	}
}

func (f *rest) lie(err error, wait time.Duration) {
	f.lies++
	f.liar = time.Now().Add(wait)
	f.note(err, wait)
}

// shardRests are the rests that count on one shard.
type shardRests struct {
	t     *restTable
	topic string
}

func (t *restTable) on(topic string) shardRests { return shardRests{t, topic} }

// These are for protocols whose failures have nothing to do with a shard.
func (t *restTable) fail(p peer.ID, err error, asked time.Duration) { t.on("").fail(p, err, asked) }
func (t *restTable) answered(p peer.ID)                             { t.on("").answered(p) }
func (t *restTable) rest(p peer.ID) (time.Duration, string)         { return t.on("").rest(p) }
func (t *restTable) ready(peers []peer.ID) []peer.ID                { return t.on("").ready(peers) }

// lied notes that a peer can't be believed, whatever it is asked.
func (t *restTable) lied(p peer.ID, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.of(restKey{peer: p})
	f.lie(err, liarRest)
}

// of returns an entry. mu is held.
func (t *restTable) of(k restKey) *rest {
	if t.failed == nil {
		t.failed = map[restKey]*rest{}
	}
	f := t.failed[k]
	if f == nil || f.over() {
		if f == nil {
			t.tidy()
		}
		f = new(rest)
		t.failed[k] = f
	}
	return f
}

// tidy makes room in the table. mu is held.
func (t *restTable) tidy() {
	if len(t.failed) < maxResting {
		return
	}
	var first restKey
	for k, f := range t.failed {
		if f.over() {
			delete(t.failed, k)
		} else if x := t.failed[first]; x == nil || f.until.Before(x.until) {
			first = k
		}
	}
	if len(t.failed) >= maxResting {
		delete(t.failed, first)
	}
}

// both are a peer's entries that count on the shard. mu is held.
func (r shardRests) both(p peer.ID) (found []*rest) {
	keys := []restKey{{p, r.topic}, {p, ""}}
	for _, k := range slices.Compact(keys) {
		switch f := r.t.failed[k]; {
		case f == nil:
		case f.over():
			delete(r.t.failed, k)
		default:
			found = append(found, f)
		}
	}
	return found
}

// ofShard tells whether a failure says nothing about the peer on other shards.
func ofShard(err error) bool {
	var (
		sub  *filter.StatusError
		push *lightpush.StatusError
	)
	switch {
	case errors.As(err, &sub):
		return sub.Code == filter.StatusServiceUnavailable || sub.Code == filter.StatusBadRequest
	case errors.As(err, &push):
		return push.Code == lightpush.StatusUnsupportedPubsubTopic || push.Code == lightpush.StatusNoPeersToRelay
	}
	return errors.Is(err, errSilent)
}

// fail notes a failure: the peer is left alone for a while, and for so long at
// least as it asked for.
func (r shardRests) fail(p peer.ID, err error, asked time.Duration) {
	if !r.t.gate.isOpen() || errors.Is(err, ErrPaused) {
		return
	}
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	k := restKey{peer: p}
	if ofShard(err) {
		k.topic = r.topic
	}
	f := r.t.of(k)
	f.silent = f.silent || errors.Is(err, errSilent)
	f.note(err, max(min(firstRest<<min(f.count, 10), longestRest), min(asked, longestRest)))
}

// misled notes that a peer hands over what isn't to be believed, though it may have
// got it so itself. What comes while it rests for that belongs to the same offence.
func (r shardRests) misled(p peer.ID, err error) (news bool) {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	f := r.t.of(restKey{p, r.topic})
	if time.Now().Before(f.liar) {
		return false
	}
	f.lie(err, min(firstLiarRest<<min(f.lies, 10), liarRest))
	return true
}

// answered forgets a peer's failures, but not that it lied, or that it doesn't push.
func (r shardRests) answered(p peer.ID) { r.forgive(p, false) }

// pushed forgets as well that a peer didn't push.
func (r shardRests) pushed(p peer.ID) { r.forgive(p, true) }

func (r shardRests) forgive(p peer.ID, pushes bool) {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	for _, k := range []restKey{{p, r.topic}, {p, ""}} {
		switch f := r.t.failed[k]; {
		case f == nil, f.silent && !pushes:
		case f.lies > 0:
			f.count, f.silent = 0, false
		default:
			delete(r.t.failed, k)
		}
	}
}

// isLiar tells whether a peer has lied and is still to be left alone for it.
func (r shardRests) isLiar(p peer.ID) bool {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	return slices.ContainsFunc(r.both(p), func(f *rest) bool { return time.Now().Before(f.liar) })
}

// failures is how often a peer has lied, and failed in a row.
func (r shardRests) failures(p peer.ID) (lies, failures int) {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	for _, f := range r.both(p) {
		lies += f.lies
		failures += f.count
	}
	return lies, failures
}

// rest is how long a peer is still left alone, and why.
func (r shardRests) rest(p peer.ID) (left time.Duration, reason string) {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	for _, f := range r.both(p) {
		if d := max(0, time.Until(f.until)); d > left || reason == "" {
			left, reason = d, f.reason
		}
	}
	return left, reason
}

// ready are those of peers that aren't left alone, those first that failed least
// lately, and otherwise in random order.
func (r shardRests) ready(peers []peer.ID) []peer.ID {
	return r.sorted(slices.DeleteFunc(peers, func(p peer.ID) bool {
		left, _ := r.rest(p)
		return left > 0
	}))
}

// sorted puts those first that lied least, and failed least lately.
func (r shardRests) sorted(peers []peer.ID) []peer.ID {
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	slices.SortStableFunc(peers, func(a, b peer.ID) int {
		aLies, aFailures := r.failures(a)
		bLies, bFailures := r.failures(b)
		return cmp.Or(cmp.Compare(aLies, bLies), cmp.Compare(aFailures, bFailures))
	})
	return peers
}

// lastPing is when a ping to the peer began last.
func (t *restTable) lastPing(p peer.ID) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pinged[p]
}

// claim notes that a ping begins, unless another one has begun since last.
func (t *restTable) claim(p peer.ID, last time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.pinged[p].Equal(last) {
		return false
	}
	if t.pinged == nil {
		t.pinged = map[peer.ID]time.Time{}
	}
	if len(t.pinged) >= maxResting {
		maps.DeleteFunc(t.pinged, func(_ peer.ID, at time.Time) bool { return time.Since(at) > maxFilterPing })
	}
	t.pinged[p] = time.Now()
	return true
}

// unclaim undoes claim: nothing came of that ping.
func (t *restTable) unclaim(p peer.ID, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pinged[p] = last
}
