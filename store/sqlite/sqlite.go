package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// Config configures an archive. The zero Config keeps everything for ever.
type Config struct {
	// Policy says how long messages are kept.
	Policy store.Policy
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger is told of damage, and of upkeep that fails. Nil: nobody is.
	Logger *slog.Logger
	// PruneEvery is how often the policy is applied. Zero: every ten minutes.
	// Negative: only when Prune is called.
	PruneEvery time.Duration
	// Readers is how many questions are answered at the same time; the others
	// wait for their turn. Zero: 4. In a database of the application, its own
	// limit holds as well.
	Readers int

	// options are those of connections, for tests.
	options []string
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PruneEvery == 0 {
		c.PruneEvery = 10 * time.Minute
	}
	if c.Readers <= 0 {
		c.Readers = 4
	}
	return c
}

// Archive keeps messages in SQLite. It is a [store.Archive].
type Archive struct {
	cfg  Config
	path string       // empty: the application's database
	lock *flock.Flock // nil: the application's database

	turns chan struct{} // as many as may read
	mu    sync.RWMutex
	db    *database // nil while its file is being replaced

	condition condition
	marks     marks
	room      room

	// The writer's, and nobody else's.
	topics  map[topicID]int64
	damage  error          // of the file that is to be replaced
	missing map[int64]bool // shards whose marks a damage has put back
	tried   time.Time      // when that failed last

	dirty atomic.Int64 // how much was written since the last checkpoint

	jobs       chan *job
	logged     chan struct{}  // there is something in the log to be taken over
	damaged    chan *database // to be replaced
	distrusted chan error     // what was found in the application's database
	filled     chan struct{}  // the disk has become full

	noted   time.Time // the damage of the application's database for which marks were put back
	pruning sync.Mutex
	toLook  bool           // there is more to examine
	work    sync.WaitGroup // upkeep, and what looks through files; only the writer adds to it
	written chan struct{}  // closed when the writer has ended

	enter  sync.RWMutex // held by who hands something to the writer
	closed bool
	ctx    context.Context // ends when closed
	cancel context.CancelFunc
	closes sync.Once
	failed error // of Close
}

var _ store.Archive = (*Archive)(nil)

var errClosed = net.ErrClosed

func newArchive(cfg Config, path string) *Archive {
	a := &Archive{
		cfg: cfg.withDefaults(), path: path,
		topics:     map[topicID]int64{},
		jobs:       make(chan *job, 64),
		logged:     make(chan struct{}, 1),
		damaged:    make(chan *database, 1),
		distrusted: make(chan error, 1),
		filled:     make(chan struct{}, 1),
		written:    make(chan struct{}),
	}
	if path != "" {
		a.room.name = path + reservePart
	}
	a.turns = make(chan struct{}, a.cfg.Readers)
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.marks.set(map[int64]mark{})
	return a
}

// New returns an archive in the application's database, whatever driver it comes
// from; SQLite 3.24 or newer is asked for. The archive's tables begin with shoal_,
// and everything else is left alone: its settings, which decide how durable
// messages are (see the package comment), its size, and the handle, which stays
// open when the archive is closed. One archive at a time may use a database.
//
// Errors: a [*SchemaError], those of ctx, and those of the driver.
func New(ctx context.Context, db *sql.DB, cfg Config) (*Archive, error) {
	a := newArchive(cfg, "")
	if err := migrate(ctx, db, false); err != nil {
		return nil, err
	}
	d := newDatabase("", db, db, db)
	if err := errors.Join(d.prepare(ctx), a.load(ctx, d)); err != nil {
		return nil, errors.Join(err, d.close())
	}
	a.db = d
	a.start()
	return a, nil
}

func (a *Archive) start() {
	go a.write()
	a.work.Go(a.upkeep)
	a.work.Go(a.keepLog)
	if a.toLook {
		a.work.Go(a.look)
	}
}

// use returns the database to somebody who reads, when it is their turn: first
// come, first served, which connection pools don't promise. They call leave when
// they are done.
func (a *Archive) use(ctx context.Context) (d *database, leave func(), err error) {
	if a.isClosed() {
		return nil, nil, errClosed
	}
	select {
	case a.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-a.ctx.Done():
		return nil, nil, errClosed
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.db == nil {
		<-a.turns
		if a.isClosed() {
			return nil, nil, errClosed
		}
		return nil, nil, errReplacing
	}
	d = a.db
	d.users.Add(1)
	return d, func() { d.users.Done(); <-a.turns }, nil
}

func (a *Archive) current() *database {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.db
}

// give takes the database away from everybody, with its questions cut off.
func (a *Archive) give() *database {
	a.mu.Lock()
	defer a.mu.Unlock()
	db := a.db
	a.db = nil
	if db != nil {
		db.quit(errClosed)
		db.users.Wait()
	}
	return db
}

func (a *Archive) isClosed() bool {
	a.enter.RLock()
	defer a.enter.RUnlock()
	return a.closed
}

// Retention is the policy in force for a shard.
func (a *Archive) Retention(s sharding.Shard) store.Retention { return a.cfg.Policy.For(s) }

// Condition tells how the archive is, see [store.Condition]. Nothing is ever
// pending here.
func (a *Archive) Condition() store.Condition { return a.condition.get() }

// Flush returns at once: what was acknowledged is in the database.
func (a *Archive) Flush(ctx context.Context) error {
	if a.isClosed() {
		return errClosed
	}
	return ctx.Err()
}

// Close ends the archive, after what was begun. A file of its own is left as one
// file, without a log.
func (a *Archive) Close() error {
	a.closes.Do(func() {
		a.enter.Lock()
		a.closed = true
		a.enter.Unlock()
		a.cancel()
		<-a.written
		a.work.Wait()
		a.failed = a.leave(a.give())
	})
	return a.failed
}
