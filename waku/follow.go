package waku

import (
	"context"
	"errors"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// follow reads history and then live messages. The reader of live messages is
// there first. What came to the store while the mesh was young, or while live
// messages were lost, is looked for afterwards.
func (r *historyReader) follow(ctx context.Context) error {
	live, err := r.member.subscribe(max(followBuffer, r.member.buffer), r.q.ContentTopics)
	if err != nil {
		return err
	}
	defer live.Close()
	s := r.member.shard
	stood := s.meshStood(followSettle)
	if err := r.read(ctx, r.q.Since, time.Time{}); err != nil {
		return err
	}
	for {
		if err := r.live(ctx, live, stood); err != nil {
			return err
		}
		stood = s.meshStood(followSettle)
		if err := r.makeUp(ctx); err != nil {
			return err
		}
	}
}

// live hands on live messages, for ever if all is complete so far, otherwise for a
// while. It returns nil when something may be missing.
func (r *historyReader) live(ctx context.Context, live *Reader, complete bool) error {
	until := ctx
	if !complete {
		var cancel context.CancelFunc
		until, cancel = context.WithTimeout(ctx, followSettle)
		defer cancel()
	}
	for {
		env, err := live.Next(until)
		var loss *LossError
		switch {
		case err == nil:
			if err := r.hand(env); err != nil {
				return err
			}
		case errors.As(err, &loss):
			return nil
		case until.Err() != nil && ctx.Err() == nil:
			return nil
		default:
			return err
		}
	}
}

// makeUp looks for messages that came to the store and not here. It asks for their
// hashes first: most of them are known.
func (r *historyReader) makeUp(ctx context.Context) error {
	walks, err := r.walks(r.again(), time.Time{}, true)
	if err != nil {
		return err
	}
	for _, h := range walks {
		for h.walk.more() {
			page, err := h.walk.next(ctx)
			if err != nil {
				return err
			}
			if err := r.fetch(ctx, h.walk, page); err != nil {
				return err
			}
		}
	}
	return nil
}

// fetch hands on those of page that are news.
func (r *historyReader) fetch(ctx context.Context, w *storeWalk, page []store.Entry) error {
	var missing []message.Hash
	for _, e := range page {
		if _, known := r.seen[e.Hash]; !known {
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
		if err := r.hand(r.stored(e, w.peer)); err != nil {
			return err
		}
	}
	return nil
}
