package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
)

// lookupSize is how many hashes are asked for at once.
const lookupSize = 50

// Lookup asks p for messages by their hashes, however many. It returns those that
// p has, ascending. Errors are those of [Client.Query].
func (c *Client) Lookup(ctx context.Context, p peer.ID, hashes []message.Hash) ([]Entry, error) {
	var all []Entry
	err := c.lookup(ctx, p, Query{Hashes: hashes}, func(found []Entry) { all = append(all, found...) })
	slices.SortFunc(all, func(a, b Entry) int { return a.Key().Compare(b.Key()) })
	return all, err
}

// Has asks p which of these messages it has, however many there are. Nothing but
// the peer's word stands for the answer. Errors are those of [Client.Query].
func (c *Client) Has(ctx context.Context, p peer.ID, hashes []message.Hash) (map[message.Hash]bool, error) {
	has := make(map[message.Hash]bool)
	err := c.lookup(ctx, p, Query{Hashes: hashes, HashesOnly: true}, func(found []Entry) {
		for _, e := range found {
			has[e.Hash] = true
		}
	})
	return has, err
}

func (c *Client) lookup(ctx context.Context, p peer.ID, q Query, found func([]Entry)) error {
	q.Hashes = unique(q.Hashes)
	l := c.newLookup(q)
	for {
		entries, done, err := l.next(ctx, p)
		if err != nil {
			return err
		}
		found(entries)
		if done {
			return nil
		}
	}
}

// lookup asks for messages by hash. It knows no cursors, which not every store
// gets right here: it asks again for what hasn't come.
type lookup struct {
	c     *Client
	q     Query
	left  []message.Hash
	size  int // of what is asked at once
	empty int // pages in a row that had a cursor and nothing else

	refused uint64
}

func (c *Client) newLookup(q Query) *lookup {
	left := q.Hashes
	q.Hashes, q.Cursor, q.Backward, q.Limit = nil, nil, false, MaxPageSize
	return &lookup{c: c, q: q, left: left, size: lookupSize}
}

// next returns what p has of some of the hashes. After an error it can be called
// again.
func (l *lookup) next(ctx context.Context, p peer.ID) (entries []Entry, done bool, err error) {
	for len(l.left) > 0 {
		q := l.q
		q.Hashes = l.left[:min(l.size, len(l.left))]
		a, err := l.c.patiently(ctx, p, q)
		if errors.Is(err, ErrTooLarge) && l.size > 1 {
			l.size = max(1, l.size/4)
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if a.cursor != nil && len(a.items) == 0 {
			if l.empty++; l.empty > maxEmpty {
				return nil, false, &AnswerError{Peer: p, Err: fmt.Errorf("%w: an empty page after an empty page", ErrEndless)}
			}
			continue
		}
		l.empty = 0
		l.left = l.without(a, len(q.Hashes))
		entries, refused := a.genuine()
		l.c.dropped.Add(uint64(refused))
		l.refused += uint64(refused)
		return entries, len(l.left) == 0, nil
	}
	return nil, true, nil
}

// without is what is left to be asked for after an answer about the first asked
// hashes: the rest; and if there is more, those of them that haven't come.
func (l *lookup) without(a answer, asked int) []message.Hash {
	rest := l.left[asked:]
	if a.cursor == nil {
		return rest
	}
	var missing []message.Hash
	for _, h := range l.left[:asked] {
		if !slices.ContainsFunc(a.items, func(i item) bool { return i.Hash == h }) {
			missing = append(missing, h)
		}
	}
	return append(missing, rest...)
}
