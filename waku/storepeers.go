package waku

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

const (
	// storeWait is how long a question waits for a store peer to turn up.
	storeWait = 10 * time.Second
	// storeTries is how many attempts in a row may fail before a question does;
	// twice as many as there are peers if those are more.
	storeTries = 8
	// After a failure a store peer is left alone for firstStorePause, doubled with
	// every further one up to longestStorePause; one that lied, for liarPause.
	firstStorePause   = 500 * time.Millisecond
	longestStorePause = time.Minute
	liarPause         = 30 * time.Minute
	// maxStoreFailures is how many failed peers are remembered before those that
	// have rested are forgotten.
	maxStoreFailures = 256
	// storePoll is how often is looked for a store peer while there is none.
	storePoll = 200 * time.Millisecond
)

// storeTable remembers which store peers failed. It forgets those that may be
// asked again.
type storeTable struct {
	mu     sync.Mutex
	failed map[peer.ID]*storeFailure
}

type storeFailure struct {
	count  int
	lied   bool
	reason string
	until  time.Time // monotonic
}

// fail notes a failure: the peer is left alone for a while.
func (t *storeTable) fail(p peer.ID, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = map[peer.ID]*storeFailure{}
	}
	f := t.failed[p]
	if f == nil {
		f = new(storeFailure)
		t.failed[p] = f
	}
	wait := min(firstStorePause<<min(f.count, 10), longestStorePause)
	var lie *store.AnswerError
	var status *store.StatusError
	switch {
	case errors.As(err, &lie):
		wait, f.lied = liarPause, true
	case errors.As(err, &status):
		wait = max(wait, min(status.RetryAfter, longestStorePause))
	}
	f.count++
	f.reason = line(err)
	if until := time.Now().Add(wait); until.After(f.until) {
		f.until = until
	}
	t.tidy()
}

// tidy keeps the table small.
func (t *storeTable) tidy() {
	if len(t.failed) <= maxStoreFailures {
		return
	}
	for p, f := range t.failed {
		if time.Since(f.until) > longestStorePause {
			delete(t.failed, p)
		}
	}
}

// answered forgets a peer's failures, but not that it lied.
func (t *storeTable) answered(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.failed[p]; f != nil && !f.lied {
		delete(t.failed, p)
	}
}

// failures is how often a peer has failed in a row.
func (t *storeTable) failures(p peer.ID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.failed[p]; f != nil {
		return f.count
	}
	return 0
}

// rest is how long a peer is still left alone, and why.
func (t *storeTable) rest(p peer.ID) (time.Duration, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failed[p]
	if f == nil {
		return 0, ""
	}
	if time.Since(f.until) > longestStorePause {
		delete(t.failed, p)
		return 0, ""
	}
	return max(0, time.Until(f.until)), f.reason
}

// storePeers are the connected peers that answer questions about a shard, as far
// as they say what they carry.
func (n *Node) storePeers(s sharding.Shard) []peer.ID {
	relaying := n.relay.Peers(s)
	return slices.DeleteFunc(n.peers.proven(), func(p peer.ID) bool {
		r := n.peers.get(p)
		if r == nil || !n.speaks(p, store.ID) {
			return true
		}
		shards := n.peers.carries(r, nil)
		return len(shards) > 0 && !slices.Contains(shards, s) && !slices.Contains(relaying, p)
	})
}

// readyStores are those of storePeers that may be asked now, those first that
// failed least lately, and otherwise in random order.
func (n *Node) readyStores(s sharding.Shard) []peer.ID {
	ready := slices.DeleteFunc(n.storePeers(s), func(p peer.ID) bool {
		rest, _ := n.stores.rest(p)
		return rest > 0
	})
	rand.Shuffle(len(ready), func(i, j int) { ready[i], ready[j] = ready[j], ready[i] })
	slices.SortStableFunc(ready, func(a, b peer.ID) int { return n.stores.failures(a) - n.stores.failures(b) })
	return ready
}

// storeWalk is a walk through history that goes from peer to peer as they fail.
type storeWalk struct {
	node  *Node
	shard *shard
	walk  *store.Walk
	only  peer.ID // nobody else is asked; empty: anybody
	peer  peer.ID // who answered last
	fails int     // in a row
	end   bool
}

func (n *Node) newStoreWalk(s *shard, q store.Query) (*storeWalk, error) {
	walk, err := n.storeClient.Walk(q)
	if err != nil {
		return nil, err
	}
	return &storeWalk{node: n, shard: s, walk: walk}, nil
}

func (w *storeWalk) more() bool { return !w.end }

// next returns the next page, whoever gives it. What plugged-in validators don't
// accept isn't in it.
func (w *storeWalk) next(ctx context.Context) ([]store.Entry, error) {
	var last error
	for {
		p, err := w.choose(ctx, last)
		if err != nil {
			return nil, err
		}
		page, more, err := w.walk.Next(ctx, p)
		if err == nil {
			w.node.stores.answered(p)
			w.peer, w.fails, w.end = p, 0, !more
			return w.accepted(page)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		w.node.storeFailed(p, err)
		last = err
		if w.fails++; w.fails >= max(storeTries, 2*len(w.node.storePeers(w.shard.shard))) {
			return nil, &HistoryError{Shard: w.shard.shard, Peer: p, Err: err}
		}
	}
}

// lookup asks the peer that answered last for messages whose hashes it named. What
// isn't genuine is left out.
func (w *storeWalk) lookup(ctx context.Context, hashes []message.Hash) ([]store.Entry, error) {
	var entries []store.Entry
	walk, err := w.node.storeClient.Walk(store.Query{
		Shard: new(w.shard.shard), Hashes: hashes, Limit: store.MaxPageSize,
	})
	for more := err == nil; more && err == nil; {
		var page []store.Entry
		page, more, err = walk.Next(ctx, w.peer)
		entries = append(entries, page...)
	}
	if err == nil && len(entries) == 0 && walk.Dropped() == 0 {
		err = &store.AnswerError{Peer: w.peer, Err: errors.New("it named messages that it doesn't have")}
	}
	if err != nil {
		if ctx.Err() == nil {
			w.node.storeFailed(w.peer, err)
		}
		return nil, &HistoryError{Shard: w.shard.shard, Peer: w.peer, Err: err}
	}
	return w.accepted(entries)
}

// storeFailed leaves a store peer alone for a while.
func (n *Node) storeFailed(p peer.ID, err error) {
	n.stores.fail(p, err)
	var lie *store.AnswerError
	if errors.As(err, &lie) {
		n.emit(Event{Kind: StorePeerLeft, Peer: p, Reason: line(err)})
		n.cfg.logger.Warn("store peer left", "peer", p, "reason", line(err))
	}
}

// choose returns the peer that answered last, or another if that one failed. It
// waits for one for a while.
func (w *storeWalk) choose(ctx context.Context, last error) (peer.ID, error) {
	deadline := time.Now().Add(storeWait)
	for {
		ready := w.mine(w.node.readyStores(w.shard.shard))
		switch {
		case slices.Contains(ready, w.peer):
			return w.peer, nil
		case len(ready) > 0:
			return ready[0], nil
		case time.Now().After(deadline):
			return "", w.nobody(w.mine(w.node.storePeers(w.shard.shard)), last)
		}
		if !pause(ctx, storePoll, nil) {
			return "", context.Cause(ctx)
		}
	}
}

// mine are those that the walk may ask.
func (w *storeWalk) mine(peers []peer.ID) []peer.ID {
	return slices.DeleteFunc(peers, func(p peer.ID) bool { return w.only != "" && p != w.only })
}

// nobody says why there is no store peer to ask.
func (w *storeWalk) nobody(resting []peer.ID, last error) error {
	if last == nil {
		last = ErrNoStorePeer
	}
	if len(resting) == 0 {
		return &HistoryError{Shard: w.shard.shard, Err: last}
	}
	var why []string
	for _, p := range resting {
		_, reason := w.node.stores.rest(p)
		why = append(why, fmt.Sprintf("%s: %s", p, reason))
	}
	return &HistoryError{Shard: w.shard.shard, Err: fmt.Errorf("%w: %s", last, strings.Join(why, "; "))}
}

// accepted drops what plugged-in validators don't accept. It fails when they can't
// judge.
func (w *storeWalk) accepted(page []store.Entry) ([]store.Entry, error) {
	if len(w.shard.plugins) == 0 {
		return page, nil
	}
	var out []store.Entry
next:
	for _, e := range page {
		if e.Message == nil {
			out = append(out, e)
			continue
		}
		in := &message.Received{PubsubTopic: w.shard.topic, Message: e.Message, From: string(w.peer), At: w.node.cfg.now()}
		for _, p := range w.shard.plugins {
			v, err := p.judge(w.node.tasks.ctx, in)
			if err != nil {
				return nil, &HistoryError{Shard: w.shard.shard, Peer: w.peer, Err: err}
			}
			if v != message.Accept {
				continue next
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// verifyHistory checks the signature of a message from a store.
func (n *Node) verifyHistory(pubsubTopic string, m *message.Message) error {
	id, err := sharding.ParsePubsubTopic(pubsubTopic)
	if err != nil {
		return err
	}
	s := n.shards.get(id)
	if s == nil || !s.protected.Load() {
		return nil
	}
	return s.signed.Verify(pubsubTopic, m, false)
}
