package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/store"
)

const (
	// Counting takes as long as it takes.
	noTimeout = `SET LOCAL statement_timeout = 0`

	countAll = `SELECT shard, count(*), sum(size)::int8, min(ts), max(ts) FROM shoal_messages GROUP BY shard`
	diskSize = `SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::int8
		FROM (SELECT relid FROM pg_partition_tree('shoal_messages') UNION SELECT relid FROM pg_partition_tree('shoal_times')) AS t`

	// statsFor bounds the counting, which a caller does as well.
	statsFor = 10 * time.Minute
)

// Stats implements [store.Archive]. It counts what is in the database.
func (a *Archive) Stats(ctx context.Context) (s store.Stats, err error) {
	err = a.call(ctx, statsFor, func(ctx context.Context) error {
		if err := a.counting.take(ctx); err != nil {
			return err
		}
		defer a.counting.give()
		return pgx.BeginFunc(ctx, a.writes, func(tx pgx.Tx) error {
			s, err = a.count(ctx, tx)
			return err
		})
	})
	if err != nil {
		return store.Stats{}, err
	}
	s.DiskBytes += a.spool.Stats().DiskBytes
	return s, nil
}

func (a *Archive) count(ctx context.Context, tx pgx.Tx) (s store.Stats, err error) {
	if _, err := tx.Exec(ctx, noTimeout); err != nil {
		return s, err
	}
	rows, err := tx.Query(ctx, countAll)
	if err != nil {
		return s, err
	}
	s.Shards, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.ShardStats, error) {
		var (
			x              store.ShardStats
			shard          int32
			oldest, newest int64
		)
		err := row.Scan(&shard, &x.Messages, &x.Bytes, &oldest, &newest)
		x.Shard, x.Oldest, x.Newest = shardOf(shard), time.Unix(0, oldest), time.Unix(0, newest)
		return x, err
	})
	if err != nil {
		return s, err
	}
	slices.SortFunc(s.Shards, func(a, b store.ShardStats) int {
		return cmp.Or(cmp.Compare(a.Shard.Cluster, b.Shard.Cluster), cmp.Compare(a.Shard.Index, b.Shard.Index))
	})
	for _, x := range s.Shards {
		s.Messages += x.Messages
		s.Bytes += x.Bytes
	}
	return s, tx.QueryRow(ctx, diskSize).Scan(&s.DiskBytes)
}
