package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/sharding"
)

const (
	selectMark = `SELECT mark FROM shoal_shards WHERE shard = $1`
	upsertMark = `INSERT INTO shoal_shards (shard, mark) VALUES ($1, $2)
		ON CONFLICT (shard) DO UPDATE SET mark = excluded.mark WHERE shoal_shards.mark < excluded.mark`
	// markFor bounds the work on a mark.
	markFor = 10 * time.Second
)

// Mark implements [store.Archive].
func (a *Archive) Mark(ctx context.Context, s sharding.Shard) (time.Time, error) {
	var ns int64
	err := a.call(ctx, markFor, func(ctx context.Context) error {
		err := a.writes.QueryRow(ctx, selectMark, shardKey(s)).Scan(&ns)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil || ns == 0 {
		return time.Time{}, err
	}
	return time.Unix(0, ns), nil
}

// SetMark implements [store.Archive].
func (a *Archive) SetMark(ctx context.Context, s sharding.Shard, t time.Time) error {
	return a.call(ctx, markFor, func(ctx context.Context) error {
		if !t.After(time.Unix(0, 0)) {
			return nil
		}
		_, err := a.writes.Exec(ctx, upsertMark, shardKey(s), t.UnixNano())
		return err
	})
}

// call runs a call of the archive that may be repeated.
func (a *Archive) call(ctx context.Context, bound time.Duration, f func(context.Context) error) error {
	inner, leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	err = a.again(inner, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, bound)
		defer cancel()
		return f(ctx)
	})
	if err != nil {
		return a.failed(ctx, err)
	}
	return nil
}
