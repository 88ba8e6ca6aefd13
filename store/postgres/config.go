package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/status-im/shoal/store"
)

// Config is how an archive works. All but SpoolDir may be left zero.
type Config struct {
	// Policy says how long messages are kept. Zero: for ever.
	Policy store.Policy
	// Now is the archive's clock for timestamps and retention. Nil: time.Now.
	Now func() time.Time
	// Logger is told what an operator should know. Nil: nobody is.
	Logger *slog.Logger
	// PruneEvery is how often the policy is applied, by one of the nodes on a
	// database. Zero: every ten minutes. Negative: only by [Archive.Prune].
	PruneEvery time.Duration

	// SpoolDir is a directory of this archive's own, on a disk that keeps what
	// fsync has written. It is made if need be.
	SpoolDir string
	// SpoolBytes bounds the room the spool takes. Zero: 2 GiB.
	SpoolBytes int64

	// Partition is the stretch of time of a partition. It counts when the tables
	// are made; later and on other nodes, what the database says counts. Zero: 24
	// hours, or 7 days if the policy's ages allow for more than 100 days, or set
	// no bound.
	Partition time.Duration
	// StatementTimeout bounds one reading statement. Zero: two seconds.
	StatementTimeout time.Duration
	// ReadConns and WriteConns bound the connections that answer queries and that
	// move messages from the spool to the database. Zero: 8 and 2. Up to three
	// more serve for upkeep, marks and finding out whether the server lives.
	ReadConns, WriteConns int
}

// ErrSpoolInUse says that another archive, of this process or another, has the
// spool's directory.
var ErrSpoolInUse = errors.New("postgres: the spool is in use")

const (
	defaultPruneEvery       = 10 * time.Minute
	defaultSpoolBytes       = 2 << 30
	defaultStatementTimeout = 2 * time.Second
	defaultReadConns        = 8
	defaultWriteConns       = 2

	day            = 24 * time.Hour
	widePartition  = 7 * day
	manyPartitions = 100
	minPartition   = time.Second
)

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.SpoolDir == "":
		return c, errors.New("postgres: Config.SpoolDir is empty")
	case c.SpoolBytes < 0 || c.StatementTimeout < 0 || c.ReadConns < 0 || c.WriteConns < 0:
		return c, errors.New("postgres: Config has a negative bound")
	case c.Partition != 0 && c.Partition < minPartition:
		return c, fmt.Errorf("postgres: Config.Partition is below %v", minPartition)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PruneEvery == 0 {
		c.PruneEvery = defaultPruneEvery
	}
	if c.SpoolBytes == 0 {
		c.SpoolBytes = defaultSpoolBytes
	}
	if c.Partition == 0 {
		c.Partition = day
		if age, bounded := longest(c.Policy); !bounded || age > manyPartitions*day {
			c.Partition = widePartition
		}
	}
	if c.StatementTimeout == 0 {
		c.StatementTimeout = defaultStatementTimeout
	}
	if c.ReadConns == 0 {
		c.ReadConns = defaultReadConns
	}
	if c.WriteConns == 0 {
		c.WriteConns = defaultWriteConns
	}
	return c, nil
}
