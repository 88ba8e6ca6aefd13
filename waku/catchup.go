package waku

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// catchUp takes from stores what isn't known here. It asks for hashes first: most
// messages are known.
type catchUp struct {
	// since and topics bound what was asked for.
	since  time.Time
	topics []string
	// known returns the timestamp of a message that is known.
	known func(message.Hash) (timestamp int64, ok bool)
	// skip tells of hashes that aren't worth asking for again, and refused is told of
	// those whose messages weren't genuine. Both may be nil.
	skip    func(message.Hash) bool
	refused func(message.Hash)
	hand    func(e store.Entry, from peer.ID) error
}

// read follows a walk of hashes to its end.
func (c *catchUp) read(ctx context.Context, w *storeWalk) error {
	var order hashOrder
	for w.more() {
		page, err := w.next(ctx)
		if err != nil {
			return err
		}
		known := map[message.Hash]store.Key{}
		err = c.fetch(ctx, w, page, known)
		if err == nil {
			err = order.check(page, known)
		}
		if err != nil {
			return w.blamed(err)
		}
	}
	return nil
}

// blamed is an error, for which the peer that answered is left if it lied.
func (w *storeWalk) blamed(err error) error {
	if errors.Is(err, store.ErrOrder) || errors.Is(err, store.ErrEndless) || errors.Is(err, store.ErrNotAsked) {
		err = &store.AnswerError{Peer: w.peer, Err: err}
		w.node.storeFailed(w.peer, err)
	}
	return err
}

// fetch hands on those of page that are news, and notes the places of all.
func (c *catchUp) fetch(ctx context.Context, w *storeWalk, page []store.Entry, known map[message.Hash]store.Key) error {
	var missing []message.Hash
	for _, e := range page {
		if t, ok := c.known(e.Hash); ok {
			known[e.Hash] = store.Key{Time: t, Hash: e.Hash}
		} else if c.skip == nil || !c.skip(e.Hash) {
			missing = append(missing, e.Hash)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	entries, err := w.lookup(ctx, missing)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Message.Timestamp < c.since.UnixNano() && !c.since.IsZero() ||
			len(c.topics) > 0 && !slices.Contains(c.topics, e.Message.ContentTopic) {
			return store.ErrNotAsked
		}
		known[e.Hash] = e.Key()
		if err := c.hand(e, w.peer); err != nil {
			return err
		}
	}
	if c.refused == nil {
		return nil
	}
	for _, h := range missing {
		if _, ok := known[h]; !ok {
			c.refused(h)
		}
	}
	return nil
}
