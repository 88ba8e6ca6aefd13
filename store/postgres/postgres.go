// Package postgres keeps messages in PostgreSQL (13 or later), in one database
// that several store nodes write to and read from.
//
//	archive, err := postgres.Open(ctx, "postgres://shoal@db/shoal", postgres.Config{
//		SpoolDir: "/var/lib/shoal/spool",
//		Policy:   store.Policy{Default: store.Retention{MaxAge: 30 * 24 * time.Hour}},
//	})
//
// # Durability
//
// [Archive.Put] returns when the messages are in a spool on this node's disk,
// written with fsync. From there they go to the database, a lightly loaded node's
// within a fraction of a second; [Archive.Flush] waits for that. While the
// database is away the spool grows up to [Config.SpoolBytes], Put goes on, and
// what is left in the spool when the process ends goes to the database after the
// next Open. Two archives can't share a spool.
//
// # Nodes
//
// Nodes need not know of each other. All of them insert what they get, and what
// is there already is skipped. Each may make tables and partitions, and one at a
// time drops what has expired; they agree by advisory locks. Their clocks and
// policies should agree as well: the shortest retention wins.
//
// # Tables
//
// They are in the first schema of the connection's search_path, which a URL can
// name: ?search_path=shoal. Messages are partitioned by time (shoal_messages),
// and found by hash through a map (shoal_times), whose partitions stay for a day
// at least after their messages are gone, so that a cursor marks its place a day
// longer than its message is kept. There is no default partition: what comes
// without a partition gets one.
//
// Connections keep settings and prepared statements. A connection pooler between
// has to give each of ours a session of its own.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/status-im/shoal/internal/spool"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// Archive is a store.Archive in PostgreSQL.
type Archive struct {
	cfg    Config
	log    *slog.Logger
	link   *link
	reads  *pgxpool.Pool
	writes *pgxpool.Pool
	spool  *spool.Spool
	health health
	tables tables
	// One Prune and one Stats at a time, the others wait.
	pruning, counting turnstile

	ctx     context.Context // ends at Close
	cancel  context.CancelCauseFunc
	running sync.WaitGroup // goroutines and calls
	mu      sync.Mutex     // guards closed, and adding to running
	closed  bool
	done    chan struct{} // Close has come to its end
	err     error         // of Close
}

var _ store.Archive = (*Archive)(nil)

// Open opens the archive in the database that url names, as a URL or as
// key=value pairs, and makes or migrates its tables. Several nodes may do so at
// the same time.
//
// A database that can't be reached is no error: the archive begins in the state
// [store.Spooling] and goes on trying. One that refuses is: a wrong password, no
// such database, no right to make tables, tables of a later Shoal
// ([NewerSchemaError]). [ErrSpoolInUse] says that another archive has the spool.
func Open(ctx context.Context, url string, cfg Config) (*Archive, error) {
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return open(ctx, pool, cfg)
}

// New is [Open] for an application that has a pool. The archive connects the way
// this pool does, with its settings for TLS, dialling and authentication, but
// with connections of its own: readers must not wait for writers, nor the
// application for either. The pool may be closed at any time.
func New(ctx context.Context, pool *pgxpool.Pool, cfg Config) (*Archive, error) {
	if pool == nil {
		return nil, errors.New("postgres: no pool")
	}
	return open(ctx, pool.Config(), cfg)
}

func open(ctx context.Context, base *pgxpool.Config, cfg Config) (_ *Archive, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Archive{cfg: cfg, log: cfg.Logger, done: make(chan struct{}), pruning: newTurnstile(), counting: newTurnstile()}
	a.health.init(cfg.Now, cfg.Logger)
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	a.spool, err = spool.Open(cfg.SpoolDir, spool.Config{MaxBytes: cfg.SpoolBytes, Logger: cfg.Logger})
	if errors.Is(err, spool.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrSpoolInUse, cfg.SpoolDir)
	}
	if err != nil {
		return nil, fmt.Errorf("postgres: spool: %w", err)
	}
	a.link = newLink(base, a.prepare, a.resetPools, &a.health)
	if a.reads, err = a.link.pool(base, cfg.ReadConns, readSettings(cfg)); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if a.writes, err = a.link.pool(base, cfg.WriteConns+otherConns, writeSettings); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if err := a.link.rise(ctx, openFor); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if refused(err) {
			return nil, fmt.Errorf("postgres: %w", err)
		}
		a.log.Warn("postgres: the database is away, spooling", "err", err)
	}
	a.running.Go(func() { a.link.watch(a.ctx) })
	for range cfg.WriteConns {
		a.running.Go(a.drain)
	}
	if cfg.PruneEvery > 0 {
		a.running.Go(a.upkeep)
	}
	return a, nil
}

// resetPools drops idle connections, which may lead to a server that is gone.
func (a *Archive) resetPools() {
	a.reads.Reset()
	a.writes.Reset()
}

// enter begins a call. The context it returns also ends at Close; leave must be
// called.
func (a *Archive) enter(ctx context.Context) (_ context.Context, leave func(), _ error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, nil, net.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	a.running.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(a.ctx, func() { cancel(net.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		a.running.Done()
	}, nil
}

// Put implements [store.Archive].
func (a *Archive) Put(ctx context.Context, entries []store.Entry) error {
	inner, leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := a.cfg.Policy.CheckEntries(entries, a.cfg.Now()); err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	records := make([][]byte, len(entries))
	for i, e := range entries {
		records[i] = encodeRecord(e)
	}
	return a.appended(ctx, len(entries), a.spool.Append(inner, records))
}

// appended says what the spool's answer means for a Put of n entries.
func (a *Archive) appended(ctx context.Context, n int, err error) error {
	var full *spool.FullError
	var disk *spool.DiskError
	switch {
	case err == nil:
		a.health.spoolTook()
		return nil
	case errors.As(err, &full):
		err = &store.FullError{Limit: full.Limit}
	case errors.As(err, &disk) && disk.NoSpace():
		err = &store.FullError{Err: disk.Err}
	case a.ctx.Err() != nil:
		return net.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		err = fmt.Errorf("%w: spool: %w", store.ErrUnavailable, err)
	}
	a.health.spoolRefused(n, err)
	return err
}

// Flush implements [store.Archive].
func (a *Archive) Flush(ctx context.Context) error {
	inner, leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := a.spool.Wait(inner, a.spool.Position()); err != nil {
		return a.failed(ctx, err)
	}
	return nil
}

// Condition implements [store.Archive].
func (a *Archive) Condition() store.Condition {
	c := a.health.condition()
	s := a.spool.Stats()
	c.Pending, c.PendingBytes = s.Records, s.Bytes
	return c
}

// Unstorable counts the acknowledged messages that the database refused for their
// own sake, or that were found damaged in the spool, since the archive was opened.
// They are lost, and logged. There should be none.
func (a *Archive) Unstorable() uint64 { return a.health.unstorable.Load() + a.spool.Stats().Damaged }

// Damaged counts the messages that were found damaged in the database and left
// out of answers, since the archive was opened.
func (a *Archive) Damaged() uint64 { return a.health.damaged.Load() }

// Retention implements [store.Archive].
func (a *Archive) Retention(s sharding.Shard) store.Retention { return a.cfg.Policy.For(s) }

// closeWithin bounds how long Close waits for the server to say goodbye.
const closeWithin = time.Second

// Close implements [store.Archive]. It doesn't wait for the database: what is in
// the spool stays there for the next start. Flush first to move out.
func (a *Archive) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		<-a.done
		return a.err
	}
	a.closed = true
	a.mu.Unlock()
	defer close(a.done)
	a.cancel(net.ErrClosed)
	a.running.Wait()
	if a.link != nil {
		force := time.AfterFunc(closeWithin, a.link.cut)
		if a.reads != nil {
			a.reads.Close()
		}
		if a.writes != nil {
			a.writes.Close()
		}
		a.link.close()
		force.Stop()
	}
	if a.spool != nil {
		a.err = a.spool.Close()
	}
	return a.err
}
