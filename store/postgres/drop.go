package postgres

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// dropTries is how often a partition is tried that somebody reads, after ever
	// longer pauses. None waits for the lock, and has others wait behind it, longer
	// than dropLock.
	dropTries = 10
	dropPause = 50 * time.Millisecond
	dropLock  = `SET LOCAL lock_timeout = '200ms'`
)

// dropCounted drops a partition of messages and counts what was in it.
func (r *round) dropCounted(ctx context.Context, p partition) error {
	kept, err := r.usage(ctx, p)
	if err != nil {
		return err
	}
	dropped, err := r.drop(ctx, p, nil)
	for _, b := range kept {
		if dropped {
			r.pruned.Messages += b.Messages
			r.pruned.Bytes += b.Bytes
		}
	}
	return err
}

// drop drops a partition if really, asked with the lock held, says so too. One
// that somebody always reads is left for the next round.
func (r *round) drop(ctx context.Context, p partition, really func(pgx.Tx) (bool, error)) (dropped bool, err error) {
	pause := dropPause
	for range dropTries {
		if err := r.hold(ctx); err != nil {
			return false, err
		}
		err = pgx.BeginFunc(ctx, r.a.writes, func(tx pgx.Tx) error {
			dropped = false
			if _, err := tx.Exec(ctx, dropLock); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, lockTables); err != nil {
				return err
			}
			if really != nil {
				if yes, err := really(tx); err != nil || !yes {
					return err
				}
			}
			_, err := tx.Exec(ctx, `DROP TABLE IF EXISTS `+p.name)
			dropped = err == nil
			return err
		})
		if !contended(err) {
			return dropped && err == nil, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
			pause *= 2
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	r.a.log.Info("postgres: a partition is in use, and dropped later", "partition", p.name)
	return false, nil
}

// dropEmpty drops partitions of messages that were emptied by and by. The one of
// all that is old stays: without it, each old message would get one of its own.
func (r *round) dropEmpty(ctx context.Context) error {
	list, err := partitions(ctx, r.a.writes, r.grid, messagesTable)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.start == math.MinInt64 || p.end > r.now.UnixNano()-r.grid.width {
			continue
		}
		yes, err := empty(ctx, r.a.writes, p)
		if err != nil {
			return err
		}
		if !yes {
			continue
		}
		_, err = r.drop(ctx, p, func(tx pgx.Tx) (bool, error) {
			if _, err := tx.Exec(ctx, `LOCK TABLE ONLY `+messagesTable); err != nil {
				return false, err
			}
			return empty(ctx, tx, p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// empty tells whether there is no message in a partition's time.
func empty(ctx context.Context, q execer, p partition) (yes bool, err error) {
	err = q.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM shoal_shards s CROSS JOIN LATERAL (
		SELECT FROM shoal_messages m WHERE m.shard = s.shard AND m.ts >= $1 AND m.ts < $2 LIMIT 1) AS any_message)`,
		p.start, p.end).Scan(&yes)
	return yes, err
}
