package sqlite

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// smallFile is the size up to which all of a file is examined before use, as
	// far as the time suffices.
	smallFile = 32 << 20
	checkTime = 2 * time.Second
)

// examine looks for damage before anything is served. After an end in disorder,
// and for the larger files, there is more to come.
func (a *Archive) examine(ctx context.Context, d *database, disorder bool) error {
	if size(a.path)+size(a.path+"-wal") > smallFile {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	err := integrity(limited, d)
	if limited.Err() != nil {
		return ctx.Err()
	}
	return err
}

// integrity has SQLite compare tables, indexes and free pages.
func integrity(ctx context.Context, d *database) error {
	rows, err := d.read.QueryContext(ctx, `PRAGMA integrity_check(3)`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err has told
	var found []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if text != "ok" {
			found = append(found, text)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %s", errDamaged, strings.Join(found, "; "))
	}
	return nil
}
