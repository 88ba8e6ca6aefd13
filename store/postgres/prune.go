package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/store"
)

const (
	// remembered is how long the places of messages outlive them.
	remembered = day
	// pruneFor bounds one round. What it doesn't get done, the next one does.
	pruneFor = time.Hour
	// The lease of the node that prunes ends if nothing is heard of it so long.
	leaseIdle = `SET LOCAL idle_in_transaction_session_timeout = '5min'; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0`
)

// errOthersTurn says that another node sees to retention.
var errOthersTurn = errors.New("another node prunes")

// upkeep makes partitions in time and applies the policy, from time to time.
func (a *Archive) upkeep() {
	every := a.cfg.PruneEvery
	for a.ctx.Err() == nil {
		if a.link.await(a.ctx) != nil {
			return
		}
		err := a.again(a.ctx, a.makeAhead)
		if err == nil {
			_, err = a.prune(a.ctx, true)
		}
		if err != nil && !errors.Is(err, errOthersTurn) && !broken(err) && a.ctx.Err() == nil {
			a.log.Warn("postgres: upkeep", "err", err)
		}
		// Nodes started together don't all come at once.
		a.sleep(every - every/8 + rand.N(every/4+1))
	}
}

// makeAhead makes the partitions of now and soon.
func (a *Archive) makeAhead(ctx context.Context) error {
	return a.ensureUnknown(ctx, a.tables.current().soon(a.cfg.Now()))
}

// ensureUnknown is ensure for those that this node doesn't know.
func (a *Archive) ensureUnknown(ctx context.Context, list []partition) error {
	if list = a.tables.without(list); len(list) == 0 {
		return nil
	}
	return a.ensure(ctx, list)
}

// Prune implements [store.Archive]. If another node prunes, it waits for its turn.
func (a *Archive) Prune(ctx context.Context) (store.Pruned, error) {
	inner, leave, err := a.enter(ctx)
	if err != nil {
		return store.Pruned{}, err
	}
	defer leave()
	if err = a.again(inner, a.makeAhead); err != nil {
		return store.Pruned{}, a.failed(ctx, err)
	}
	p, err := a.prune(inner, false)
	if err != nil {
		return p, a.failed(ctx, err)
	}
	return p, nil
}

// prune applies the policy while it holds the lease. One that isn't asked for
// leaves it to others if they do it, or did it lately.
func (a *Archive) prune(ctx context.Context, unasked bool) (p store.Pruned, err error) {
	ctx, cancel := context.WithTimeout(ctx, pruneFor)
	defer cancel()
	if err := a.pruning.take(ctx); err != nil {
		return p, err
	}
	defer a.pruning.give()
	err = a.do(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, a.writes, func(lease pgx.Tx) error {
			if _, err := lease.Exec(ctx, leaseIdle); err != nil {
				return err
			}
			if unasked {
				if err := a.myTurn(ctx, lease); err != nil {
					return err
				}
			} else if _, err := lease.Exec(ctx, lockPrune); err != nil {
				return err
			}
			r := &round{a: a, now: a.cfg.Now(), grid: a.tables.current(), lease: lease}
			err := r.run(ctx)
			p = r.pruned
			return err
		})
	})
	return p, err
}

// myTurn takes the lease, unless it is another's or nothing is due.
func (a *Archive) myTurn(ctx context.Context, lease pgx.Tx) error {
	var mine bool
	if err := lease.QueryRow(ctx, tryPrune).Scan(&mine); err != nil {
		return err
	}
	if mine {
		// What another node wrote before it gave the lease back is seen.
		now := a.cfg.Now().UnixNano()
		tag, err := lease.Exec(ctx, `UPDATE shoal_schema SET pruned = $1 WHERE pruned <= $2 OR pruned > $1`,
			now, now-int64(a.cfg.PruneEvery)/2)
		if err != nil {
			return err
		}
		mine = tag.RowsAffected() > 0
	}
	if !mine {
		return errOthersTurn
	}
	return nil
}
