package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// HistoryQuery says which messages [Membership.History] returns. The zero value
// asks for all that store nodes have, the oldest first.
type HistoryQuery struct {
	// ContentTopics are the content topics. None: all.
	ContentTopics []string
	// Since and Until bound the timestamps: from Since on and before Until. Zero:
	// unbounded.
	Since, Until time.Time
	// Backward begins with the newest message.
	Backward bool
	// Limit ends the history after so many messages. Zero: no such end.
	Limit int
	// Follow goes on with live messages when the history has been read. It goes
	// with neither Until nor Backward.
	Follow bool
}

const (
	// followBuffer is how many live messages wait while history is read.
	followBuffer = 8192
	// tidyFirst is how many messages are remembered at least.
	tidyFirst = 4096
	// followSettle is how long a mesh must have stood for nothing to be missed
	// between history and live messages.
	followSettle = 5 * time.Second
	// followLook is how often is looked whether the mesh is the same, and
	// followLongest how long at most until missing messages are looked for again.
	followLook    = time.Second
	followLongest = time.Minute
)

// History reads back what was published on the shard, from store nodes. It asks a
// connected store node that carries the shard; when that one fails, or lies, it
// goes on with another where it was, so that no message is missed or comes twice.
// Messages have passed the shard's rules, but for those about time.
//
// Messages come in the order of their timestamps, and with Follow the live ones
// after them in the order of their arrival; what is in both comes once. While
// there is no store node the history waits for a while; an error, the last of the
// sequence then, says what was wrong: a *[HistoryError], or net.ErrClosed after
// Leave and Close, or [ErrPaused]. With Follow, what was published while the shard's mesh was away,
// the node was paused, or lost because the reader is slow, is read back late, as soon as there is a
// store node. When ctx ends the sequence ends without an error. The sequence can
// be ranged over once.
func (m *Membership) History(ctx context.Context, q HistoryQuery) iter.Seq2[*Envelope, error] {
	return func(yield func(*Envelope, error) bool) {
		err := m.history(ctx, q, func(env *Envelope) bool { return yield(env, nil) })
		if err == nil || errors.Is(err, errEnough) || ctx.Err() != nil {
			return
		}
		if m.ctx.Err() != nil {
			err = cmp.Or(m.alive(), errNodeClosed)
		}
		yield(nil, err)
	}
}

func (m *Membership) history(ctx context.Context, q HistoryQuery, yield func(*Envelope) bool) error {
	switch {
	case q.Follow && !q.Until.IsZero():
		return &HistoryError{Shard: m.Shard(), Err: errors.New("a history with Follow has no Until")}
	case q.Follow && q.Backward:
		return &HistoryError{Shard: m.Shard(), Err: errors.New("a history with Follow isn't Backward")}
	case q.Limit < 0:
		return &HistoryError{Shard: m.Shard(), Err: fmt.Errorf("a limit of %d messages makes no sense", q.Limit)}
	}
	if err := m.alive(); err != nil {
		return err
	}
	run, err := m.shard.node.gate.enter(ctx)
	if err != nil {
		return err
	}
	if q.Follow { // goes on after a pause
		run = context.Background()
	}
	ctx, done := during(ctx, run)
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	r := &historyReader{member: m, q: q, left: q.Limit, yield: yield, seen: map[message.Hash]int64{}, tidyAt: tidyFirst}
	if q.Follow {
		return r.follow(ctx)
	}
	return r.read(ctx, q.Since, q.Until)
}

// errEnough ends a history that was broken off or has reached its limit.
var errEnough = errors.New("waku: enough")

// historyReader reads one history.
type historyReader struct {
	member *Membership
	q      HistoryQuery
	left   int // messages until the limit
	handed int
	yield  func(*Envelope) bool
	// seen are the messages that may come again, by hash, with their timestamps,
	// and tidyAt is their number at which those that can't are dropped.
	seen   map[message.Hash]int64
	tidyAt int
	newest int64 // the newest timestamp so far that isn't ahead of the clock
	// from is where reading back begins anew while something is missing, whatever
	// came since; nil: nothing is.
	from *time.Time
}

// stored is an envelope for what a store node gave.
func (r *historyReader) stored(e store.Entry, from peer.ID) *Envelope {
	return &Envelope{
		Shard: e.Shard, Message: e.Message, Hash: e.Hash, From: from,
		ReceivedAt: r.member.shard.node.cfg.now(), Stored: true,
	}
}

// read walks through a range of time.
func (r *historyReader) read(ctx context.Context, since, until time.Time) error {
	walks, err := r.walks(since, until, false)
	if err != nil {
		return err
	}
	for {
		next, err := r.nearest(ctx, walks)
		if err != nil {
			return err
		}
		if next == nil && r.q.Follow {
			return nil
		}
		if next == nil {
			return r.nothing(walks)
		}
		e := next.page[0]
		next.page = next.page[1:]
		if err := r.hand(r.stored(e, next.walk.peer)); err != nil {
			return err
		}
	}
}

// nothing is the error of a history that had messages, none of them genuine.
func (r *historyReader) nothing(walks []*head) error {
	var dropped uint64
	for _, h := range walks {
		dropped += h.walk.walk.Dropped()
	}
	if r.handed > 0 || dropped == 0 {
		return nil
	}
	return &HistoryError{Shard: r.member.Shard(), Err: fmt.Errorf(
		"%w: there are %d, none of them signed with a key known here", store.ErrUnverified, dropped)}
}

// head is a walk and what of its page hasn't been handed on.
type head struct {
	walk *storeWalk
	page []store.Entry
}

// walks divides the question into such as stores answer.
func (r *historyReader) walks(since, until time.Time, hashesOnly bool) ([]*head, error) {
	s := r.member.shard
	q := store.Query{Shard: new(s.shard), Start: since, End: until, Backward: r.q.Backward, Limit: store.MaxPageSize, HashesOnly: hashesOnly}
	if r.q.Limit > 0 {
		q.Limit = min(r.q.Limit, store.MaxPageSize)
	}
	groups := slices.Collect(slices.Chunk(slices.Compact(slices.Sorted(slices.Values(r.q.ContentTopics))), store.MaxContentTopics))
	if len(groups) == 0 {
		groups = [][]string{nil}
	}
	var heads []*head
	for _, topics := range groups {
		q.ContentTopics = topics
		walk, err := s.node.newStoreWalk(s, q)
		if err != nil {
			return nil, &HistoryError{Shard: s.shard, Err: err}
		}
		heads = append(heads, &head{walk: walk})
	}
	return heads, nil
}

// nearest returns the walk with the next entry in order; nil: there is none left.
func (r *historyReader) nearest(ctx context.Context, heads []*head) (*head, error) {
	var best *head
	for _, h := range heads {
		for len(h.page) == 0 && h.walk.more() {
			page, err := h.walk.next(ctx)
			if err != nil {
				return nil, err
			}
			h.page = page
		}
		if len(h.page) == 0 {
			continue
		}
		if best == nil || (h.page[0].Key().Compare(best.page[0].Key()) < 0) != r.q.Backward {
			best = h
		}
	}
	return best, nil
}

// hand gives a message to the caller, unless it had it.
func (r *historyReader) hand(env *Envelope) error {
	if _, double := r.seen[env.Hash]; double {
		return nil
	}
	if r.q.Follow {
		r.seen[env.Hash] = env.Message.Timestamp
		r.newest = max(r.newest, min(env.Message.Timestamp, r.member.shard.node.cfg.now().UnixNano()))
		if len(r.seen) >= r.tidyAt {
			r.forget()
			r.tidyAt = max(tidyFirst, 2*len(r.seen))
		}
	}
	r.handed++
	if !r.yield(env) {
		return errEnough
	}
	if r.left--; r.left == 0 {
		return errEnough
	}
	return nil
}

// forget drops from memory what can't come again: live messages are inside the
// window, and history isn't read again from before that.
func (r *historyReader) forget() {
	horizon := r.again().UnixNano()
	for h, t := range r.seen {
		if t < horizon {
			delete(r.seen, h)
		}
	}
}

// again is where reading back begins anew after what has been read: messages of
// about the same time may have reached the store late.
func (r *historyReader) again() time.Time {
	if r.from != nil {
		return *r.from
	}
	if r.newest == 0 {
		return r.q.Since
	}
	t := time.Unix(0, r.newest).Add(-2 * r.member.shard.node.cfg.window)
	if t.Before(r.q.Since) {
		return r.q.Since
	}
	return t
}
