package sqlite

import (
	"context"
	"time"
)

const (
	// logDirty is how much is written before the file takes it over: rows and
	// transactions.
	logDirty = 2000
	// logKept is the size to which the log shrinks once it could not be emptied
	// for a while, and logMost the size at which readers have to wait for that.
	logKept = 64 << 20
	logMost = 512 << 20
	// logTime is how soon the file takes over what little was written.
	logTime = time.Second
)

// emptyLog gives the log's room back as well, for which readers and writers have to
// wait for each other.
func (a *Archive) emptyLog(d *database) error {
	ctx := context.Background()
	if err := truncateLog(ctx, d); err != nil {
		return err
	}
	a.marks.saved()
	return a.beginLog(ctx, d)
}

// beginLog writes to the log, which is never empty while the archive is open.
func (a *Archive) beginLog(ctx context.Context, d *database) error {
	return note(ctx, d, stateOpened, a.cfg.Now().UnixNano())
}

// checkpoint has the file take over the log, if there is much in it. It doesn't
// wait for readers and they don't wait for it. If what a reader sees keeps the log
// from being emptied, a later time will do it.
func (a *Archive) checkpoint() {
	db := a.current()
	if a.path == "" || db == nil || a.dirty == 0 {
		return
	}
	if a.dirty < logDirty && time.Since(a.due) < 0 {
		return
	}
	a.dirty, a.due = 0, time.Now().Add(logTime)
	pragma := `PRAGMA wal_checkpoint(PASSIVE)`
	if size(a.path+"-wal") > logMost {
		pragma = `PRAGMA wal_checkpoint(RESTART)`
	}
	var busy, frames, done int
	err := db.write.QueryRowContext(context.Background(), pragma).Scan(&busy, &frames, &done)
	a.judge(db, err)
	if err == nil && busy == 0 && frames == done {
		a.marks.saved()
	}
}
