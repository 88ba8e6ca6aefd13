package postgres

import (
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

const (
	// deleteAtOnce is how many messages one statement deletes.
	deleteAtOnce = 2000
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
)

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
