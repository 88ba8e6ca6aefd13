package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
)

// All asks p for everything that q asks for, page by page, beginning with the
// oldest; or, if q is Backward, with the newest. An error ends it. It is a [Walk]
// that stays with one peer.
func (c *Client) All(ctx context.Context, p peer.ID, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		w, err := c.Walk(q)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for more := true; more; {
			var entries []Entry
			entries, more, err = w.Next(ctx, p)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Walk goes through everything a question asks for, page by page, and may turn to
// another peer at every page: no message comes twice, and none is lost that the
// peer asked holds. It isn't safe for concurrent use.
//
// Messages can't be invented for ever: time moves on with them, and their number
// without one that is genuine is limited. Hashes can. With HashesOnly a peer that
// goes round is found out, however long the round is, but only the caller can say
// how many hashes are too many, or how much time; and a hash may come twice if
// 4,096 others came in between.
type Walk struct {
	c    *Client
	q    Query
	size int // of a page

	last    *Key          // the last entry handed over; nil with HashesOnly
	hash    *message.Hash // its hash; at first the question's cursor
	seen    *window       // with HashesOnly, what was handed over lately
	mark    mark          // with HashesOnly, one of all that were handed over
	done    bool
	dropped uint64
	run     int // left out since the last entry that was handed over

	// What holds for one peer.
	peer   peer.ID
	cursor *message.Hash
	edge   *Key // how far its pages have led; the next must lie beyond
	judged *Key // how far they had led before its cursor was unknown
	from   *Key // the cursor being unknown, it was asked from the time of this entry
	empty  int  // pages in a row that had a cursor and nothing else

	lookup *lookup // takes over, for a question with Hashes
}

const (
	// defaultMaxRun is how many messages in a row may be dropped. It is large, as
	// an honest store holds everything signed with a key that was retired since,
	// all of which is left out. A liar gains little by it: what he makes up costs him
	// the traffic that it costs us, and the caller's context ends it any time.
	defaultMaxRun = 1_000_000
	// maxEmpty is how many pages in a row may be empty and say that there's more.
	maxEmpty = 1
)

// Walk begins a walk. Its pages have q.Limit entries at most, MaxPageSize if it
// is zero. The error is a *QueryError.
func (c *Client) Walk(q Query) (*Walk, error) {
	if q.Limit == 0 {
		q.Limit = MaxPageSize
	}
	q, err := q.Check()
	if err != nil {
		return nil, err
	}
	w := &Walk{c: c, q: q, size: q.Limit, hash: q.Cursor, cursor: q.Cursor}
	if q.HashesOnly {
		w.seen = newWindow()
	}
	if len(q.Hashes) > 0 {
		w.lookup = c.newLookup(q)
	}
	return w, nil
}

// Next asks p for the next page. It returns entries in the order of the walk:
// ascending, or, if the question is Backward, descending. There may be none and
// more to come all the same. Those of a question with Hashes ascend within what
// one call returns.
//
// When p asks for patience (StatusTooManyRequests), Next is patient: five times,
// and for no more than ten seconds at once.
// When p doesn't know the cursor, Next goes on from the time of the last entry;
// this isn't possible with HashesOnly. Errors are those of [Client.Query]. After
// one the walk stands where it stood, so that Next can be called again, for this
// peer or another one; more is true.
func (w *Walk) Next(ctx context.Context, p peer.ID) (entries []Entry, more bool, err error) {
	if w.done {
		return nil, false, nil
	}
	if w.lookup != nil {
		entries, w.done, err = w.lookup.next(ctx, p)
		w.dropped = w.lookup.refused
		return entries, !w.done, err
	}
	if p != w.peer {
		w.turnTo(p)
	}
	for {
		q := w.question()
		a, err := w.c.patiently(ctx, p, q)
		switch {
		case err == nil:
			entries, err = w.take(q, a)
			return entries, !w.done, err
		case errors.Is(err, ErrTooLarge) && w.size > 1:
			w.size = max(1, w.size/4)
		case w.lost(q, err):
			if w.judged == nil || w.edge != nil && w.beyond(*w.edge, *w.judged) {
				w.judged = w.edge
			}
			w.cursor, w.edge, w.from = nil, nil, w.last
		default:
			return nil, true, err
		}
	}
}

// Position is the place of the last entry handed over. There is none before the
// first, nor with HashesOnly or Hashes.
func (w *Walk) Position() (Key, bool) {
	if w.last == nil {
		return Key{}, false
	}
	return *w.last, true
}

// Dropped counts the messages that weren't genuine, see [Client.Dropped]: each
// once, or, if they came from two peers, twice.
func (w *Walk) Dropped() uint64 { return w.dropped }

// turnTo goes on with another peer. The cursor it is asked with is of our own
// making, since the last one's might have led anywhere.
func (w *Walk) turnTo(p peer.ID) {
	w.peer, w.cursor, w.edge, w.judged, w.from, w.empty = p, w.hash, w.last, nil, nil, 0
}

// question is what is to be asked next.
func (w *Walk) question() Query {
	q := w.q
	q.Limit, q.Cursor = w.size, w.cursor
	switch {
	case w.from == nil:
	case !q.Backward:
		q.Start = time.Unix(0, w.from.Time)
	case w.from.Time < math.MaxInt64:
		q.End = time.Unix(0, w.from.Time+1)
	}
	return q
}

// lost tells whether the peer didn't know the cursor and the walk can go on from
// a time instead. Stores word this as they like.
func (w *Walk) lost(q Query, err error) bool {
	var status *StatusError
	return q.Cursor != nil && w.last != nil && (w.from == nil || *w.from != *w.last) &&
		errors.As(err, &status) && status.Code == StatusBadResponse
}

// beyond tells whether a comes after b in the direction of the walk.
func (w *Walk) beyond(a, b Key) bool {
	if w.q.Backward {
		return a.Compare(b) < 0
	}
	return a.Compare(b) > 0
}

// take makes an answer part of the walk, or leaves the walk as it is.
func (w *Walk) take(q Query, a answer) ([]Entry, error) {
	next := *w
	entries, err := next.advance(q, a)
	if err != nil {
		return nil, &AnswerError{Peer: w.peer, Err: err}
	}
	w.c.dropped.Add(next.dropped - w.dropped)
	*w = next
	return entries, nil
}

func (w *Walk) advance(q Query, a answer) ([]Entry, error) {
	if w.q.Backward {
		slices.Reverse(a.items)
	}
	var entries []Entry
	for _, i := range a.items {
		if i.keyed {
			k := i.Key()
			if w.edge != nil && !w.beyond(k, *w.edge) {
				return nil, fmt.Errorf("%w: %s doesn't come after what there was", ErrOrder, i.Hash)
			}
			w.edge = &k
		}
		again := i.keyed && w.last != nil && !w.beyond(i.Key(), *w.last)
		switch {
		case again:
			w.run++
		case !i.genuine:
			w.run++
			twice := i.keyed && w.judged != nil && !w.beyond(i.Key(), *w.judged)
			if i.refused && !twice {
				w.dropped++
			}
		case w.seen != nil && w.seen.has(i.Hash):
			return nil, fmt.Errorf("%w: %s again", ErrOrder, i.Hash)
		case w.seen != nil && w.mark.meets(i.Hash):
			return nil, fmt.Errorf("%w: %s again, of %d", ErrEndless, i.Hash, w.mark.n)
		default:
			entries = append(entries, i.Entry)
			w.run, w.hash = 0, &i.Hash
			if i.keyed {
				w.last = new(i.Key())
			}
		}
	}
	if w.run > w.c.maxRun {
		return nil, ErrUnverified
	}
	if err := w.progress(a); err != nil {
		return nil, err
	}
	if w.seen != nil {
		w.seen.add(entries)
	}
	w.grow(q, entries)
	return entries, nil
}

// progress decides whether there is more, and whether there ever will be.
func (w *Walk) progress(a answer) error {
	w.done, w.cursor = a.cursor == nil, a.cursor
	if len(a.items) > 0 || w.done {
		w.empty = 0
		return nil
	}
	if w.empty++; w.empty > maxEmpty {
		return fmt.Errorf("%w: an empty page after an empty page", ErrEndless)
	}
	return nil
}

// grow makes pages longer again after an answer that was too large.
func (w *Walk) grow(q Query, entries []Entry) {
	if w.size == w.q.Limit {
		return
	}
	size := 0
	for _, e := range entries {
		if e.Message != nil {
			size += e.Message.Size()
		}
	}
	if len(entries) == q.Limit && size < w.c.cfg.MaxAnswer/4 {
		w.size = min(2*w.size, w.q.Limit)
	}
}

// mark tells a sequence that goes round from one that goes on (Brent's
// algorithm): it remembers the entry whose number is a power of two, until the
// next such entry. A round of r entries is noticed within 3r entries, or 2m+r, if
// m > r others came before it.
type mark struct {
	hash message.Hash
	n    uint64 // entries so far
}

func (m *mark) meets(h message.Hash) bool {
	if m.n > 0 && h == m.hash {
		return true
	}
	if m.n++; m.n&(m.n-1) == 0 {
		m.hash = h
	}
	return false
}

// windowSize is how many hashes a window remembers.
const windowSize = 4096

// window remembers the last hashes.
type window struct {
	in   map[message.Hash]struct{}
	ring []message.Hash
	next int
}

func newWindow() *window { return &window{in: make(map[message.Hash]struct{})} }

func (w *window) has(h message.Hash) bool {
	_, ok := w.in[h]
	return ok
}

func (w *window) add(entries []Entry) {
	for _, e := range entries {
		if len(w.ring) < windowSize {
			w.ring = append(w.ring, e.Hash)
		} else {
			delete(w.in, w.ring[w.next])
			w.ring[w.next] = e.Hash
			w.next = (w.next + 1) % windowSize
		}
		w.in[e.Hash] = struct{}{}
	}
}
