package waku

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// storePoll is how often is looked for a store peer while there is none.
	storePoll = 200 * time.Millisecond
)

// storePeers are the connected peers that answer questions about a shard.
func (n *Node) storePeers(s sharding.Shard) []peer.ID { return n.servers(s, store.ID) }

// readyStores are those of storePeers that may be asked now.
func (n *Node) readyStores(s sharding.Shard) []peer.ID { return n.stores.ready(n.storePeers(s)) }

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
// accept isn't in it. While the node is paused it waits.
func (w *storeWalk) next(ctx context.Context) ([]store.Entry, error) {
	var last error
	for {
		p, err := w.choose(ctx, last)
		if err != nil {
			return nil, err
		}
		run, ok := w.node.gate.pass(ctx)
		if !ok {
			return nil, context.Cause(ctx)
		}
		asking, done := during(ctx, run)
		page, more, err := w.walk.Next(asking, p)
		done()
		w.node.telemetry.entries(&w.shard.shard, page, nil, false)
		if err == nil {
			w.node.stores.answered(p)
			w.peer, w.fails, w.end = p, 0, !more
			return w.accepted(page)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if run.Err() != nil {
			continue // nobody's fault
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
		w.node.telemetry.entries(&w.shard.shard, page, nil, false)
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
	var lie *store.AnswerError
	var status *store.StatusError
	switch {
	case errors.As(err, &lie):
		n.stores.lied(p, err)
		n.emit(Event{Kind: StorePeerLeft, Peer: p, Reason: line(err)})
		n.cfg.logger.Warn("store peer left", "peer", p, "reason", line(err))
	case errors.As(err, &status):
		n.stores.fail(p, err, status.RetryAfter)
	default:
		n.stores.fail(p, err, 0)
	}
}

// choose returns the peer that answered last, or another if that one failed. It
// waits for one for a while.
func (w *storeWalk) choose(ctx context.Context, last error) (peer.ID, error) {
	var deadline time.Time
	var since context.Context
	for {
		run, ok := w.node.gate.pass(ctx)
		if !ok {
			return "", context.Cause(ctx)
		}
		if run != since { // those who were there have to come back
			since, deadline = run, time.Now().Add(storeWait)
		}
		ready := w.mine(w.node.readyStores(w.shard.shard))
		switch {
		case slices.Contains(ready, w.peer):
			return w.peer, nil
		case len(ready) > 0:
			return ready[0], nil
		case time.Now().After(deadline):
			return "", w.nobody(w.mine(w.node.storePeers(w.shard.shard)), last)
		}
		if !w.node.gate.rest(ctx, storePoll, nil) {
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
