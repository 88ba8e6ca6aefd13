package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	// logDirty is how much is written before the file takes it over: rows and
	// transactions. An application's SQLite does so by itself after a thousand
	// pages, in the midst of a Put, unless it has been done before.
	logDirty    = 2000
	logDirtyApp = 400
	// logTime is how soon the file takes over what little was written.
	logTime = time.Second
	// logShort is a log that isn't worth more than one try of logTries.
	logShort = 8 << 20
	logTries = 3
	// logKept is the size at which the writer pauses for the log to begin anew, and
	// to which the file of a longer one shrinks; readers may prevent that until it
	// has logMost, when they have to wait as well.
	logKept = 128 << 20
	logMost = 512 << 20
	// frameSize is what a page takes in the log.
	frameSize = pageSize + 24
	// restartTime is how long the writer waits for readers of a log of logKept.
	restartTime = 50 * time.Millisecond
)

// wrote notes what was written, and tells keepLog when there is something to do.
func (a *Archive) wrote(n int64) {
	now := a.dirty.Add(n)
	if most := a.logDirty(); now == n || now >= most && now-n < most {
		select {
		case a.logged <- struct{}{}:
		default:
		}
	}
}

func (a *Archive) logDirty() int64 {
	if a.path == "" {
		return logDirtyApp
	}
	return logDirty
}

// keepLog has the file take over the log beside the writer, who needn't wait for
// it: what takes long is to have the disk keep the file.
func (a *Archive) keepLog() {
	soon := time.NewTimer(0)
	defer soon.Stop()
	var last time.Time
	for {
		select {
		case <-a.logged:
		case <-a.ctx.Done():
			return
		}
		soon.Reset(time.Until(last.Add(logTime)))
		for waiting := true; waiting && a.dirty.Load() < a.logDirty(); {
			select {
			case <-a.logged:
			case <-soon.C:
				waiting = false
			case <-a.ctx.Done():
				return
			}
		}
		last = time.Now()
		a.catchUp()
	}
}

// catchUp makes checkpoints until the log can begin anew by itself, which it does
// if there is nothing in it, when something is written, that isn't in the file.
func (a *Archive) catchUp() {
	for range logTries {
		size, err := a.checkpoint(a.ctx)
		switch {
		case err != nil:
			a.wrote(1) // try again soon
			return
		case a.dirty.Load() == 0 || size < logShort:
			return
		case size > logKept:
			a.restart(size)
			return
		}
	}
}

// checkpoint has the file take over the log. It waits for nobody, and nobody waits
// for it. Where a reader needs what is in the file, the rest is left for a later
// time. It returns the size of the log, which is used from its beginning again when
// all of it was taken over and nobody reads it.
func (a *Archive) checkpoint(ctx context.Context) (size int64, err error) {
	a.mu.RLock()
	db := a.db
	if db != nil {
		db.users.Add(1)
	}
	a.mu.RUnlock()
	if db == nil {
		return 0, nil
	}
	defer db.users.Done()
	ctx, cancel := db.bind(ctx)
	defer cancel()
	a.dirty.Store(0)
	marks := a.marks.all()
	frames, complete, err := db.takeOver(ctx, db.log, "PASSIVE")
	a.judge(db, err)
	if complete {
		a.marks.saved(marks)
	} else if err == nil {
		a.wrote(1)
	}
	return frames * frameSize, err
}

// restart has the log begin anew, for which the writer has to pause: as long as it
// goes on, there is always something that the file hasn't taken over yet.
func (a *Archive) restart(size int64) {
	err := a.do(a.ctx, &job{solo: func(d *database) error {
		on := d.log
		if size > logMost {
			on = d.write // where more time is allowed for
		}
		marks := a.marks.all()
		_, complete, err := d.takeOver(context.Background(), on, "RESTART")
		if complete {
			a.marks.saved(marks)
		}
		return err
	}})
	if err != nil && a.ctx.Err() == nil {
		a.cfg.Logger.Warn("beginning the log anew", "err", err)
	}
}

// takeOver makes a checkpoint. It returns how long the log was and whether all of
// that is in the file now.
func (d *database) takeOver(ctx context.Context, on *sql.DB, mode string) (frames int64, complete bool, err error) {
	// SQLite makes one at a time, and none of those that come meanwhile.
	d.taking.Lock()
	defer d.taking.Unlock()
	var busy, done int64
	err = on.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &frames, &done)
	return max(frames, 0), err == nil && busy == 0 && frames == done, err
}

// truncateLog has the file take over its log and gives the log's room back as
// well, for which readers and writers have to wait for each other.
func truncateLog(ctx context.Context, d *database) error { return takeAll(ctx, d, "TRUNCATE") }

// takeAll has the file take over all of its log.
func takeAll(ctx context.Context, d *database, mode string) error {
	_, complete, err := d.takeOver(ctx, d.write, mode)
	if err == nil && !complete {
		err = errLogUsed
	}
	return err
}

// emptyLog has the file take over all of the log of an archive that is in use, and
// gives the log's room back. Only the writer calls it.
func (a *Archive) emptyLog(d *database) error {
	ctx := context.Background()
	marks := a.marks.all()
	if err := takeAll(ctx, d, "RESTART"); err != nil {
		return err
	}
	a.marks.saved(marks)
	return a.beginLog(ctx, d)
}

// beginLog writes over the beginning of a log that the file has taken over, and
// cuts off the rest. It was never empty while the archive is open: not even a power
// failure leaves a file that looks robbed of it.
func (a *Archive) beginLog(ctx context.Context, d *database) error {
	if err := limitLog(ctx, d, 0); err != nil {
		return err
	}
	err := note(ctx, d, stateOpened, a.cfg.Now().UnixNano())
	return errors.Join(err, limitLog(ctx, d, logKept))
}

// limitLog says to what size the log is cut when it begins anew.
func limitLog(ctx context.Context, d *database, size int64) error {
	_, err := d.write.ExecContext(ctx, fmt.Sprintf(`PRAGMA journal_size_limit = %d`, size))
	return err
}
