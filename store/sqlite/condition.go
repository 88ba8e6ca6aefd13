package sqlite

import (
	"errors"
	"sync"
	"time"

	"github.com/status-im/shoal/store"
)

// trouble is something that goes on.
type trouble struct {
	err   error
	since time.Time
}

// condition is how an archive is.
type condition struct {
	mu     sync.Mutex
	full   trouble
	damage trouble
	missed uint64
}

func (c *condition) get() store.Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := store.Condition{Refused: c.missed}
	switch {
	case c.full.err != nil:
		out.State, out.Err, out.Since = store.Full, c.full.err, c.full.since
	case c.damage.err != nil:
		out.State, out.Err, out.Since = store.Damaged, c.damage.err, c.damage.since
	}
	return out
}

// refused counts entries that weren't kept.
func (c *condition) refused(err error, n int) {
	var full *store.FullError
	if !errors.As(err, &full) && !errors.Is(err, store.ErrUnavailable) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed += uint64(n)
}

// room says whether there was any; err tells if not. It returns whether that is
// bad news.
func (c *condition) room(err error, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.full = trouble{}
	case c.full.err == nil:
		c.full = trouble{err, now}
		return true
	}
	return false
}

// damaged begins a damage, or ends it if err is nil.
func (c *condition) damaged(err error, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damage = trouble{err, since}
}

// damagedOnce begins a damage and returns true, unless there is one.
func (c *condition) damagedOnce(err error, since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.damage.err != nil {
		return false
	}
	c.damage = trouble{err, since}
	return true
}

// damagedSince is when a damage began.
func (c *condition) damagedSince() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.damage.since, c.damage.err != nil
}
