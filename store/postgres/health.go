package postgres

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/status-im/shoal/store"
)

// health gathers what makes an archive's condition: whether the server answers,
// whether it takes what it is given, and whether the spool has room.
type health struct {
	now func() time.Time
	log *slog.Logger

	mu      sync.Mutex
	away    error // nil: the server answers
	stuck   error // nil: the database takes messages
	full    error // nil: the spool takes messages
	state   store.State
	since   time.Time
	refused uint64

	unstorable, damaged atomic.Uint64
}

func (h *health) init(now func() time.Time, log *slog.Logger) {
	h.now, h.log = now, log
	h.away, h.state, h.since = errAway, store.Spooling, now()
}

// change sets one of the errors and what follows from it.
func (h *health) change(what *error, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*what = err
	state := store.Ready
	switch {
	case h.full != nil:
		state = store.Full
	case h.away != nil || h.stuck != nil:
		state = store.Spooling
	}
	if state == h.state {
		return
	}
	h.state, h.since = state, h.now()
	if state == store.Ready {
		h.log.Info("postgres: archive is ready")
	} else {
		h.log.Warn("postgres: archive is "+state.String(), "err", h.err())
	}
}

// err says why the state isn't Ready. The lock is held.
func (h *health) err() error {
	switch {
	case h.full != nil:
		return h.full
	case h.away != nil:
		return h.away
	}
	return h.stuck
}

func (h *health) linkUp()            { h.change(&h.away, nil) }
func (h *health) linkDown(err error) { h.change(&h.away, err) }
func (h *health) drained()           { h.change(&h.stuck, nil) }
func (h *health) drainStuck(e error) { h.change(&h.stuck, e) }

// spoolTook says that the spool has room. It is on Put's way, and mostly has
// nothing to change.
func (h *health) spoolTook() {
	h.mu.Lock()
	full := h.full != nil
	h.mu.Unlock()
	if full {
		h.change(&h.full, nil)
	}
}

func (h *health) spoolRefused(n int, err error) {
	h.mu.Lock()
	h.refused += uint64(n)
	h.mu.Unlock()
	h.change(&h.full, err)
}

func (h *health) condition() store.Condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	return store.Condition{State: h.state, Since: h.since, Err: h.err(), Refused: h.refused}
}
