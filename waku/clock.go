package waku

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// jumpAtLeast is how far the wall clock must move against the monotonic one
	// between two looks to count as set.
	jumpAtLeast = 5 * time.Second
	// witnesses is how many signed messages must contradict the clock. They
	// carry different timestamps: copies of one message prove nothing.
	witnesses = 3
	// sameMessage is how close the timestamps of one message come out when it
	// is measured twice.
	sameMessage = time.Millisecond
	// trustFor is how long a message inside the window speaks for the clock.
	trustFor = time.Hour
	// suspectFor is how long a suspicion lasts without new evidence.
	suspectFor = 5 * time.Minute
)

// clockWatch judges the node's clock by the timestamps of signed messages. Those
// outside the window contradict it if they agree with each other, come by more
// than one peer (if there is more than one), and nothing inside the window has
// spoken for the clock within the last hour, or since the clock was last set.
//
// Old messages may be replays. They count only if they are newer than any that
// this node has known, so each can be used once, and a suspicion that isn't renewed
// ends by itself: whoever has a bag of old messages can't keep a member silent.
type clockWatch struct {
	now    func() time.Time
	spread time.Duration // how far witnesses may disagree
	peers  func() int    // connected
	emit   func(Event)

	mu       sync.Mutex
	seen     time.Time // monotonic and …
	wall     time.Time // … wall clock of the last look
	trusted  time.Time // monotonic time of the last message inside the window
	evidence []witness
	highest  time.Time // no message known is newer, except by the window
	renewed  time.Time // monotonic time of the last new evidence
	state    ClockHealth
	doubt    time.Time // monotonic time since when the clock may be wrong
	steady   time.Time // monotonic time of the last look before the clock was set
	// jumps are by how much the clock moved against the monotonic one, the last
	// maxJumps times that the machine slept or somebody set it, and jumped is how often
	// that was.
	jumps  []time.Duration
	jumped int
}

const maxJumps = 16

// witness is a signed message outside the window.
type witness struct {
	timestamp time.Time
	offset    time.Duration
	from      map[string]struct{} // who brought it, at most maxBringers
}

// maxBringers is more than are ever asked for.
const maxBringers = 4

func (x *witness) broughtBy(from string) {
	if len(x.from) < maxBringers {
		x.from[from] = struct{}{}
	}
}

func (x *witness) is(timestamp time.Time) bool {
	return x.timestamp.Sub(timestamp).Abs() < sameMessage
}

func newClockWatch(now func() time.Time, window time.Duration, peers func() int, emit func(Event)) *clockWatch {
	return &clockWatch{
		now: now, spread: max(window/5, time.Second), peers: peers, emit: emit,
		seen: time.Now(), wall: now().Round(0),
	}
}

// check looks whether the clock was set since the last look.
func (w *clockWatch) check() (jumped bool) {
	return w.observe(func() (Event, bool) {
		if !w.state.Suspect || w.seen.Sub(w.renewed) < suspectFor {
			return Event{}, false
		}
		w.evidence = nil
		w.state = ClockHealth{}
		return Event{Kind: ClockOK}, true
	})
}

// inside is told of messages that agree with the clock.
func (w *clockWatch) inside() {
	w.observe(func() (Event, bool) {
		recovered := w.state.Suspect
		w.trusted, w.doubt = w.seen, time.Time{}
		if past := w.wall.Add(-5 * w.spread); past.After(w.highest) {
			w.highest = past
		}
		w.evidence = nil
		w.state = ClockHealth{}
		return Event{Kind: ClockOK}, recovered
	})
}

// outside is told of messages that contradict the clock.
func (w *clockWatch) outside(offset time.Duration, from string) {
	w.observe(func() (Event, bool) {
		if !w.trusted.IsZero() && w.seen.Sub(w.trusted) < trustFor {
			return Event{}, false
		}
		timestamp := w.wall.Add(offset)
		if offset < 0 && !timestamp.After(w.highest.Add(sameMessage)) {
			return Event{}, false
		}
		w.add(timestamp, offset, from)
		return w.judge()
	})
}

// copied is told of messages outside the window whose signature nobody verified:
// of one that is evidence already it says who else has it.
func (w *clockWatch) copied(timestamp time.Time, from string) {
	w.observe(func() (Event, bool) {
		for i := range w.evidence {
			if w.evidence[i].is(timestamp) {
				w.evidence[i].broughtBy(from)
				return w.judge()
			}
		}
		return Event{}, false
	})
}

// judge draws the conclusion. mu is held.
func (w *clockWatch) judge() (Event, bool) {
	switch {
	case w.state.Suspect:
		w.state.Offset = w.meanOffset()
		return Event{}, false
	case len(w.evidence) < witnesses || w.bringers() < min(2, w.peers()):
		return Event{}, false
	}
	w.state = ClockHealth{Suspect: true, Offset: w.meanOffset(), Since: w.wall}
	return Event{Kind: ClockSuspect, Offset: w.state.Offset}, true
}

// observe compares the clocks, does f under the lock, and tells what came of both.
func (w *clockWatch) observe(f func() (Event, bool)) (jumped bool) {
	w.mu.Lock()
	jump := w.look()
	e, tell := f()
	w.mu.Unlock()
	if jump != 0 {
		w.emit(Event{Kind: ClockJumped, Offset: jump})
	}
	if tell {
		w.emit(e)
	}
	return jump != 0
}

// look returns by how much the clock was set, and forgets what was thought of it
// before. mu is held.
func (w *clockWatch) look() time.Duration {
	seen, wall := time.Now(), w.now().Round(0)
	jump := wall.Sub(w.wall) - seen.Sub(w.seen)
	before := w.seen
	w.seen, w.wall = seen, wall
	if jump.Abs() < jumpAtLeast {
		return 0
	}
	if len(w.jumps) == maxJumps {
		w.jumps = w.jumps[1:]
	}
	w.jumps = append(w.jumps, jump)
	w.jumped++
	w.doubt, w.steady = before, before
	w.trusted, w.highest = time.Time{}, time.Time{}
	w.evidence = nil
	w.state = ClockHealth{}
	return jump
}

// add keeps the latest witnesses that agree with the newest.
func (w *clockWatch) add(timestamp time.Time, offset time.Duration, from string) {
	kept := w.evidence[:0]
	for _, x := range w.evidence {
		if (x.offset - offset).Abs() <= w.spread {
			kept = append(kept, x)
		}
	}
	w.evidence = kept
	for i := range kept {
		if kept[i].is(timestamp) {
			kept[i].broughtBy(from)
			return
		}
	}
	if len(w.evidence) == 2*witnesses {
		w.evidence = w.evidence[1:]
	}
	w.renewed = w.seen
	if w.doubt.IsZero() {
		w.doubt = w.seen
	}
	if timestamp.After(w.highest) {
		w.highest = timestamp
	}
	x := witness{timestamp: timestamp, offset: offset, from: map[string]struct{}{from: {}}}
	w.evidence = append(w.evidence, x)
}

// bringers counts the peers that brought evidence.
func (w *clockWatch) bringers() int {
	all := map[string]struct{}{}
	for _, x := range w.evidence {
		maps.Copy(all, x.from)
	}
	return len(all)
}

func (w *clockWatch) meanOffset() time.Duration {
	sum := time.Duration(0)
	for _, y := range w.evidence {
		sum += y.offset / time.Duration(len(w.evidence))
	}
	return sum
}

// health returns what is thought of the clock.
func (w *clockWatch) health() ClockHealth {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// ahead is how far ahead of what it says now the clock may have been when it had jumped
// so often: by how much it was set back since. A jump there and back is a mistake and its
// mending.
func (w *clockWatch) ahead(jumped int) (by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var since []time.Duration
	for _, x := range w.jumps[max(0, len(w.jumps)-(w.jumped-jumped)):] {
		back := slices.IndexFunc(since, func(y time.Duration) bool { return (x + y).Abs() < jumpAtLeast })
		if back < 0 {
			since = append(since, x)
		} else {
			since = slices.Delete(since, back, back+1)
		}
	}
	for _, x := range since {
		by += max(-x, 0)
	}
	return by
}

// jumpCount is how often the clock has jumped.
func (w *clockWatch) jumpCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.jumped
}

// doubtful is since when the clock may be wrong, by the monotonic clock; zero: nothing
// speaks against it.
func (w *clockWatch) doubtful() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doubt
}

// clockEvent passes on what is found out about the clock.
func (n *Node) clockEvent(e Event) {
	n.emit(e)
	n.clock.mu.Lock()
	steady := n.clock.steady
	n.clock.mu.Unlock()
	for _, s := range n.shards.all() {
		if e.Kind == ClockJumped {
			n.tasks.start(func(context.Context) { s.gaps.slept(max(e.Offset, 0), steady) })
		}
		s.gaps.changed()
	}
}
