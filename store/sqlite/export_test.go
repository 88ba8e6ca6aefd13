package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// LimitPages bounds the size of an archive's database, as a disk would. 0: by what
// it has already.
func LimitPages(a *Archive, pages int64) error {
	return a.do(context.Background(), &job{solo: func(d *database) error {
		_, err := d.write.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
		return err
	}})
}

// With gives the connections of an archive more options.
func With(c Config, options ...string) Config {
	c.options = options
	return c
}

// Pages is the number of pages of an archive's database.
func Pages(a *Archive) (pages int64, err error) {
	err = a.do(context.Background(), &job{solo: func(d *database) error {
		return d.write.QueryRow(`PRAGMA page_count`).Scan(&pages)
	}})
	return pages, err
}

// Checkpoint has an archive's file take over its log, and returns how long that is.
func Checkpoint(a *Archive) (size int64, err error) { return a.checkpoint(context.Background()) }

// Restart has the log begin anew.
func Restart(a *Archive, size int64) { a.restart(size) }

// LogMost is the size of the log at which readers have to wait.
const LogMost = logMost

// Hold reads from an archive, until the function returned is called.
func Hold(a *Archive) (release func() error, err error) {
	tx, err := a.current().read.Begin()
	if err != nil {
		return nil, err
	}
	var n int
	if err := tx.QueryRow(`SELECT count(*) FROM shoal_messages`).Scan(&n); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx.Rollback, nil
}

// Check examines all of an archive's database, with its counts and seals.
func Check(ctx context.Context, a *Archive) error {
	d, leave, err := a.use(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return thorough(ctx, d)
}

// Fault is what an error of the database means.
func Fault(err error) string {
	return map[fault]string{faultFull: "full", faultDamaged: "damaged", faultBusy: "busy", faultOther: "other"}[classify(err)]
}

// Spoil changes a byte of a message behind an archive's back.
func Spoil(a *Archive, id int64) error {
	return a.do(context.Background(), &job{solo: func(d *database) error {
		var data []byte
		if err := d.write.QueryRow(`SELECT message FROM shoal_messages WHERE id = ?`, id).Scan(&data); err != nil {
			return err
		}
		data[100] ^= 4
		_, err := d.write.Exec(`UPDATE shoal_messages SET message = ? WHERE id = ?`, data, id)
		return err
	}})
}

// Plans are the query plans of what questions are answered with.
func Plans(ctx context.Context, a *Archive) (map[string]string, error) {
	d, leave, err := a.use(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	plans := map[string]string{}
	for _, text := range readStatements {
		args := make([]any, strings.Count(text, "?"))
		rows, err := d.read.QueryContext(ctx, "EXPLAIN QUERY PLAN "+text, args...)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			plans[text] += detail + "; "
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return plans, nil
}
