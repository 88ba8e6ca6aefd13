package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/status-im/shoal/store"
)

const (
	// reservePart ends the name of the file whose room is given up for Prune to
	// work on a full disk.
	reservePart = ".reserve"
	reserveSize = 8 << 20
	// reserveAgain is how often a full disk is tried.
	reserveAgain = time.Second

	// shrinkPages are given back at once, and fewer than shrinkLeast are kept for
	// what is to come.
	shrinkPages = 64
	shrinkLeast = 64
)

// room is what is kept back of the disk. Nothing is put without it, so that there
// is always enough for Prune and Close to work with.
type room struct {
	mu     sync.Mutex
	name   string // of a file; empty: the disk is the application's matter
	given  bool   // to somebody who makes room
	failed time.Time
	err    error
}

// reserve makes sure of the room.
func (r *room) reserve() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.name == "" || size(r.name) == reserveSize:
		return nil
	case r.given || time.Since(r.failed) < reserveAgain:
		return r.err
	}
	if r.err = os.WriteFile(r.name, make([]byte, reserveSize), 0o600); r.err != nil {
		_ = os.Remove(r.name) // half of it is of no use
		r.err = &store.FullError{Err: r.err}
		r.failed = time.Now()
	}
	return r.err
}

// release gives the room to the caller, who calls take in the end. It returns
// whether there was any.
func (r *room) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.name == "" || os.Remove(r.name) != nil {
		return false
	}
	r.given, r.err = true, errReserve
	return true
}

// wanted tells whether there is no room.
func (r *room) wanted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

// take has the room kept back again.
func (r *room) take() {
	r.mu.Lock()
	r.given, r.failed = false, time.Time{}
	r.mu.Unlock()
	_ = r.reserve() // or else the next Put says so
}

var errReserve = &store.FullError{Err: errors.New("what is kept back is in use")}

// shrink gives pages back to the system that have become free, if they are many:
// the others are soon filled again.
func (a *Archive) shrink(ctx context.Context) error {
	if a.path == "" {
		return nil
	}
	for more := true; more; {
		err := a.do(ctx, &job{solo: func(d *database) (err error) {
			more, err = shrinkSome(d)
			a.wrote(shrinkPages)
			return err
		}})
		if err != nil {
			return err
		}
	}
	// The file becomes smaller when it takes over its log.
	if a.room.wanted() {
		return a.do(ctx, &job{solo: a.emptyLog})
	}
	_, err := a.checkpoint(ctx)
	return err
}

func shrinkSome(d *database) (more bool, err error) {
	ctx := context.Background()
	var free, pages int64
	if err := d.write.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&free); err != nil {
		return false, err
	}
	if err := d.write.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages); err != nil {
		return false, err
	}
	if free < shrinkLeast || free < pages/8 {
		return false, nil
	}
	_, err = d.write.ExecContext(ctx, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, shrinkPages))
	return err == nil, err
}

// upkeep applies the policy from time to time, and when the disk is full.
func (a *Archive) upkeep() {
	var tick <-chan time.Time
	if a.cfg.PruneEvery > 0 {
		t := time.NewTicker(a.cfg.PruneEvery)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-tick:
		case <-a.filled:
			if a.cfg.PruneEvery < 0 {
				continue
			}
		case err := <-a.distrusted:
			a.contain(err)
			continue
		case <-a.ctx.Done():
			return
		}
		if _, err := a.Prune(a.ctx); err != nil && a.ctx.Err() == nil {
			a.cfg.Logger.Warn("applying the retention policy", "err", err)
		}
	}
}
