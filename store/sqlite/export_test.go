package sqlite

import (
	"context"
	"fmt"
	"time"
)

// LimitPages bounds the size of an archive's database, as a disk would. 0: by what
// it has already.
func LimitPages(a *Archive, pages int64) error {
	return a.do(context.Background(), &job{solo: func(d *database) error {
		_, err := d.write.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
		return err
	}})
}

// Pages is the number of pages of an archive's database.
func Pages(a *Archive) (pages int64, err error) {
	err = a.do(context.Background(), &job{solo: func(d *database) error {
		return d.write.QueryRow(`PRAGMA page_count`).Scan(&pages)
	}})
	return pages, err
}

// Checkpoint has an archive's file take over its log.
func Checkpoint(a *Archive) error {
	return a.do(context.Background(), &job{solo: func(*database) error {
		a.due = time.Time{}
		a.checkpoint()
		return nil
	}})
}

// Check examines all of an archive's database, with its counts and seals.
func Check(ctx context.Context, a *Archive) error {
	d, err := a.use()
	if err != nil {
		return err
	}
	defer d.users.Done()
	return thorough(ctx, d)
}
