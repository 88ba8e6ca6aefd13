package simnet

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// clock carries out what is due, tick by tick. It takes one timer for each tick in
// which something happens, however much that is.
type clock struct {
	net   *Network
	epoch time.Time
	tick  time.Duration

	mu      sync.Mutex
	due     map[int64]*bucket
	free    []*bucket
	ordinal uint64
}

type bucket struct{ events []event }

// event is something that arrives at an end of a connection, or anything else.
type event struct {
	at      time.Duration // since the epoch
	ordinal uint64
	end     *conn   // where it arrives, if anywhere
	to      *stream // whose segment it is
	seg     segment
	do      func()
}

func (e *event) happen(n *Network) {
	switch {
	case e.end != nil && (e.end.local.dead.Load() || n.hold(*e)):
	case e.to != nil:
		e.to.arrive(e)
	default:
		e.do()
	}
}

func newClock(tick time.Duration) *clock {
	return &clock{epoch: time.Now(), tick: tick, due: map[int64]*bucket{}}
}

func (c *clock) now() time.Duration { return time.Since(c.epoch) }

// after runs do in d.
func (c *clock) after(d time.Duration, do func()) { c.add(event{at: c.now() + d, do: do}) }

func (c *clock) add(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	e.at = max(e.at, now)
	e.ordinal = c.ordinal
	c.ordinal++
	i := int64((e.at + c.tick - 1) / c.tick)
	b := c.due[i]
	if b == nil {
		if n := len(c.free); n > 0 {
			b, c.free = c.free[n-1], c.free[:n-1]
		} else {
			b = new(bucket)
		}
		c.due[i] = b
		time.AfterFunc(time.Duration(i)*c.tick-now, func() { c.run(i) })
	}
	b.events = append(b.events, e)
}

func (c *clock) run(i int64) {
	c.mu.Lock()
	b := c.due[i]
	delete(c.due, i)
	c.mu.Unlock()
	slices.SortFunc(b.events, func(x, y event) int {
		return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.ordinal, y.ordinal))
	})
	for k := range b.events {
		b.events[k].happen(c.net)
	}
	clear(b.events)
	b.events = b.events[:0]
	c.mu.Lock()
	c.free = append(c.free, b)
	c.mu.Unlock()
}
