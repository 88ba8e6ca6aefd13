package postgres

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

const (
	// deleteAtOnce is how many messages one statement deletes.
	deleteAtOnce = 2000
	// dropTries is how often a partition is tried that somebody reads. None waits
	// for the lock, and has others wait behind it, longer than dropLock.
	dropTries = 40
	dropLock  = `SET LOCAL lock_timeout = '250ms'`

	// deleteOldest deletes the oldest messages of some shards: those before $2,
	// the oldest $3 of them, and as many more as make up $4 bytes.
	deleteOldest = `
WITH oldest AS MATERIALIZED (
	SELECT m.shard, m.ts, m.hash, m.size FROM unnest($1::int4[]) AS s CROSS JOIN LATERAL (
		SELECT shard, ts, hash, size FROM shoal_messages
		WHERE shard = s AND ts < $2::int8 ORDER BY ts, hash LIMIT $5::int4) AS m
	ORDER BY m.ts, m.hash LIMIT $5::int4),
ranked AS MATERIALIZED (
	SELECT *, row_number() OVER w AS n, sum(size) OVER w - size AS before FROM oldest
	WINDOW w AS (ORDER BY ts, hash ROWS UNBOUNDED PRECEDING)),
gone AS (
	DELETE FROM shoal_messages m USING ranked r
	WHERE m.shard = r.shard AND m.ts = r.ts AND m.hash = r.hash AND m.ts < $2::int8
		AND (r.n <= $3::int8 OR r.before < $4::int8)
	RETURNING m.size)
SELECT count(*), coalesce(sum(size), 0)::int8 FROM gone`

	touch = `INSERT INTO shoal_emptied (name, since) VALUES ($1, $2) ON CONFLICT DO NOTHING`
)

// round is one application of the policy.
type round struct {
	a      *Archive
	now    time.Time
	grid   grid
	lease  pgx.Tx // holds the lock by which nodes take turns
	pruned store.Pruned
}

func (r *round) run(ctx context.Context) error {
	list, err := partitions(ctx, r.a.writes, r.grid, messagesTable)
	if err != nil {
		return err
	}
	ages := ageFloors(r.a.cfg.Policy, r.now)
	for _, p := range expired(list, ages, r.now) {
		if err := r.dropCounted(ctx, p); err != nil {
			return err
		}
	}
	shards, err := r.shards(ctx, r.a.writes)
	if err != nil {
		return err
	}
	for _, s := range shards {
		if at := ages.of(s); at != math.MinInt64 {
			if err := r.deleteBefore(ctx, []int32{s}, at); err != nil {
				return err
			}
		}
	}
	if bounded(r.a.cfg.Policy) {
		if err := r.cut(ctx, shards); err != nil {
			return err
		}
	}
	if err := r.dropEmpty(ctx); err != nil {
		return err
	}
	return r.forgetTimes(ctx)
}

// hold makes sure of the lease.
func (r *round) hold(ctx context.Context) error {
	_, err := r.lease.Exec(ctx, "SELECT 1")
	return err
}

func (r *round) shards(ctx context.Context, q execer) ([]int32, error) {
	rows, err := q.Query(ctx, `SELECT shard FROM shoal_shards ORDER BY shard`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int32])
}

// bounded tells whether a policy bounds number or size.
func bounded(p store.Policy) bool {
	has := func(r store.Retention) bool { return r.MaxMessages > 0 || r.MaxBytes > 0 }
	for _, r := range p.Shards {
		if has(r) {
			return true
		}
	}
	return has(p.Default) || has(p.Total)
}

// cut applies the bounds on number and size: those of the shards, and then, as
// their cuts must have been made, that of all together.
func (r *round) cut(ctx context.Context, shards []int32) error {
	list, kept, err := r.usages(ctx)
	if err != nil {
		return err
	}
	cuts, _ := r.a.cfg.Policy.Cuts(kept)
	if err := r.dropCut(ctx, list, kept, shards, cuts, store.Cut{}); err != nil {
		return err
	}
	for s, c := range cuts {
		if err := r.delete(ctx, []int32{shardKey(s)}, c); err != nil {
			return err
		}
	}
	if total := r.a.cfg.Policy.Total; total.MaxMessages <= 0 && total.MaxBytes <= 0 {
		return nil
	}
	if len(cuts) > 0 {
		if list, kept, err = r.usages(ctx); err != nil {
			return err
		}
	}
	_, total := r.a.cfg.Policy.Cuts(kept)
	if err := r.dropCut(ctx, list, kept, shards, nil, total); err != nil {
		return err
	}
	return r.delete(ctx, shards, total)
}

// usages counts what is in all partitions.
func (r *round) usages(ctx context.Context) (list []partition, kept []store.Bucket, err error) {
	list, err = partitions(ctx, r.a.writes, r.grid, messagesTable)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range list {
		buckets, err := r.usage(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		kept = append(kept, buckets...)
	}
	return list, kept, nil
}

// dropCut drops whole partitions of which the cuts leave nothing. A node may just
// have begun to insert a shard that wasn't there when the cuts were made: then
// nothing is dropped.
func (r *round) dropCut(ctx context.Context, list []partition, kept []store.Bucket, shards []int32,
	cuts map[sharding.Shard]store.Cut, total store.Cut) error {
	if len(shards) == 0 {
		return nil
	}
	f := floors{shards: make(map[int32]int64), others: math.MaxInt64}
	for _, s := range shards {
		f.shards[s] = total.Before
		if c := cuts[shardOf(s)]; c.Before > total.Before {
			f.shards[s] = c.Before
		}
	}
	for _, p := range expired(list, f, r.now) {
		dropped, err := r.drop(ctx, p, func(tx pgx.Tx) (bool, error) {
			if _, err := tx.Exec(ctx, `LOCK TABLE ONLY `+messagesTable); err != nil {
				return false, err
			}
			now, err := r.shards(ctx, tx)
			return slices.Equal(now, shards), err
		})
		if err != nil {
			return err
		}
		for _, b := range kept {
			if dropped && b.Start == p.start {
				r.pruned.Messages += b.Messages
				r.pruned.Bytes += b.Bytes
			}
		}
	}
	return nil
}

// usage counts what a partition holds.
func (r *round) usage(ctx context.Context, p partition) (list []store.Bucket, err error) {
	if err := r.hold(ctx); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, r.a.writes, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, noTimeout); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT shard, count(*), sum(size)::int8 FROM shoal_messages
			WHERE ts >= $1 AND ts < $2 GROUP BY shard`, p.start, p.end)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Bucket, error) {
			b := store.Bucket{Start: p.start, End: p.end}
			var shard int32
			err := row.Scan(&shard, &b.Messages, &b.Bytes)
			b.Shard = shardOf(shard)
			return b, err
		})
		return err
	})
	return list, err
}

// delete makes one cut.
func (r *round) delete(ctx context.Context, shards []int32, c store.Cut) error {
	if c == (store.Cut{}) || len(shards) == 0 {
		return nil
	}
	if c.Before != 0 {
		if err := r.deleteBefore(ctx, shards, c.Before); err != nil {
			return err
		}
	}
	for c.Messages > 0 || c.Bytes > 0 {
		n, bytes, err := r.deleteSome(ctx, shards, math.MaxInt64, c.Messages, c.Bytes)
		if err != nil || n == 0 {
			return err
		}
		c.Messages, c.Bytes = c.Messages-n, c.Bytes-bytes
	}
	return nil
}

// deleteBefore deletes all before a time.
func (r *round) deleteBefore(ctx context.Context, shards []int32, before int64) error {
	for {
		n, _, err := r.deleteSome(ctx, shards, before, math.MaxInt64, 0)
		if err != nil || n == 0 {
			return err
		}
	}
}

func (r *round) deleteSome(ctx context.Context, shards []int32, before, messages, bytes int64) (n, size int64, err error) {
	if err := r.hold(ctx); err != nil {
		return 0, 0, err
	}
	err = r.a.writes.QueryRow(ctx, deleteOldest, shards, before, max(0, messages), max(0, bytes), deleteAtOnce).Scan(&n, &size)
	r.pruned.Messages += n
	r.pruned.Bytes += size
	return n, size, err
}

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
		case <-time.After(50*time.Millisecond + rand.N(100*time.Millisecond)):
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
