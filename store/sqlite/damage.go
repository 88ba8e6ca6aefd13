package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/status-im/shoal/store"
)

// parts are the endings of the files that make an archive.
var parts = []string{"", "-wal", "-shm"}

var errReplacing = fmt.Errorf("%w: the file was damaged and is being replaced", store.ErrUnavailable)

// judge draws the conclusions from what an operation on the database returned.
// It may be called by anybody.
func (a *Archive) judge(d *database, err error) {
	if err == nil {
		return
	}
	switch classify(err) {
	case faultFull:
		if a.condition.room(err, a.cfg.Now()) {
			select {
			case a.filled <- struct{}{}:
			default:
			}
		}
	case faultDamaged:
		if a.path == "" {
			a.distrust(err)
			return
		}
		a.condition.damagedOnce(err, a.cfg.Now())
		d.quit(err)
		select {
		case a.damaged <- d:
		default: // somebody has told already
		}
	}
}

// distrust notes a damage in the application's database, whose file isn't ours to
// replace.
func (a *Archive) distrust(err error) {
	if a.condition.damagedOnce(err, a.cfg.Now()) {
		a.cfg.Logger.Error("archive damaged", "err", err)
	}
	select {
	case a.distrusted <- err:
	default: // it will be met again
	}
}

// replace puts a new file in the place of a damaged one. Only the writer calls it.
func (a *Archive) replace(d *database) {
	a.mu.Lock()
	if d == nil || a.db != d {
		a.mu.Unlock()
		return // done already
	}
	a.db = nil
	a.mu.Unlock()
	damage := context.Cause(d.ctx)
	if err := d.close(); err != nil { // waits for the questions, which have been cut off
		a.cfg.Logger.Warn("closing a damaged archive", "err", err)
	}
	a.damage, a.tried = damage, time.Time{}
	a.retry()
}

// retry puts a new file in the place of a damaged one, if there is one to replace.
func (a *Archive) retry() {
	if a.damage == nil || time.Since(a.tried) < time.Second {
		return
	}
	a.tried = time.Now()
	clear(a.topics)
	if err := a.renew(context.Background(), a.damage); err != nil {
		a.cfg.Logger.Error("replacing a damaged archive", "err", err)
		a.condition.damaged(errors.Join(a.damage, err), a.cfg.Now())
		if classify(err) == faultFull {
			a.condition.room(err, a.cfg.Now())
		}
		return
	}
	a.damage = nil
}

// renew sets the files of a damaged archive aside and makes a new one, whose marks
// say that everything is missing.
func (a *Archive) renew(ctx context.Context, damage error) error {
	now := a.cfg.Now()
	aside, err := setAside(a.path, now)
	if err != nil {
		return err
	}
	missing := recent(a.marks.all())
	d, err := a.opened(ctx)
	if err != nil {
		return fmt.Errorf("sqlite: %s: %w", a.path, err)
	}
	what := fmt.Sprintf("the archive was found damaged and set aside as %s: %v", aside, damage)
	a.cfg.Logger.Error("archive damaged", "aside", aside, "err", damage)
	if err := a.declare(ctx, d, what, now, missing); err != nil {
		return errors.Join(err, d.close())
	}
	a.serve(d)
	a.work.Go(func() { a.salvage(aside) })
	return nil
}

// declare notes a damage, and the shards of which something is missing.
func (a *Archive) declare(ctx context.Context, d *database, what string, now time.Time, missing map[int64]mark) error {
	err := d.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, writeState, stateDamaged, now.UnixNano(), what); err != nil {
			return err
		}
		for shard, k := range missing {
			if _, err := tx.ExecContext(ctx, writeState, missingName(shard), 1, ""); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, writeMark, shard, k.time, k.safe, k.seal(shard)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		a.marks.set(missing)
		a.missing = map[int64]bool{}
		for shard := range missing {
			a.missing[shard] = true
		}
		a.condition.damaged(fmt.Errorf("sqlite: %s", what), now)
	}
	return err
}

// recent are the shards in use, those whose marks have moved in the last day, with
// marks that say that nothing is there.
func recent(all map[int64]mark) map[int64]mark {
	var newest int64
	for _, k := range all {
		newest = max(newest, k.time)
	}
	out := map[int64]mark{}
	for shard, k := range all {
		if k.time >= newest-int64(24*time.Hour) {
			out[shard] = mark{}
		}
	}
	return out
}

// lostLog puts the marks back to where they were when the log was last taken
// over: somebody has removed it from an archive that wasn't closed.
func (a *Archive) lostLog(ctx context.Context, d *database) error {
	all := a.marks.all()
	back := recent(all)
	for shard := range back {
		back[shard] = mark{time: all[shard].safe, safe: all[shard].safe}
	}
	const what = "the log is gone, and what was in it is lost"
	a.cfg.Logger.Error("archive damaged", "err", what)
	return a.declare(ctx, d, what, a.cfg.Now(), back)
}

// contain does what can be done about a damage in the application's database: a
// message that isn't what was filed is deleted, and the marks are put back once, so
// that what is missing is fetched again.
func (a *Archive) contain(damage error) {
	var bad *rowError
	if errors.As(damage, &bad) {
		err := a.do(a.ctx, &job{long: true, work: func(w *writing) error { return w.discard(bad.id) }})
		if err != nil && a.ctx.Err() == nil {
			a.cfg.Logger.Error("deleting a damaged message", "err", err)
		}
	}
	since, damaged := a.condition.damagedSince()
	if !damaged || a.noted.Equal(since) {
		return
	}
	what := fmt.Sprintf("the database was found damaged: %v", damage)
	err := a.do(a.ctx, &job{solo: func(d *database) error {
		return a.declare(a.ctx, d, what, since, recent(a.marks.all()))
	}})
	if err != nil && a.ctx.Err() == nil {
		a.cfg.Logger.Error("noting a damage", "err", err)
	}
	if err == nil {
		a.noted = since
	}
}

// discard deletes a message, unless it is gone already.
func (w *writing) discard(id int64) error {
	var shard, topic, time, size int64
	err := w.stmt(readGone).QueryRowContext(w.ctx, id).Scan(&shard, &topic, &time, &size)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = w.stmt(deleteMessage).ExecContext(w.ctx, id)
	}
	if err == nil {
		w.count(shard, time, -1, -size)
	}
	return err
}

// setAside renames a file and those that belong to it.
func setAside(path string, now time.Time) (string, error) {
	base := path + ".damaged-" + now.UTC().Format("20060102T150405Z")
	aside := base
	for n := 2; exists(aside) || exists(aside+"-wal"); n++ {
		aside = fmt.Sprintf("%s-%d", base, n)
	}
	// The log goes first: without its file it is of no use to anybody, and a new
	// file must not find it.
	for _, part := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(path+part, aside+part); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return aside, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
