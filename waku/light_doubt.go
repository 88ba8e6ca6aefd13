package waku

import (
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// One service peer's word against another's decides nothing, for it may push what it
// has from nobody. Two that agree are believed:
//
//   - What two have pushed, a third must have pushed too, or it is left.
//   - What one alone has pushed puts the other in doubt. A third is asked, and takes
//     the place of who is in doubt; but only once.
//   - Who alone has pushed what two others didn't, at once or one after the other, is
//     in doubt itself. It isn't heard against anybody any more, and is left when two
//     others agree. Until then it is kept, since it may be the one that is right.
//
// What any of them pushes is delivered meanwhile. A doubt ends when for a minute there
// was no further reason for it.

// doubtFor is for how long a service peer is in doubt.
const doubtFor = time.Minute

var (
	// errSilent: it answers pings and doesn't push.
	errSilent = errors.New("it didn't push what another service peer did")
	// errAlone: it pushes what isn't to be had elsewhere.
	errAlone = errors.New("it alone pushed what other service peers didn't")
)

// doubts are what others' pushes say about a link. The lightShard's mu guards them.
type doubts struct {
	doubt   error     // errSilent, errAlone or nil
	doubted time.Time // when there was reason last
	by      peer.ID   // on whose word
	anew    bool      // is to be asked for everything once more
	// accused are those who were put in doubt on this link's word alone.
	accused []peer.ID
}

// reliable tells whether nothing is known against a link. mu is held.
func (k *lightLink) reliable() bool { return k.err == nil && !k.suspect && k.doubt == nil }

// judge draws conclusions from who pushed a message and who should have. mu is held.
func (l *lightShard) judge(at moment, pushed, missing []*lightLink) {
	heard := 0
	for _, k := range pushed {
		if k.doubt == nil {
			heard++
		}
	}
	switch {
	case len(pushed) > 1 && heard > 0:
		l.agreed(at, pushed, missing)
	case heard == 1 && len(missing) > 0:
		l.alone(at, pushed[0], missing)
	case heard == 1:
		l.rests().pushed(pushed[0].peer)
	case len(pushed) == 1 && len(missing) > 0 && pushed[0].doubt == errAlone:
		pushed[0].doubted = time.Now()
	}
}

// relent ends doubts that have lasted, and returns when the next one does: zero if
// there is none. mu is held.
func (l *lightShard) relent() (next time.Duration) {
	for _, k := range l.byAge() {
		if k.doubt == nil {
			continue
		}
		left := doubtFor - time.Since(k.doubted)
		if left <= 0 {
			k.doubt = nil
			continue
		}
		if next == 0 || left < next {
			next = left
		}
	}
	return next
}

// agreed is for what several have pushed.
func (l *lightShard) agreed(at moment, pushed, missing []*lightLink) {
	for _, k := range missing {
		k.hold(at)
		l.endDoubted(k)
	}
	others := 0
	for _, k := range pushed {
		l.rests().pushed(k.peer)
		if len(missing) > 0 { // it was right
			k.accused = nil
			if k.doubt == errAlone {
				k.doubt = nil
			}
		}
		if k.doubt != errAlone {
			others++
		}
	}
	for _, k := range l.byAge() {
		if k.doubt == errAlone && others > 1 {
			l.endDoubted(k)
		}
	}
	l.changed()
}

// alone is for what a alone has pushed, of all that had to.
func (l *lightShard) alone(at moment, a *lightLink, missing []*lightLink) {
	now := time.Now()
	seen := slices.Clone(a.accused)
	for _, k := range missing {
		if !k.suspect && k.doubt != errAlone && !slices.Contains(seen, k.peer) { // who doesn't answer is no witness
			seen = append(seen, k.peer)
		}
	}
	if len(seen) > 1 { // those it accused before have lost their places for nothing
		a.doubt, a.doubted, a.accused = errAlone, now, seen
		for _, p := range seen {
			l.rests().pushed(p)
		}
		l.doubted(a)
		return
	}
	a.accused = seen
	for _, k := range missing {
		if k.suspect || k.doubt == errAlone {
			continue
		}
		k.hold(at)
		if k.doubt == nil || now.Sub(k.doubted) >= doubtFor {
			k.anew = true // it may have lost what it was asked for
			k.rouse()
		}
		k.doubt, k.doubted, k.by = errSilent, now, a.peer
		l.doubted(k)
	}
}

// doubted tells of a doubt.
func (l *lightShard) doubted(k *lightLink) {
	l.failed(k.peer, k.doubt)
	l.shard.node.cfg.logger.Debug("service peer in doubt", "shard", l.shard.shard, "peer", k.peer, "reason", k.doubt)
	l.changed()
}

// unsay takes back the doubts on one peer's word. mu is held.
func (l *lightShard) unsay(p peer.ID) {
	for _, k := range l.byAge() {
		if k.doubt == errSilent && k.by == p {
			k.doubt = nil
		}
	}
}

// hold notes that a link didn't push everything after a moment.
func (k *lightLink) hold(at moment) {
	if k.proof.mono.After(at.mono) {
		k.proof = at
	}
}

// endDoubted ends a link to a peer that was shown to push too little, or too much.
// mu is held.
func (l *lightShard) endDoubted(k *lightLink) {
	why := errSilent
	if k.doubt == errAlone {
		why = errAlone
		l.rests().misled(k.peer, why)
	} else {
		l.rests().fail(k.peer, why, 0)
	}
	l.shard.node.cfg.logger.Info("service peer replaced", "shard", l.shard.shard, "peer", k.peer, "reason", why)
	l.end(k, why)
}
