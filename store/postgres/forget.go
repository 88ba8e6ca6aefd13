package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const touch = `INSERT INTO shoal_emptied (name, since) VALUES ($1, $2) ON CONFLICT DO NOTHING`

// forgetTimes drops partitions of the map from hashes to times whose messages have
// been gone for long enough.
func (r *round) forgetTimes(ctx context.Context) error {
	list, err := partitions(ctx, r.a.writes, r.grid, timesTable)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.end > r.now.UnixNano() {
			break
		}
		if err := r.forgetTime(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (r *round) forgetTime(ctx context.Context, p partition) error {
	if err := r.hold(ctx); err != nil {
		return err
	}
	yes, err := empty(ctx, r.a.writes, p)
	if err != nil {
		return err
	}
	if !yes {
		_, err := r.a.writes.Exec(ctx, `DELETE FROM shoal_emptied WHERE name = $1`, p.name)
		return err
	}
	var since int64
	if _, err := r.a.writes.Exec(ctx, touch, p.name, r.now.UnixNano()); err != nil {
		return err
	}
	if err := r.a.writes.QueryRow(ctx, `SELECT since FROM shoal_emptied WHERE name = $1`, p.name).Scan(&since); err != nil {
		return err
	}
	if r.now.UnixNano()-since <= int64(remembered) {
		return nil
	}
	_, err = r.drop(ctx, p, func(tx pgx.Tx) (bool, error) {
		// Nobody inserts from here on.
		if _, err := tx.Exec(ctx, `LOCK TABLE ONLY `+timesTable); err != nil {
			return false, err
		}
		yes, err := empty(ctx, tx, p)
		if err == nil && yes {
			_, err = tx.Exec(ctx, `DELETE FROM shoal_emptied WHERE name = $1`, p.name)
		}
		return yes, err
	})
	return err
}
