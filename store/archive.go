package store

import (
	"context"
	"fmt"
	"time"

	"github.com/status-im/shoal/sharding"
)

// Archive keeps messages. Implementations are safe for concurrent use, and their
// calls return soon after their context ends.
//
// # Durability
//
// A message is acknowledged when it has passed its shard's validators and Put
// has returned nil for it. An acknowledged message survives the end of the
// process at any moment, and of the machine as far as its disk keeps what fsync
// has written. It is found by every Query, of this archive and of others on the same
// database, after the time that Flush waits for, until the retention policy ends
// its time. An archive that nobody shares has it there when Put returns.
type Archive interface {
	// Put keeps entries. Those that are kept already, and doubles among the
	// entries, are no error and change nothing. When it returns nil, all of them
	// are durable; otherwise any of them may or may not be kept, and putting them
	// once more is harmless.
	//
	// Errors: an [*EntryError] names the first entry that can't be kept at all,
	// and nothing of the call is then kept; [*FullError]: there is no room, on
	// the disk or in the spool; an error that is [ErrUnavailable]; net.ErrClosed.
	// The messages must not be changed any more.
	Put(ctx context.Context, entries []Entry) error

	// Query returns one page. The question has been normalised by
	// [Query.Check]. Cursors are valid on every archive that holds, or held, the
	// message, whatever the other criteria. That of an expired message still
	// marks its place, for a day at least.
	//
	// Errors: a [*QueryError]; an error that is [ErrUnknownCursor],
	// [ErrUnavailable] or net.ErrClosed.
	Query(ctx context.Context, q Query) (Page, error)

	// Prune applies the retention policy now. Archives also do so by themselves
	// from time to time.
	Prune(ctx context.Context) (Pruned, error)

	// Stats counts what is kept. It may take seconds on a large archive.
	Stats(ctx context.Context) (Stats, error)

	// Condition tells how the archive is. It doesn't wait for anything.
	Condition() Condition

	// Retention is the policy in force for a shard.
	Retention(s sharding.Shard) Retention

	// Mark is the time up to which a shard's messages are known to have been
	// put, apart from losses that Put told of. Zero: never set. SetMark moves it
	// forward; an earlier time changes nothing. Nodes on one database share it.
	Mark(ctx context.Context, s sharding.Shard) (time.Time, error)
	SetMark(ctx context.Context, s sharding.Shard, t time.Time) error

	// Flush waits until all that was acknowledged before is where this node and
	// others find it.
	Flush(ctx context.Context) error

	// Close ends the archive and its goroutines. What is acknowledged stays so.
	// It is idempotent.
	Close() error
}

// Pruned says what Prune did.
type Pruned struct {
	Messages int64
	Bytes    int64 // their encoded sizes
}

// Stats says what an archive keeps.
type Stats struct {
	Messages int64
	Bytes    int64 // the messages' encoded sizes
	// DiskBytes is the room taken on the disk, indexes and spool included.
	DiskBytes int64
	Shards    []ShardStats // ascending by shard
}

// ShardStats says what is kept of one shard.
type ShardStats struct {
	Shard          sharding.Shard
	Messages       int64
	Bytes          int64 // the messages' encoded sizes
	Oldest, Newest time.Time
}

// State is how an archive is.
type State uint8

// The states, from good to bad.
const (
	// Ready: what is put is kept and found.
	Ready State = iota
	// Spooling: the database is away. What is put is kept on this node's disk
	// and goes to the database when it returns. Queries fail.
	Spooling
	// Full: there is no room. Put fails until there is.
	Full
	// Damaged: the archive was found damaged and set aside; what it held is to
	// be fetched from other stores. See [Condition].
	Damaged
)

var stateWords = [...]string{Ready: "ready", Spooling: "spooling", Full: "full", Damaged: "damaged"}

// String returns the state in a word.
func (s State) String() string {
	if int(s) < len(stateWords) {
		return stateWords[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Condition is how an archive is at a moment.
type Condition struct {
	State State
	// Since is when State began.
	Since time.Time
	// Err says why State isn't Ready.
	Err error
	// Pending and PendingBytes are what is acknowledged and not yet in the
	// database.
	Pending      int64
	PendingBytes int64
	// Refused counts the entries for which Put returned an error for want of
	// room or of a database, since the archive was opened: a gap, if nobody puts
	// them again.
	Refused uint64
}
