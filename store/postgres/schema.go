package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// migrations lead from nothing to the tables of today, one version each. What has
// been released is never changed.
var migrations = []string{schema1}

//go:embed schema.sql
var schema1 string

// The settings of connections. A plan is made once: what it costs to make one for
// many partitions exceeds what it costs to run. Which partitions matter is found
// when it runs.
const (
	probeSettings = `SET jit = off; SET lock_timeout = '10s'`

	// Plans that read whole partitions, or lose their order, are ruled out.
	planByIndex = `SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;`

	writeSettings = `SET jit = off; SET plan_cache_mode = force_generic_plan; SET synchronous_commit = on;
		SET statement_timeout = '20s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '20s'; ` + planByIndex
)

func readSettings(c Config) string {
	return fmt.Sprintf(`SET jit = off; SET plan_cache_mode = force_generic_plan; SET statement_timeout = %d;
		SET default_transaction_read_only = on; `+planByIndex, max(1, c.StatementTimeout.Milliseconds()))
}

// The locks by which nodes agree belong to a transaction and a schema.
const (
	lockTables = `SELECT pg_advisory_xact_lock(hashtextextended('shoal tables ' || current_schema(), 0))`
	lockPrune  = `SELECT pg_advisory_xact_lock(hashtextextended('shoal prune ' || current_schema(), 0))`
	tryPrune   = `SELECT pg_try_advisory_xact_lock(hashtextextended('shoal prune ' || current_schema(), 0))`
)

// prepare makes or migrates the tables of a server just reached, or finds them in
// order.
func (a *Archive) prepare(ctx context.Context, conn *pgx.Conn) error {
	version, err := schemaVersion(ctx, conn)
	if err != nil {
		return err
	}
	if version < len(migrations) {
		if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return a.migrate(ctx, tx) }); err != nil {
			return fmt.Errorf("making tables: %w", err)
		}
	} else if version > len(migrations) {
		return &NewerSchemaError{Version: version, Known: len(migrations)}
	}
	return a.tables.learn(ctx, conn)
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// haveTables reads the catalog as any table is read: what looks names up in it may
// not have heard yet of what another node made while we waited for the lock.
const haveTables = `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
	ON n.oid = c.relnamespace WHERE c.relname = 'shoal_schema' AND n.nspname = current_schema())`

// schemaVersion is 0 where there are no tables.
func schemaVersion(ctx context.Context, q queryer) (version int, err error) {
	var there bool
	err = q.QueryRow(ctx, haveTables).Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	err = q.QueryRow(ctx, `SELECT version FROM shoal_schema`).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, errors.New("the table shoal_schema is empty")
	}
	return version, err
}

// migrate runs in one transaction, so that a node that dies leaves all or nothing,
// and under a lock, so that the others wait and then find it done.
func (a *Archive) migrate(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, lockTables); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, tx)
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return &NewerSchemaError{Version: version, Known: len(migrations)}
	}
	if version == len(migrations) {
		return nil
	}
	for _, m := range migrations[version:] {
		if _, err := tx.Exec(ctx, m); err != nil {
			return err
		}
	}
	if version > 0 {
		_, err := tx.Exec(ctx, `UPDATE shoal_schema SET version = $1`, len(migrations))
		return err
	}
	g := newGrid(a.cfg.Partition, a.cfg.Now())
	_, err = tx.Exec(ctx, `INSERT INTO shoal_schema (version, width, origin) VALUES ($1, $2, $3)`,
		len(migrations), g.width, g.origin)
	if err != nil {
		return err
	}
	return create(ctx, tx, g, g.first(a.cfg.Now()))
}
