package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

// madeHere is what the lock file says once there has been an archive beside it.
const (
	lockPart = ".lock"
	// smallestFile is the smallest page there can be.
	smallestFile = 512
	madeHere     = "There is a Shoal archive beside this file.\n"
)

// Open opens the archive in a file, which it makes if need be, but not its
// directory. Beside it there are a log (-wal), its index (-shm), a lock (.lock),
// and what is kept back for a full disk (.reserve).
//
// A file that is damaged is set aside, with everything that belongs to it, under
// its name and ".damaged-" and the time; a new one takes its place, and
// [Archive.Condition] says so. That isn't an error, and opening takes seconds at
// most whatever the size: the rest of a large file is examined afterwards.
//
// Errors: [ErrLocked], [ErrNotArchive], a [*SchemaError], those of ctx, of the
// system and of SQLite.
func Open(ctx context.Context, path string, cfg Config) (_ *Archive, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	a := newArchive(cfg, path)
	_, missing := os.Stat(path + lockPart)
	a.lock = flock.New(path+lockPart, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	switch locked, err := a.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("sqlite: %w", err)
	case !locked:
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	}
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, a.lock.Close())
		if missing != nil && !a.wasHere() { // what stands here is no archive, nor becomes one
			err = errors.Join(err, os.Remove(path+lockPart))
		}
	}()
	if err := a.first(ctx); err != nil {
		return nil, err
	}
	a.room.take()
	a.start()
	return a, nil
}

// first opens the file that is there, or else makes one.
func (a *Archive) first(ctx context.Context) error {
	known := a.wasHere()
	var err error
	if size(a.path) == 0 && known {
		err = fmt.Errorf("%w: the file is gone", errDamaged)
	} else {
		err = a.open(ctx)
		if classify(err) == faultFull && a.room.release() {
			err = a.open(ctx)
		}
		if err == nil {
			return nil
		}
	}
	// What stands here may be anything, unless an archive was here before.
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case known && ruined(a.path, err):
		return a.renew(ctx, err)
	case !known && classify(err) == faultDamaged:
		return fmt.Errorf("%w: %s: %w", ErrNotArchive, a.path, err)
	}
	return fmt.Errorf("sqlite: %s: %w", a.path, err)
}

// ruined tells whether an archive can't be opened for what is in it: SQLite has
// many words for that. The system's reasons are others.
func ruined(path string, err error) bool {
	if classify(err) == faultDamaged {
		return true
	}
	var e *driver.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case codes.SQLITE_ERROR, codes.SQLITE_INTERNAL, codes.SQLITE_SCHEMA, codes.SQLITE_TOOBIG,
		codes.SQLITE_CONSTRAINT, codes.SQLITE_MISMATCH, codes.SQLITE_FORMAT:
		return true
	case codes.SQLITE_READONLY: // says the file, or the system
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		return err == nil && f.Close() == nil
	}
	return false
}

// open opens the file, and makes it if there is none.
func (a *Archive) open(ctx context.Context) error {
	d, err := a.opened(ctx)
	if err == nil {
		a.serve(d)
	}
	return err
}

func (a *Archive) serve(d *database) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.db = d
}

func (a *Archive) opened(ctx context.Context) (_ *database, err error) {
	logged := size(a.path+"-wal") > 0
	fresh := size(a.path) == 0
	if !fresh && size(a.path) < smallestFile { // which SQLite would take for an empty one
		return nil, fmt.Errorf("%w: the file has %d bytes", errDamaged, size(a.path))
	}
	if fresh { // SQLite would let everybody read it
		f, err := os.OpenFile(a.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	d, err := connect(a.path, a.cfg.Readers, a.cfg.options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			// The log of a damaged file stays with it.
			err = errors.Join(err, d.close())
		}
	}()
	if fresh {
		err = a.create(ctx, d)
	} else {
		err = a.recognise(ctx, d)
	}
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, d.write, true); err != nil {
		return nil, err
	}
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	if err := a.load(ctx, d); err != nil {
		return nil, err
	}
	clean, _, err := loadState(ctx, d.writes[readState], stateClean)
	if err != nil {
		return nil, err
	}
	if fresh {
		if err := note(ctx, d, stateLooked, a.cfg.Now().UnixNano()); err != nil {
			return nil, err
		}
	} else {
		looked, _, err := loadState(ctx, d.writes[readState], stateLooked)
		if err != nil {
			return nil, err
		}
		more, err := examine(ctx, d)
		if err != nil {
			return nil, err
		}
		a.toLook = more && (clean == 0 || a.cfg.Now().Sub(time.Unix(0, looked)) > lookEvery)
		if clean == 0 && !logged {
			if err := a.lostLog(ctx, d); err != nil {
				return nil, err
			}
		}
	}
	if err := a.enterState(ctx, d); err != nil {
		return nil, err
	}
	return d, nil
}

// create makes an empty archive.
func (a *Archive) create(ctx context.Context, d *database) error {
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return err
	}
	for _, pragma := range []string{
		fmt.Sprintf("PRAGMA page_size = %d", pageSize),
		"PRAGMA auto_vacuum = INCREMENTAL",
		"PRAGMA journal_mode = WAL",
	} {
		if _, err = conn.ExecContext(ctx, pragma); err != nil {
			break
		}
	}
	return errors.Join(err, conn.Close())
}

// recognise makes sure that the file is an archive, before anything is written.
func (a *Archive) recognise(ctx context.Context, d *database) error {
	var id, tables, own int
	if err := d.write.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return err
	}
	err := d.write.QueryRowContext(ctx, `SELECT count(*), count(CASE WHEN name LIKE 'shoal@_%' ESCAPE '@' THEN 1 END)
		FROM sqlite_master`).Scan(&tables, &own)
	if err != nil {
		return err
	}
	switch {
	case id == applicationID && own > 0:
	case id == 0 && tables == 0: // the end came before the first table
		if a.wasHere() {
			return fmt.Errorf("%w: the file is empty", errDamaged)
		}
		return a.create(ctx, d)
	default:
		return fmt.Errorf("%w: application id %#x, %d tables, %d of them of an archive", errDamaged, id, tables, own)
	}
	var mode string
	if err := d.write.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("sqlite: the file can't have a log: its journal mode is %s", mode)
	}
	return nil
}

// enterState notes in the file itself that it is open, when there is a log, so that
// without one the file was either closed or robbed of it.
func (a *Archive) enterState(ctx context.Context, d *database) error {
	if err := note(ctx, d, stateClean, 0); err != nil {
		return err
	}
	if err := takeAll(ctx, d, "RESTART"); err != nil {
		return err
	}
	if want, err := pagesSize(ctx, d); err != nil {
		return err
	} else if have := size(a.path); have != want {
		return fmt.Errorf("%w: the file has %d bytes and should have %d", errDamaged, have, want)
	}
	a.marks.saved(a.marks.all())
	if err := a.remember(); err != nil {
		return err
	}
	return a.beginLog(ctx, d)
}

func note(ctx context.Context, d *database, name string, number int64) error {
	return d.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, writeState, name, number, "")
		return err
	})
}

// leave closes what Close has left.
func (a *Archive) leave(d *database) error {
	if a.path == "" {
		return d.close()
	}
	var err error
	if d != nil {
		err = a.leaveState(d)
		if classify(err) == faultFull && a.room.release() {
			err = a.leaveState(d)
		}
		err = errors.Join(err, d.close())
	}
	return errors.Join(err, a.lock.Close())
}

// leaveState notes that nothing depends on the log any more.
func (a *Archive) leaveState(d *database) error {
	ctx := context.Background()
	err := note(ctx, d, stateClean, 1)
	if err == nil {
		err = truncateLog(ctx, d)
	}
	return err
}

// pagesSize is how large the file should be.
func pagesSize(ctx context.Context, d *database) (int64, error) {
	var pages, each int64
	err := errors.Join(
		d.write.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages),
		d.write.QueryRowContext(ctx, `PRAGMA page_size`).Scan(&each))
	return pages * each, err
}

// wasHere tells whether there has been an archive.
func (a *Archive) wasHere() bool { return size(a.path+lockPart) > 0 }

// remember has wasHere return true from now on.
func (a *Archive) remember() error {
	if a.wasHere() {
		return nil
	}
	f, err := os.OpenFile(a.path+lockPart, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	// Where locks are binding, that of the first byte is.
	_, err = f.WriteAt([]byte(madeHere), 1)
	return errors.Join(err, f.Sync(), f.Close())
}

// size is that of a file, 0 if there is none.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
