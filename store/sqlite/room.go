package sqlite

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	// reservePart ends the name of the file whose room is given up for Prune to
	// work on a full disk.
	reservePart = ".reserve"
	reserveSize = 8 << 20

	// shrinkPages are given back at once, and fewer than shrinkLeast are kept for
	// what is to come.
	shrinkPages = 64
	shrinkLeast = 64
)

// reserve keeps some room back.
func (a *Archive) reserve() {
	name := a.path + reservePart
	if a.path == "" || a.condition.isFull() || size(name) == reserveSize {
		return
	}
	if err := os.WriteFile(name, make([]byte, reserveSize), 0o600); err != nil {
		_ = os.Remove(name) // there is no room to keep
	}
}

// release gives it up, and returns whether there was any.
func (a *Archive) release() bool {
	return a.path != "" && os.Remove(a.path+reservePart) == nil
}

// shrink gives pages back to the system that have become free, if they are many:
// the others are soon filled again.
func (a *Archive) shrink(ctx context.Context) error {
	if a.path == "" {
		return nil
	}
	for more := true; more; {
		err := a.do(ctx, &job{solo: func(d *database) (err error) {
			more, err = shrinkSome(d)
			a.dirty += shrinkPages
			return err
		}})
		if err != nil {
			return err
		}
	}
	// The file becomes smaller when it takes over its log.
	return a.do(ctx, &job{solo: func(*database) error {
		a.due = time.Time{}
		a.checkpoint()
		return nil
	}})
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
