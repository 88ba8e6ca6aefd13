package postgres

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/store"
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
