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

// moment is a time by two clocks: the system's monotonic one, and the node's. The
// first stands while the machine sleeps, the second may be set.
type moment struct{ mono, wall time.Time }

func (n *Node) moment() moment { return moment{time.Now(), n.cfg.now().Round(0)} }

// momentOf is a past moment by what the monotonic clock said.
func (n *Node) momentOf(mono time.Time) moment {
	return moment{mono, n.cfg.now().Add(-time.Since(mono)).Round(0)}
}

// earliest is when a moment was at the earliest, by the node's clock now.
func (n *Node) earliest(m moment) time.Time {
	if t := n.cfg.now().Add(-time.Since(m.mono)); t.Before(m.wall) {
		return t
	}
	return m.wall
}

// latest is when a moment was at the latest, by the node's clock now.
func (n *Node) latest(m moment) time.Time {
	if t := n.cfg.now().Add(-time.Since(m.mono)); t.After(m.wall) {
		return t
	}
	return m.wall
}

// lightGap is a time in which nobody pushed some topics.
type lightGap struct {
	topics   []string
	from, to moment
	// asked is since when the topics are wanted, if that isn't long before from:
	// what is older wasn't asked for. Messages published before from may have been
	// on their way.
	asked moment
}

// maxGaps is how many gaps are kept apart. Further ones are added to the last.
const maxGaps = 64

// addGap notes that messages may be missing. mu is held.
func (l *lightShard) addGap(g *lightGap) {
	if len(l.gaps) < maxGaps {
		l.gaps = append(l.gaps, g)
		return
	}
	last := *l.gaps[maxGaps-1]
	last.topics = slices.Compact(slices.Sorted(slices.Values(slices.Concat(last.topics, g.topics))))
	if g.from.mono.Before(last.from.mono) {
		last.from = g.from
	}
	if g.asked.mono.Before(last.asked.mono) {
		last.asked = g.asked
	}
	last.to = g.to
	l.gaps[maxGaps-1] = &last
}

// remember keeps what was delivered from being forgotten while a store may still
// bring it again. mu is held.
func (l *lightShard) remember() {
	on := len(l.gaps) > 0
	for _, t := range l.topics {
		on = on || !t.covered
	}
	l.shard.node.relay.Remember(l.shard.shard, on)
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
	gate := l.shard.node.gate
	for wait := gapPause; ; {
		if _, ok := gate.pass(ctx); !ok {
			return
		}
		g := l.nextGap()
		if g == nil {
			return
		}
		if d := time.Until(g.to.mono.Add(gapSettle)); d > 0 && !gate.rest(ctx, d, nil) {
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
		l.remember()
		l.mu.Unlock()
		if err == nil {
			wait = gapPause
			continue
		}
		select { // what changed before doesn't count
		case <-l.again:
		default:
		}
		if !gate.rest(ctx, gapPause, nil) || !gate.rest(ctx, wait, l.again) {
			return
		}
		wait = min(2*wait, longestRest)
	}
}

// nextGap returns the oldest gap; nil: there is none, and filling has ended. What
// nobody reads any more isn't missed.
func (l *lightShard) nextGap() *lightGap {
	l.mu.Lock()
	defer l.mu.Unlock()
	read := l.shard.read()
	for _, g := range l.gaps {
		g.topics = slices.DeleteFunc(g.topics, func(t string) bool { _, ok := read[t]; return !ok })
	}
	l.gaps = slices.DeleteFunc(l.gaps, func(g *lightGap) bool { return len(g.topics) == 0 })
	if len(l.gaps) == 0 {
		l.gaps, l.filling, l.gapFailure = nil, false, ""
		l.remember()
		return nil
	}
	return l.gaps[0]
}

// missing says in words what the gaps are. mu is held.
func (l *lightShard) missing() string {
	from, to := l.gaps[0].from.wall, l.gaps[0].to.wall
	for _, g := range l.gaps {
		if g.from.wall.Before(from) {
			from = g.from.wall
		}
		if g.to.wall.After(to) {
			to = g.to.wall
		}
	}
	return fmt.Sprintf("of what was said from %s to %s UTC messages may be missing (%d gaps)",
		from.UTC().Format(time.TimeOnly), to.UTC().Format(time.TimeOnly), len(l.gaps))
}

// fillGap delivers what stores have of a gap and wasn't delivered.
func (l *lightShard) fillGap(ctx context.Context, g *lightGap) error {
	s := l.shard
	since := s.node.earliest(g.from).Add(-s.node.cfg.window)
	if asked := s.node.earliest(g.asked); !g.asked.mono.IsZero() && asked.After(since) {
		since = asked
	}
	// What came since is known, so the end matters only for a gap that is over long
	// since. A clock that was set while away may have it too early.
	var end time.Time
	if time.Since(g.to.mono) > s.node.cfg.window {
		end = s.node.latest(g.to).Add(s.node.cfg.window)
	}
	for topics := range slices.Chunk(g.topics, store.MaxContentTopics) {
		walk, err := s.node.newStoreWalk(s, store.Query{
			Shard: new(s.shard), Start: since, End: end,
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
