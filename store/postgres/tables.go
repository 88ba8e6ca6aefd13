package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// tables is what this node remembers of the database: the grid, and which
// partitions and shards it has. Others drop partitions, so it is no more than
// memory.
type tables struct {
	mu         sync.Mutex
	grid       grid
	partitions map[string]bool
	shards     map[int32]bool
}

// learn reads the grid and forgets the rest.
func (t *tables) learn(ctx context.Context, q queryer) error {
	var g grid
	if err := q.QueryRow(ctx, `SELECT width, origin FROM shoal_schema`).Scan(&g.width, &g.origin); err != nil {
		return err
	}
	if g.width <= 0 {
		return fmt.Errorf("shoal_schema has a width of %d", g.width)
	}
	t.mu.Lock()
	t.grid = g
	t.mu.Unlock()
	t.forget()
	return nil
}

func (t *tables) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions, t.shards = make(map[string]bool), make(map[int32]bool)
}

func (t *tables) current() grid {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.grid
}

// unknown are the partitions and shards that rows need and this node doesn't know
// to be there.
func (t *tables) unknown(rows []row) (partitions []partition, shards []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var span [2]partition // most rows have the partitions of the row before
	shard := int64(math.MinInt64)
	for _, r := range rows {
		if !span[0].contains(r.ts) {
			span = [2]partition{t.grid.holding(messagesTable, r.ts), t.grid.holding(timesTable, r.ts)}
			for _, p := range span {
				if !t.partitions[p.name] && !slices.Contains(partitions, p) {
					partitions = append(partitions, p)
				}
			}
		}
		if shard != int64(r.shard) {
			shard = int64(r.shard)
			if !t.shards[r.shard] && !slices.Contains(shards, r.shard) {
				shards = append(shards, r.shard)
			}
		}
	}
	return partitions, shards
}

// without are those of a list that this node doesn't know to be there.
func (t *tables) without(list []partition) []partition {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(list, func(p partition) bool { return t.partitions[p.name] })
}

func (t *tables) know(partitions []partition, shards []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range partitions {
		t.partitions[p.name] = true
	}
	for _, s := range shards {
		t.shards[s] = true
	}
}

// execer is what pools and transactions have in common.
type execer interface {
	queryer
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// partitions lists a parent's partitions, the oldest first.
func partitions(ctx context.Context, q execer, g grid, parent string) ([]partition, error) {
	rows, err := q.Query(ctx, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = to_regclass($1)`, parent)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var list []partition
	for _, name := range names {
		if p, ok := g.parse(parent, name); ok {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b partition) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	return list, nil
}

// atOnce is how many partitions one transaction makes: each needs some locks, of
// which a server has a number.
const atOnce = 32

// ensure makes those of a list of partitions that aren't there.
func (a *Archive) ensure(ctx context.Context, list []partition) error {
	g := a.tables.current()
	for some := range slices.Chunk(list, atOnce) {
		err := a.inTables(ctx, func(tx pgx.Tx) error { return create(ctx, tx, g, some) })
		if err != nil {
			return err
		}
		a.tables.know(some, nil)
	}
	return nil
}

// tableTries is how often a change of tables is tried that loses to others.
const tableTries = 5

// inTables runs a change of tables, one node at a time.
func (a *Archive) inTables(ctx context.Context, change func(pgx.Tx) error) (err error) {
	for range tableTries {
		err = pgx.BeginFunc(ctx, a.writes, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '900ms'`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, lockTables); err != nil {
				return err
			}
			return change(tx)
		})
		if !contended(err) {
			break
		}
	}
	return err
}

// create makes partitions, as far as they aren't there. Making a table and
// attaching it locks the parent against other changes, not against readers and
// writers.
func create(ctx context.Context, tx pgx.Tx, g grid, list []partition) error {
	var there []partition
	for _, parent := range []string{messagesTable, timesTable} {
		some, err := partitions(ctx, tx, g, parent)
		if err != nil {
			return err
		}
		there = append(there, some...)
	}
	var sql strings.Builder
	for _, p := range list {
		if slices.Contains(there, p) {
			continue
		}
		options := ""
		if p.parent == messagesTable {
			// Three messages of 2 KiB to a page, and none outside.
			options = " WITH (toast_tuple_target = 8160)"
		}
		from := "MINVALUE"
		if p.start != math.MinInt64 {
			from = strconv.FormatInt(p.start, 10)
		}
		fmt.Fprintf(&sql, "CREATE TABLE %s (LIKE %s INCLUDING ALL)%s;\n", p.name, p.parent, options)
		fmt.Fprintf(&sql, "ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%d);\n", p.parent, p.name, from, p.end)
	}
	if sql.Len() == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, sql.String())
	return err
}
