package waku

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// follow reads history and then live messages. The reader of live messages is
// there first. What came to the store while no messages came here, or had only begun
// to, or while live messages were lost, is looked for afterwards.
func (r *historyReader) follow(ctx context.Context) error {
	live, err := r.member.subscribe(max(followBuffer, r.member.buffer), r.q.ContentTopics, true)
	if err != nil {
		return err
	}
	defer live.Close()
	s := r.member.shard
	up := s.liveSince()
	complete := stood(up, followSettle)
	if err := r.read(ctx, r.q.Since, time.Time{}); err != nil {
		return err
	}
	for wait := followSettle; ; {
		if complete {
			wait = followSettle
		}
		if err := r.live(ctx, live, up, complete, wait); err != nil {
			return err
		}
		up = s.liveSince()
		complete = stood(up, followSettle)
		switch err := r.makeUp(ctx); {
		case errors.Is(err, errEnough), ctx.Err() != nil:
			return err
		case err != nil: // live messages go on, and this is tried again
			complete = false
			wait = min(2*wait, followLongest)
			s.node.cfg.logger.Debug("history: catching up", "shard", s.shard, "err", line(err))
		case !complete:
			wait = min(2*wait, followLongest)
			r.from = nil
		default:
			r.from = nil
		}
	}
}

// live hands on live messages for as long as nothing is missing: until some were
// lost, or the mesh was away and stands again. While something is missing it
// returns after wait, when it should be looked for.
func (r *historyReader) live(ctx context.Context, live *Reader, up *time.Time, complete bool, wait time.Duration) error {
	again := time.Now().Add(wait)
	for {
		if _, ok := r.member.shard.node.gate.pass(ctx); !ok {
			return ctx.Err()
		}
		now := r.member.shard.liveSince()
		if complete && now != up {
			complete, again = false, time.Now().Add(wait)
		}
		if !complete && r.from == nil {
			r.from = new(r.again())
		}
		if lost, err := r.liveFor(ctx, live, followLook); lost || err != nil {
			return err
		}
		now = r.member.shard.liveSince()
		if complete && now != up {
			continue
		}
		if !complete && (now != up && stood(now, followSettle) || !time.Now().Before(again)) {
			return nil
		}
	}
}

// liveFor hands on live messages for some time.
func (r *historyReader) liveFor(ctx context.Context, live *Reader, d time.Duration) (lost bool, err error) {
	until, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		env, err := live.Next(until)
		var loss *LossError
		switch {
		case err == nil:
			if err := r.hand(env); err != nil {
				return false, err
			}
			if until.Err() != nil && ctx.Err() == nil {
				return false, nil
			}
		case errors.As(err, &loss):
			return true, nil
		case until.Err() != nil && ctx.Err() == nil:
			return false, nil
		default:
			return false, err
		}
	}
}

// makeUp looks for messages that came to the store and not here.
func (r *historyReader) makeUp(ctx context.Context) error {
	since := r.again()
	walks, err := r.walks(since, time.Time{}, true)
	if err != nil {
		return err
	}
	c := &catchUp{
		since: since, topics: r.q.ContentTopics,
		known: func(h message.Hash) (int64, bool) { t, ok := r.seen[h]; return t, ok },
		hand:  func(e store.Entry, from peer.ID) error { return r.hand(r.stored(e, from)) },
	}
	for _, h := range walks {
		if err := c.read(ctx, h.walk); err != nil {
			return err
		}
	}
	return nil
}
