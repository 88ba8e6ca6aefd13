package segment

import (
	"cmp"
	"errors"
	"sync"
	"time"
)

// Config bounds an [Assembler]. The zero value is good for most.
type Config struct {
	// MaxWhole is the longest payload put together, in bytes. Default: 16 MiB.
	MaxWhole int
	// MaxSender and MaxBytes bound what is held of one sender, and of all: segments
	// and what it takes to keep them, in bytes. Of the one who exceeds the first, the
	// payload is forgotten that has waited longest; when the second is exceeded, the
	// one of anybody. Neither is less than one payload of MaxWhole takes. Default: 32
	// MiB and 64 MiB.
	MaxSender, MaxBytes int
	// MaxAge is how long the next segment of a payload is waited for. Default: a day.
	MaxAge time.Duration
	// Remember is how many payloads are remembered when they have been given out, so
	// that segments which come late, or again, are dropped. Default: 4096.
	Remember int
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	c.MaxWhole = cmp.Or(max(c.MaxWhole, 0), 16<<20)
	least := c.MaxWhole + c.MaxWhole/parityShare + groupCost + maxBlocks*segmentCost
	c.MaxSender = max(cmp.Or(c.MaxSender, 32<<20), least)
	c.MaxBytes = max(cmp.Or(c.MaxBytes, 64<<20), c.MaxSender)
	c.MaxAge = cmp.Or(max(c.MaxAge, 0), 24*time.Hour)
	c.Remember = cmp.Or(max(c.Remember, 0), 4096)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Stats is what an [Assembler] holds and has counted.
type Stats struct {
	// Held and Bytes are payloads of which segments are missing, and what they take.
	Held, Bytes int
	// Completed payloads were given out, Rebuilt those of them that took parity.
	// Repeats are segments that were there already or came after the whole. Evicted
	// payloads were forgotten for want of room or because nothing came any more,
	// Spoiled ones because they weren't what their hash says. Refused segments were
	// too large or contradicted others.
	Completed, Rebuilt, Repeats, Evicted, Spoiled, Refused uint64
}

// Assembler puts payloads together. Its methods are safe for concurrent use.
type Assembler struct {
	cfg Config

	mu    sync.Mutex
	held  shelf
	done  memory
	stats Stats
}

// NewAssembler returns an empty one. It runs nothing: there is nothing to close.
func NewAssembler(cfg Config) *Assembler {
	cfg = cfg.withDefaults()
	return &Assembler{cfg: cfg, held: newShelf(), done: newMemory(cfg.Remember)}
}

// Add takes a segment from a sender, and returns the whole payload if it was the one
// that was missing; nil if more are needed, or this was a repeat. From names who sent
// it, and should be what a signature proves: the segments of different senders are
// never put together, and only a sender itself can spoil what it sends. The segment's
// payload is copied.
//
// Errors: *[TooLargeError], [ErrContradiction] and [ErrSpoiled]. None of them takes
// anything from other payloads.
func (a *Assembler) Add(from string, s *Segment) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	a.expire(now)
	k := key{from, s.Whole}
	if a.done.has(k) {
		a.stats.Repeats++
		return nil, nil
	}
	if err := a.fits(s); err != nil {
		a.stats.Refused++
		return nil, err
	}
	g := a.held.group(k)
	fresh, err := g.add(s)
	switch {
	case err != nil:
		a.stats.Refused++
		if g.cost == groupCost { // nothing in it
			a.held.drop(g)
		}
		return nil, err
	case !fresh:
		a.stats.Repeats++
		return nil, nil
	}
	a.held.grew(g, segmentCost+len(s.Payload), now)
	payload, err := g.whole()
	switch {
	case errors.Is(err, errPadding):
		err = nil
	case err != nil:
		a.held.drop(g)
		a.stats.Spoiled++
	case payload != nil:
		a.held.drop(g)
		a.done.add(k)
		a.stats.Completed++
		if len(g.data) < g.n {
			a.stats.Rebuilt++
		}
	}
	a.makeRoom(k.from)
	return payload, err
}

// fits refuses what belongs to a payload that is too large, as far as one segment
// shows it.
func (a *Assembler) fits(s *Segment) error {
	least := len(s.Payload) + 1 // another slice
	switch {
	case s.Parity && s.Count > maxBlocks-2:
		return ErrContradiction
	case !s.Parity && s.Count > MaxSegments:
		return &TooLargeError{Size: (s.Count - 1) * len(s.Payload), Limit: MaxSegments * len(s.Payload)}
	case !s.Parity && s.Index < s.Count-1:
		least = (s.Count-1)*len(s.Payload) + 1
	case !s.Parity:
		least = s.Count * len(s.Payload)
	}
	if least > a.cfg.MaxWhole {
		return &TooLargeError{Size: least, Limit: a.cfg.MaxWhole}
	}
	return nil
}

// Has tells whether a sender's payload was put together not long ago.
func (a *Assembler) Has(from string, whole Hash) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done.has(key{from, whole})
}

// Progress tells how many segments of a sender's payload are here, and how many it
// takes: 0 while that isn't known. Both are 0 for one that isn't held.
func (a *Assembler) Progress(from string, whole Hash) (have, need int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.held.groups[key{from, whole}]
	if g == nil {
		return 0, 0
	}
	return len(g.data) + len(g.parity), g.n
}

// Forget drops what is held of a sender's payload.
func (a *Assembler) Forget(from string, whole Hash) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.held.groups[key{from, whole}]; g != nil {
		a.held.drop(g)
	}
}

// Stats returns a snapshot.
func (a *Assembler) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Held, s.Bytes = len(a.held.groups), a.held.bytes
	return s
}

func (a *Assembler) expire(now time.Time) {
	for g := a.held.oldest(); g != nil && now.Sub(g.grown) > a.cfg.MaxAge; g = a.held.oldest() {
		a.evict(g)
	}
}

// makeRoom forgets until the limits are kept.
func (a *Assembler) makeRoom(from string) {
	for s := a.held.senders[from]; s != nil && s.bytes > a.cfg.MaxSender; s = a.held.senders[from] {
		a.evict(s.oldest())
	}
	for a.held.bytes > a.cfg.MaxBytes {
		a.evict(a.held.oldest())
	}
}

func (a *Assembler) evict(g *group) {
	a.held.drop(g)
	a.stats.Evicted++
}
