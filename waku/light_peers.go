package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// lightPeers is how many service peers push the same messages, so that each
	// shows what the others leave out. While some are in doubt there may be
	// extraLightPeers more.
	lightPeers      = 2
	extraLightPeers = 2
	// lightSettle is how long a service peer must have pushed before it takes the
	// place of another: what reached it before it was asked comes by that one.
	lightSettle = 2 * time.Second
)

// rests are those of filter's service peers on the shard.
func (l *lightShard) rests() shardRests { return l.shard.node.filters.on(l.shard.topic) }

func (l *lightShard) isLiar(k *lightLink) bool { return l.rests().isLiar(k.peer) }

// prune ends links that aren't needed or whose peer is gone, and returns when there
// may be more: zero is never. mu is held.
func (l *lightShard) prune() (next time.Duration) {
	better := l.byAge()
	keep, standing := lightPeers, 0
	for _, k := range better {
		if left, good := l.settles(k); good && left == 0 {
			standing++
		} else if good && len(better) > 1 {
			next = sooner(next, left)
		}
	}
	if standing < lightPeers {
		keep = lightPeers + extraLightPeers
	}
	if len(l.topics) == 0 {
		keep = 0
	}
	slices.SortStableFunc(better, func(a, b *lightLink) int {
		return cmp.Or(order(!l.isGood(a), !l.isGood(b)), order(l.isLiar(a), l.isLiar(b)))
	})
	for i, k := range better {
		switch {
		case l.shard.node.peers.get(k.peer) == nil:
			l.end(k, l.gone(k.peer))
		case l.isLiar(k) && l.goodBeside(k):
			_, reason := l.rests().rest(k.peer)
			l.leave(k, reason)
		case i < keep:
		case k.suspect:
			l.rests().fail(k.peer, errMute, 0)
			l.end(k, errMute)
		case keep == 0:
			l.end(k, errUnwanted)
		case k.doubt == errAlone: // others have to show that they push
		case k.doubt != nil:
			l.endDoubted(k)
		default:
			l.end(k, errUnwanted)
		}
	}
	return next
}

// settles tells whether a link is good, and how long it takes until it may take the
// place of another. mu is held.
func (l *lightShard) settles(k *lightLink) (left time.Duration, good bool) {
	if !l.isGood(k) {
		return 0, false
	}
	for t := range l.topics {
		left = max(left, lightSettle-time.Since(k.have[t]))
	}
	return left, true
}

// goodBeside tells whether another link is good whose peer hasn't lied. mu is held.
func (l *lightShard) goodBeside(k *lightLink) bool {
	return slices.ContainsFunc(l.byAge(), func(o *lightLink) bool {
		left, good := l.settles(o)
		return o != k && good && left == 0 && !l.isLiar(o)
	})
}

// end ends a link, and notes until when it was good. Its peer isn't asked anew before
// it has taken its leave. mu is held.
func (l *lightShard) end(k *lightLink, why error) {
	if k.err != nil {
		return
	}
	k.err = why
	k.quit(why)
	l.probes.forget(k.peer)
	l.lost(k)
	l.unsay(k.peer)
	if !errors.Is(why, errUnwanted) && !errors.Is(why, errSeenAnew) && !errors.Is(why, ErrPaused) {
		l.failed(k.peer, why)
	}
	l.changed()
}

// gone is why a peer isn't connected any more. mu is held.
func (l *lightShard) gone(p peer.ID) error {
	if l.shard.node.peers.lastReason(p) == errSeenAnew.Error() {
		return errSeenAnew
	}
	return errGone
}

// failed notes for Health what became of a service peer. mu is held.
func (l *lightShard) failed(p peer.ID, why error) {
	l.failure = fmt.Sprintf("%s: %s", p, line(why))
}

// lost notes that a link no longer pushes what it had. What came since it was last
// known to push may be missing, unless another link has pushed all the time. mu is
// held.
func (l *lightShard) lost(k *lightLink) {
	type stretch struct{ from, to, asked moment }
	missing := map[stretch][]string{}
	for name := range k.have {
		t := l.topics[name]
		if t == nil {
			continue
		}
		if k.proof.mono.After(t.proof.mono) {
			t.proof = k.proof
		}
		var next time.Time // when another one began
		for _, other := range l.byAge() {
			since, ok := other.have[name]
			if ok && other != k && other.reliable() && (next.IsZero() || since.Before(next)) {
				next = since
			}
		}
		switch {
		case next.IsZero() && t.covered:
			t.covered, t.open = false, t.proof
		case next.After(t.proof.mono):
			s := stretch{from: t.proof, to: l.shard.node.momentOf(next), asked: l.askedLately(t, t.proof)}
			missing[s] = append(missing[s], name)
		}
	}
	for at, topics := range missing {
		slices.Sort(topics)
		l.shard.gaps.addLight(topics, at.from, at.to, at.asked, unpushedWords, false)
	}
}

// byAge are the links that haven't ended, the oldest first. mu is held.
func (l *lightShard) byAge() (live []*lightLink) {
	for _, k := range l.links {
		if k.err == nil {
			live = append(live, k)
		}
	}
	slices.SortFunc(live, func(a, b *lightLink) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.peer, b.peer))
	})
	return live
}

// isGood tells whether a link pushes everything, as far as is known. mu is held.
func (l *lightShard) isGood(k *lightLink) bool {
	if !k.reliable() {
		return false
	}
	for t := range l.topics {
		if _, ok := k.have[t]; !ok {
			return false
		}
	}
	return true
}

func (l *lightShard) good() (n int) {
	for _, k := range l.links {
		if l.isGood(k) {
			n++
		}
	}
	return n
}

// recruit begins links until there are enough. Those who lied are taken when there
// is nobody else. mu is held.
func (l *lightShard) recruit(ctx context.Context, ready, liars []peer.ID) {
	hopeful, last := 0, 0
	for _, k := range l.byAge() {
		switch {
		case !k.reliable():
		case l.isLiar(k):
			last++
		default:
			hopeful++
		}
	}
	hopeful = l.begin(ctx, ready, hopeful)
	if hopeful == 0 {
		l.begin(ctx, liars, last)
		l.recall()
	}
}

// begin begins links to peers until so many are hopeful, and returns how many are.
// mu is held.
func (l *lightShard) begin(ctx context.Context, peers []peer.ID, hopeful int) int {
	// Two behind one address may be one.
	taken := map[string]bool{}
	for _, k := range l.byAge() {
		taken[l.shard.node.peers.host(k.peer)] = true
	}
	slices.SortStableFunc(peers, func(a, b peer.ID) int {
		return order(taken[l.shard.node.peers.host(a)], taken[l.shard.node.peers.host(b)])
	})
	for _, p := range peers {
		if hopeful >= lightPeers || len(l.byAge()) >= lightPeers+extraLightPeers {
			break
		}
		if l.links[p] != nil {
			continue
		}
		k := newLightLink(ctx, l, p)
		if !l.shard.node.tasks.start(func(context.Context) { k.run() }) {
			break
		}
		l.links[p] = k
		hopeful++
	}
	return hopeful
}

// order sorts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
