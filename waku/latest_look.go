package waku

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/message/segment"
	"github.com/status-im/shoal/store"
)

// look asks a store for what is new.
func (l *Latest) look(ctx context.Context) (*Version, error) {
	l.mu.Lock()
	l.stats.Looks++
	l.mu.Unlock()
	s := l.m.shard
	q := store.Query{
		Shard: new(s.shard), ContentTopics: []string{l.cfg.ContentTopic},
		Backward: true, HashesOnly: true, Limit: store.MaxPageSize,
	}
	if l.newest != 0 {
		q.Start = time.Unix(0, l.newest)
	}
	walk, err := s.node.newStoreWalk(s, q)
	if err != nil {
		return nil, &HistoryError{Shard: s.shard, Err: err}
	}
	k := &looking{latest: l, walk: walk, since: l.newest}
	v, err := k.read(ctx)
	l.mu.Lock()
	l.failed = ""
	if err != nil && ctx.Err() == nil {
		l.failed = line(err)
	}
	l.mu.Unlock()
	if v != nil {
		l.tries = 0
	}
	l.soon(v == nil && (err != nil || k.under || l.tries > 0 && l.tries < 4))
	return v, nil
}

// looking is one look: a list of hashes, the newest first, of which as few bodies as
// possible are fetched.
type looking struct {
	latest *Latest
	walk   *storeWalk
	since  int64 // nothing older was asked for
	list   []message.Hash
	next   int // in list
	// parity are hashes that seem to be parity of the version being put together.
	parity []message.Hash
	batch  int
	bytes  int
	// under is set when a version is there but not all of it.
	under bool
	// done is set when what is further down is older than the present version.
	done bool
}

// read goes down the list until a version is whole.
func (k *looking) read(ctx context.Context) (*Version, error) {
	k.batch = 1
	for pages := 0; ; pages++ {
		for k.next < len(k.list) {
			v, err := k.down(ctx)
			if v != nil || err != nil {
				return v, err
			}
			if k.bytes > 2*maxWhole(k.latest.cfg.Segments) {
				return nil, nil
			}
		}
		if k.done || !k.walk.more() || pages == maxLookPages {
			return nil, nil
		}
		page, err := k.walk.next(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			k.list = append(k.list, e.Hash)
		}
		k.latest.mu.Lock()
		k.latest.stats.Hashes += uint64(len(page))
		k.latest.mu.Unlock()
	}
}

func maxWhole(c segment.Config) int {
	if c.MaxWhole > 0 {
		return c.MaxWhole
	}
	return 16 << 20
}

// down fetches what comes next in the list. The messages of a version follow each other
// there: parity from the last to the first, then data from the last to the first.
func (k *looking) down(ctx context.Context) (*Version, error) {
	ask := k.unknown(k.batch)
	if len(ask) == 0 {
		return nil, nil
	}
	v, s, sender, err := k.fetch(ctx, ask)
	switch {
	case v != nil || err != nil:
		return v, err
	case s == nil: // not one of a version
		k.batch = min(2*k.batch, maxFetch)
		return nil, nil
	case s.Whole == k.latest.version:
		k.next, k.done = len(k.list), true
		return nil, nil
	}
	k.under = true
	k.batch = 1
	if s.Parity {
		k.parity = append(k.parity, k.skip(s.Index)...)
		return nil, nil
	}
	// The slices before it; parity that is here stands for some.
	have, need := k.latest.parts.Progress(sender, s.Whole)
	for left := min(s.Index, need-have); left > 0; {
		n := min(left, maxFetch, max(1, maxFetchBytes/len(s.Payload)))
		left -= n
		until := min(k.next+n, len(k.list))
		var ask []message.Hash
		for ; k.next < until; k.next++ {
			if _, here := k.latest.here[k.list[k.next]]; !here {
				ask = append(ask, k.list[k.next])
			}
		}
		if len(ask) == 0 {
			continue
		}
		if v, _, _, err := k.fetch(ctx, ask); v != nil || err != nil {
			return v, err
		}
	}
	parity := k.parity
	k.parity = nil
	for _, h := range parity { // some slices are missing
		if v, _, _, err := k.fetch(ctx, []message.Hash{h}); v != nil || err != nil {
			return v, err
		}
	}
	return nil, nil
}

// unknown takes so many hashes off the list of what isn't here.
func (k *looking) unknown(n int) (ask []message.Hash) {
	for ; k.next < len(k.list) && len(ask) < n; k.next++ {
		if _, here := k.latest.here[k.list[k.next]]; !here {
			ask = append(ask, k.list[k.next])
		}
	}
	return ask
}

// skip takes the next n hashes off the list, and returns those of what isn't here.
func (k *looking) skip(n int) (skipped []message.Hash) {
	for ; k.next < len(k.list) && n > 0; n-- {
		if _, here := k.latest.here[k.list[k.next]]; !here {
			skipped = append(skipped, k.list[k.next])
		}
		k.next++
	}
	return skipped
}

// fetch takes the bodies of hashes. It returns the version that they make, if any, and
// the last segment among them with its sender.
func (k *looking) fetch(ctx context.Context, ask []message.Hash) (v *Version, s *segment.Segment, sender string, err error) {
	entries, err := k.walk.lookup(ctx, ask)
	if err != nil {
		return nil, nil, "", err
	}
	l := k.latest
	for _, h := range ask { // in the order asked for
		i := slices.IndexFunc(entries, func(e store.Entry) bool { return e.Hash == h })
		if i < 0 {
			continue
		}
		e := entries[i]
		l.mu.Lock()
		l.stats.Fetched++
		l.stats.FetchedBytes += uint64(e.Message.Size())
		l.mu.Unlock()
		k.bytes += e.Message.Size()
		if e.Message.ContentTopic != l.cfg.ContentTopic || e.Message.Timestamp < k.since {
			err := &store.AnswerError{Peer: k.walk.peer, Err: store.ErrNotAsked}
			k.walk.node.storeFailed(k.walk.peer, err)
			return v, nil, "", err
		}
		whole, part, from := l.take(k.envelope(e, k.walk.peer))
		if whole != nil {
			v = whole
		}
		if part != nil {
			s, sender = part, from
		}
	}
	return v, s, sender, nil
}

func (k *looking) envelope(e store.Entry, from peer.ID) *Envelope {
	return &Envelope{
		Shard: e.Shard, Message: e.Message, Hash: e.Hash, From: from,
		ReceivedAt: k.walk.node.cfg.now(), Stored: true,
	}
}
