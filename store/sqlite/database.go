package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	driver "modernc.org/sqlite"
)

// busyTime is how long others may have a lock, and
// busyPause how often the application's are asked for it at least.
const (
	busyTime  = 10 * time.Second
	busyPause = 5 * time.Millisecond
)

// database is one set of connections. When its file is found damaged, another one
// takes its place.
type database struct {
	path        string // of a file of our own; empty: the application's database
	write, read *sql.DB
	log         *sql.DB    // for checkpoints
	taking      sync.Mutex // held during one

	// Prepared statements by their text.
	writes, reads map[string]*sql.Stmt

	// ctx ends when the database is given up, and with it what is being read.
	ctx   context.Context
	quit  context.CancelCauseFunc
	users sync.WaitGroup // of questions
}

func newDatabase(path string, write, read, log *sql.DB) *database {
	ctx, quit := context.WithCancelCause(context.Background())
	return &database{
		path: path, write: write, read: read, log: log,
		writes: map[string]*sql.Stmt{}, reads: map[string]*sql.Stmt{},
		ctx: ctx, quit: quit,
	}
}

// connect opens the connections to a file, in three pools: questions don't wait
// for what is written, nor that for checkpoints.
func connect(path string, readers int, options []string) (*database, error) {
	write, err := pool(path, 1, options, "_txlock=immediate", "_pragma=cache_size(-32768)", "_pragma=cell_size_check(1)", busyTimeout(busyTime))
	if err != nil {
		return nil, err
	}
	read, err := pool(path, readers, options, "_pragma=query_only(1)", "_pragma=cache_size(-8192)", busyTimeout(busyTime))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	log, err := pool(path, 1, options, "_pragma=cache_size(-256)", busyTimeout(restartTime))
	if err != nil {
		return nil, errors.Join(err, write.Close(), read.Close())
	}
	return newDatabase(path, write, read, log), nil
}

// pool opens connections. Only that which writes has SQLite examine the cells of
// every page: it takes a fifth of a reader's time, and what they read has seals.
func pool(path string, size int, options []string, more ...string) (*sql.DB, error) {
	options = slices.Concat(options, more, []string{
		"_pragma=synchronous(FULL)",
		"_pragma=wal_autocheckpoint(0)",
		fmt.Sprintf("_pragma=journal_size_limit(%d)", logKept),
		"_pragma=trusted_schema(0)",
		"_pragma=temp_store(MEMORY)",
	})
	connector, err := driver.NewConnector(fileURL(path) + "?" + strings.Join(options, "&"))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

func busyTimeout(d time.Duration) string {
	return fmt.Sprintf("_pragma=busy_timeout(%d)", d.Milliseconds())
}

func fileURL(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/…
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// prepare makes the statements that are used again and again.
func (d *database) prepare(ctx context.Context) error {
	all := func(db *sql.DB, into map[string]*sql.Stmt, texts []string) error {
		for _, text := range texts {
			s, err := db.PrepareContext(ctx, text)
			if err != nil {
				return err
			}
			into[text] = s
		}
		return nil
	}
	return cmp.Or(all(d.write, d.writes, writeStatements), all(d.read, d.reads, readStatements))
}

// close ends the connections, when nobody uses them any more. The application's
// stay open.
func (d *database) close() error {
	d.quit(nil)
	d.users.Wait()
	var err error
	if d.path == "" {
		for _, prepared := range []map[string]*sql.Stmt{d.writes, d.reads} {
			for _, s := range prepared {
				err = errors.Join(err, s.Close())
			}
		}
		return err
	}
	return errors.Join(d.log.Close(), d.read.Close(), d.write.Close())
}

// bind gives a call a context that ends with the database as well.
func (d *database) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// transact runs f in a transaction that writes.
func (d *database) transact(ctx context.Context, f func(*sql.Tx) error) error {
	began := time.Now()
	for {
		err := d.try(ctx, f)
		if d.path != "" || classify(err) != faultBusy || time.Since(began) > busyTime {
			return err
		}
		// The application may have set no time to wait for locks, and be busy.
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(busyPause)))):
		case <-ctx.Done():
			return err
		}
	}
}

func (d *database) try(ctx context.Context, f func(*sql.Tx) error) (err error) {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, finish(tx, err)) }()
	if d.path == "" {
		// The first statement takes the lock: one that has read already would be
		// refused it when others have written since.
		if _, err := tx.ExecContext(ctx, `DELETE FROM shoal_marks WHERE shard < 0`); err != nil {
			return err
		}
	}
	return f(tx)
}
