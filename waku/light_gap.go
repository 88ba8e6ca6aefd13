package waku

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const (
	// gapSettle is how long after a gap's end stores are asked: what was published
	// last has to get there.
	gapSettle = 3 * time.Second
	// gapPause is the pause after a store failed, doubled up to longestRest.
	gapPause = time.Second
)

// lightGap is a time in which perhaps nobody pushed some topics. Times are
// monotonic.
type lightGap struct {
	topics   []string
	from, to time.Time
	// exact gaps begin when a reader did: what is older wasn't asked for. Others
	// begin when messages published before were still on their way.
	exact bool
	asked bool // stores are being asked
}

// beginFilling has gaps filled from stores. mu is held.
func (l *lightShard) beginFilling() {
	if l.filling || len(l.gaps) == 0 {
		return
	}
	l.filling = l.shard.node.tasks.start(l.fill)
}

// fill fills one gap after the other.
func (l *lightShard) fill(ctx context.Context) {
	for wait := gapPause; ; {
		g := l.nextGap()
		if g == nil {
			return
		}
		if d := time.Until(g.to.Add(gapSettle)); d > 0 && !pause(ctx, d, nil) {
			return
		}
		var err error = ErrNoStorePeer
		if len(l.shard.node.storePeers(l.shard.shard)) > 0 {
			err = l.fillGap(ctx, g)
		}
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.gapFailure = ""
		if err == nil {
			l.gaps = slices.DeleteFunc(l.gaps, func(x *lightGap) bool { return x == g })
		} else {
			l.gapFailure = l.missing() + ": " + line(err)
		}
		l.mu.Unlock()
		if err == nil {
			wait = gapPause
			continue
		}
		select { // what changed before doesn't count
		case <-l.again:
		default:
		}
		if !pause(ctx, gapPause, nil) || !pause(ctx, wait, l.again) {
			return
		}
		wait = min(2*wait, longestRest)
	}
}

// nextGap returns the oldest gap; nil: there is none, and filling has ended.
func (l *lightShard) nextGap() *lightGap {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.gaps) == 0 || len(l.topics) == 0 {
		l.gaps, l.filling, l.gapFailure = nil, false, ""
		return nil
	}
	l.gaps[0].asked = true
	return l.gaps[0]
}

// missing says in words what the gaps are. mu is held.
func (l *lightShard) missing() string {
	from, to := l.gaps[0].from, l.gaps[0].to
	for _, g := range l.gaps {
		if g.from.Before(from) {
			from = g.from
		}
		if g.to.After(to) {
			to = g.to
		}
	}
	clock := func(t time.Time) string { return l.wall(t).UTC().Format(time.TimeOnly) }
	return fmt.Sprintf("of what was said from %s to %s UTC messages may be missing (%d gaps)", clock(from), clock(to), len(l.gaps))
}

// wall is a monotonic time by the node's clock.
func (l *lightShard) wall(t time.Time) time.Time { return l.shard.node.cfg.now().Add(-time.Since(t)) }

// fillGap delivers what stores have of a gap and wasn't delivered.
func (l *lightShard) fillGap(ctx context.Context, g *lightGap) error {
	s := l.shard
	since := l.wall(g.from)
	if !g.exact {
		since = since.Add(-s.node.cfg.window)
	}
	for topics := range slices.Chunk(g.topics, store.MaxContentTopics) {
		walk, err := s.node.newStoreWalk(s, store.Query{
			Shard: new(s.shard), Start: since, End: l.wall(g.to).Add(s.node.cfg.window),
			ContentTopics: topics, HashesOnly: true, Limit: store.MaxPageSize,
		})
		if err != nil {
			return err
		}
		c := &catchUp{
			since: since, topics: topics,
			known: func(h message.Hash) (int64, bool) { return s.node.relay.Delivered(s.shard, h) },
			hand: func(e store.Entry, from peer.ID) error {
				s.node.relay.Deliver(s.shard, from, e.Message)
				return nil
			},
		}
		if err := c.read(ctx, walk); err != nil {
			return err
		}
	}
	return nil
}
