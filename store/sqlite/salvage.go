package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/status-im/shoal/store"
)

const (
	salvagedRows = `SELECT ` + columns + ` FROM shoal_messages WHERE id > ? ORDER BY id LIMIT 100`
	lastRow      = `SELECT max(id) FROM shoal_messages`
)

// salvage copies what can be read and verified from a file that was set aside. It
// leaves most of the time to others, and reads the file without writing to it.
func (a *Archive) salvage(aside string) {
	if !exists(aside) {
		return
	}
	db, err := pool(aside, 1, nil, "mode=ro", "_pragma=query_only(1)", busyTimeout(busyTime))
	if err != nil {
		a.cfg.Logger.Warn("reading what was set aside", "file", aside, "err", err)
		return
	}
	s := &salvage{archive: a, from: db}
	err = errors.Join(s.run(a.ctx), db.Close())
	a.cfg.Logger.Info("read what was set aside", "file", aside, "messages", s.saved, "unreadable", s.bad, "err", err)
}

type salvage struct {
	archive    *Archive
	from       *sql.DB
	saved, bad int
}

func (s *salvage) run(ctx context.Context) error {
	last := int64(1) << 40 // if nobody can tell
	var n sql.NullInt64
	if err := s.from.QueryRowContext(ctx, lastRow).Scan(&n); err == nil {
		last = n.Int64
	}
	step := int64(1)
	for at := int64(0); at < last; {
		began := time.Now()
		next, entries, err := s.read(ctx, at)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case next > at:
			at, step = next, 1
		case err == nil:
			return nil // nothing follows
		default: // jump over what can't be read
			s.bad++
			at += step
			step *= 2
		}
		if err := s.keep(ctx, entries); err != nil {
			return err
		}
		select {
		case <-time.After(2 * time.Since(began)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// read returns what is good among the rows behind one, and the last it could read.
func (s *salvage) read(ctx context.Context, at int64) (last int64, entries []store.Entry, err error) {
	last = at
	rows, err := s.from.QueryContext(ctx, salvagedRows, at)
	if err != nil {
		return last, nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err has told
	scan := newScanner(true, false)
	for rows.Next() {
		r, err := scan.scan(rows)
		if r.id <= last {
			return last, entries, err // the order is lost
		}
		last = r.id
		e, wrong := r.entry()
		if err = errors.Join(err, wrong); err != nil {
			s.bad++
			continue
		}
		entries = append(entries, e)
	}
	return last, entries, rows.Err()
}

// keep puts what the policy still allows.
func (s *salvage) keep(ctx context.Context, entries []store.Entry) error {
	cfg := s.archive.cfg
	var rows []filed
	for _, e := range entries {
		if cfg.Policy.CheckEntries([]store.Entry{e}, cfg.Now()) == nil {
			rows = append(rows, file(e))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := s.archive.do(ctx, &job{rows: rows}); err != nil {
		return err
	}
	s.saved += len(rows)
	return nil
}
