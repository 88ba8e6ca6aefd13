package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/status-im/shoal/store"
)

var (
	// ErrLocked is the error of Open while another archive has the file.
	ErrLocked = errors.New("sqlite: the archive is in use")
	// ErrNotArchive is the error of Open for a file that is something else. It is
	// left as it is.
	ErrNotArchive = errors.New("sqlite: not an archive")

	errLogUsed = errors.New("sqlite: the log is in use")

	// errDamaged is what an archive holds that nobody wrote.
	errDamaged = errors.New("damaged")
	errCounts  = fmt.Errorf("%w: the counts of an hour", errDamaged)
	errTopic   = fmt.Errorf("%w: a content topic is not as it was filed", errDamaged)
	errIndex   = fmt.Errorf("%w: an index and its table differ", errDamaged)
)

// fault is what an error of the database means to an archive.
type fault uint8

const (
	faultOther   fault = iota
	faultFull          // no room
	faultDamaged       // what was read is not what was written
	faultBusy          // somebody else has the lock
)

// classify reads an error of our driver by its code, and that of another one by
// its text: SQLite's own, which drivers repeat.
func classify(err error) fault {
	var e *driver.Error
	var full *store.FullError
	switch {
	case err == nil:
		return faultOther
	case errors.As(err, &full):
		return faultFull
	case errors.Is(err, errDamaged):
		return faultDamaged
	case errors.As(err, &e):
		return classifyCode(e.Code())
	}
	text := strings.ToLower(err.Error())
	for _, known := range texts {
		if strings.Contains(text, known.text) {
			return known.fault
		}
	}
	return faultOther
}

func classifyCode(code int) fault {
	switch code {
	case codes.SQLITE_IOERR_SHMSIZE: // the index of the log can't grow
		return faultFull
	case codes.SQLITE_IOERR_READ, codes.SQLITE_IOERR_SHORT_READ, codes.SQLITE_IOERR_CORRUPTFS, codes.SQLITE_IOERR_DATA:
		return faultDamaged
	}
	switch code & 0xff {
	case codes.SQLITE_FULL:
		return faultFull
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return faultDamaged
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return faultBusy
	}
	return faultOther
}

var texts = []struct {
	text  string
	fault fault
}{
	{"database or disk is full", faultFull},
	{"no space left", faultFull},
	{"disk image is malformed", faultDamaged},
	{"malformed database schema", faultDamaged},
	{"is not a database", faultDamaged},
	{"database is locked", faultBusy},
	{"table is locked", faultBusy},
}

// outcome makes what a caller may see of an error. ctx is the caller's.
func (a *Archive) outcome(ctx context.Context, err error) error {
	var (
		entry *store.EntryError
		full  *store.FullError
		query *store.QueryError
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, net.ErrClosed), errors.Is(err, store.ErrUnknownCursor), errors.Is(err, store.ErrUnavailable),
		errors.As(err, &entry), errors.As(err, &full), errors.As(err, &query):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case a.isClosed(): // and what was going on was cut off
		return errClosed
	case classify(err) == faultFull:
		return &store.FullError{Err: err}
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}
