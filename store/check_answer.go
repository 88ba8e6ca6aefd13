package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// answer is what a peer answered and what holds of it.
type answer struct {
	items  []item        // ascending
	cursor *message.Hash // nil: there is no more
}

// item is an entry of an answer.
type item struct {
	Entry
	// keyed: the message was read, and so the entry has a place in the archive.
	keyed bool
	// genuine: it may be handed over.
	genuine bool
	// refused: it never may. An entry that is neither is of no interest here.
	refused bool
}

// genuine returns the entries that may be handed over, and how many never may.
func (a answer) genuine() (entries []Entry, refused int) {
	for _, i := range a.items {
		switch {
		case i.genuine:
			entries = append(entries, i.Entry)
		case i.refused:
			refused++
		}
	}
	return entries, refused
}

// check compares an answer with the question. Nothing in it is believed: each
// message must have the hash it is filed under and be what was asked for, and the
// page must have an order in which a walk gets on.
func (c *Client) check(q Query, r response) (answer, error) {
	a := answer{items: make([]item, 0, len(r.entries)), cursor: r.cursor}
	if a.cursor != nil && *a.cursor == (message.Hash{}) {
		a.cursor = nil
	}
	if a.cursor != nil && q.Cursor != nil && *a.cursor == *q.Cursor {
		return answer{}, fmt.Errorf("%w: the cursor is the one that was sent", ErrEndless)
	}
	seen := make(map[message.Hash]struct{}, len(r.entries))
	for _, kv := range r.entries {
		if _, double := seen[kv.hash]; double || q.Cursor != nil && kv.hash == *q.Cursor {
			return answer{}, fmt.Errorf("%w: %s", ErrOrder, kv.hash)
		}
		seen[kv.hash] = struct{}{}
		i, err := c.checkEntry(q, kv)
		if err != nil {
			return answer{}, err
		}
		a.items = append(a.items, i)
	}
	if len(q.Hashes) > 0 {
		// Some stores answer these in no order.
		slices.SortStableFunc(a.items, func(x, y item) int {
			if !x.keyed || !y.keyed {
				return 0
			}
			return x.Key().Compare(y.Key())
		})
		return a, nil
	}
	return a, ascending(a.items)
}

func ascending(items []item) error {
	var last *item
	for i := range items {
		if !items[i].keyed {
			continue
		}
		if last != nil && items[i].Key().Compare(last.Key()) <= 0 {
			return fmt.Errorf("%w: %s after %s", ErrOrder, items[i].Hash, last.Hash)
		}
		last = &items[i]
	}
	return nil
}

// checkEntry compares an entry with the question.
func (c *Client) checkEntry(q Query, kv keyValue) (item, error) {
	i := item{Entry: Entry{Hash: kv.hash}}
	if len(q.Hashes) > 0 && !slices.Contains(q.Hashes, kv.hash) {
		return item{}, fmt.Errorf("%w: hash %s", ErrNotAsked, kv.hash)
	}
	if q.HashesOnly {
		i.genuine = true
		return i, nil
	}
	if kv.message == nil || kv.topic == nil {
		return item{}, wire.Malformed("entry %s lacks its message or topic", kv.hash)
	}
	// A copy, so that who keeps one message doesn't keep the whole answer.
	m, err := message.Decode(slices.Clone(kv.message))
	if errors.Is(err, message.ErrContentTopicUTF8) {
		i.refused = true
		return i, nil // somebody published it so, and not every store minds
	}
	if err != nil {
		return item{}, wire.Malformed("entry %s: %v", kv.hash, err)
	}
	topic := string(kv.topic)
	if m.Hash(topic) != kv.hash {
		return item{}, fmt.Errorf("%w: %s", ErrWrongHash, kv.hash)
	}
	i.Message, i.keyed = m, true

	shard, err := sharding.ParsePubsubTopic(topic)
	if q.Shard != nil && (err != nil || shard != *q.Shard) {
		return item{}, fmt.Errorf("%w: %s on %s", ErrNotAsked, kv.hash, reqresp.Printable(topic))
	}
	i.Shard = shard
	start, end := q.Bounds()
	switch {
	case len(q.ContentTopics) > 0 && !slices.Contains(q.ContentTopics, m.ContentTopic):
		return item{}, fmt.Errorf("%w: %s has the content topic %s", ErrNotAsked, kv.hash, reqresp.Printable(m.ContentTopic))
	case m.Timestamp < start || m.Timestamp > end:
		return item{}, fmt.Errorf("%w: %s is of another time", ErrNotAsked, kv.hash)
	case m.Timestamp == end && !q.End.IsZero():
		return i, nil // nwaku's end is inclusive
	}
	if err != nil {
		return i, nil // no static shard, and so none that anybody here is on
	}
	i.genuine = m.Validate() == nil && (c.cfg.Verify == nil || c.cfg.Verify(topic, m) == nil)
	i.refused = !i.genuine
	return i, nil
}
