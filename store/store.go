// Package store keeps messages for those who were away, and asks for them
// (13/WAKU2-STORE, version 3).
//
// A [Client] asks a peer, page by page or in one walk, and believes nothing: what
// it hands over belongs to the question, and each message has the hash it is
// filed under. A [Server] answers from an [Archive], within limits. Two archives
// come with Shoal: package sqlite, embedded, and package postgres, which several
// store nodes share.
//
// # On the wire
//
// One stream carries one request and one response, each a protobuf message behind
// its length. A request of 29 bytes for the oldest twenty messages of a shard, and
// a response without any:
//
//	0a 01 31          field 1: request id "1"      0a 01 31      field 1: request id
//	10 01             field 2: with messages       50 c8 01      field 10: status 200
//	52 10 2f77616b…   field 10: /waku/2/rs/16/32   5a 02 4f 4b   field 11: "OK"
//	a0 03 01          field 52: forward
//	a8 03 14          field 53: twenty
//
// Status 200 is an answer, 300 a failure or an unknown cursor, 400 a question that
// makes no sense, 429 one too many, 503 no answer for now; a description follows
// in plain words. With 429 and 503 it ends in "retry after 250ms", or so.
package store

import (
	"bytes"
	"cmp"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// ID is the protocol's name on the wire.
const ID protocol.ID = "/vac/waku/store-query/3.0.0"

// The limits of one query, which nwaku has as well.
const (
	// DefaultPageSize is the number of entries of a page when the question names
	// none.
	DefaultPageSize = 20
	// MaxPageSize is the largest number of entries of a page.
	MaxPageSize = 100
	// MaxContentTopics is the largest number of content topics in a question.
	MaxContentTopics = 10
	// MaxHashes is the largest number of message hashes in a question.
	MaxHashes = 100
)

// Entry is a message in an archive.
type Entry struct {
	// Hash is the deterministic message hash (14/WAKU2-MESSAGE). It covers the
	// shard's name, but nothing separates that from the payload: messages can be
	// made that share a hash on two shards, 16/12 and 16/128 say. Entries are the
	// same only if shard and hash are.
	Hash message.Hash
	// Shard is where the message was published. It is zero in an answer to a
	// question with HashesOnly.
	Shard sharding.Shard
	// Message is nil in an answer to a question with HashesOnly.
	Message *message.Message
}

// NewEntry files a message under its hash.
func NewEntry(s sharding.Shard, m *message.Message) Entry {
	return Entry{Hash: m.Hash(s.PubsubTopic()), Shard: s, Message: m}
}

// Key is the entry's place in an archive.
func (e Entry) Key() Key { return Key{Time: e.Message.Timestamp, Hash: e.Hash} }

// Key is a place in an archive, which is ordered by timestamp and then by hash.
type Key struct {
	// Time is a timestamp in Unix nanoseconds.
	Time int64
	Hash message.Hash
}

// Compare orders keys: negative if k comes before other.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Time, other.Time), bytes.Compare(k.Hash[:], other.Hash[:]))
}

// Query is a question to a store: what is filed under Hashes, or else what the
// other criteria let through, all of which must hold. The zero Query asks for
// everything, the oldest first.
type Query struct {
	// Shard is the shard asked about. Nil: any.
	Shard *sharding.Shard
	// ContentTopics are the content topics asked for, at most MaxContentTopics.
	// None: any. On the wire they need a Shard.
	ContentTopics []string
	// Start and End bound the timestamps: from Start on and before End. Zero:
	// unbounded. They are understood to the nanosecond.
	Start, End time.Time
	// Hashes asks for messages by their hash, at most MaxHashes; criteria other
	// than Shard then make no sense and are an error.
	Hashes []message.Hash

	// Backward begins with the newest page. Within a page the order is ascending
	// all the same.
	Backward bool
	// Limit is the number of entries in a page, at most MaxPageSize. Zero:
	// DefaultPageSize.
	Limit int
	// Cursor is where a page begins: behind the entry of this hash, or before it
	// if Backward. Nil: at the end that the direction says.
	Cursor *message.Hash
	// HashesOnly leaves the messages out of the answer.
	HashesOnly bool
	// MaxBytes ends a page early, when its messages' encoded sizes reach so many
	// bytes; the first entry is always there. Zero: no such end. It is a matter
	// between a server and its archive and not on the wire.
	MaxBytes int
}

// Page is an answer.
type Page struct {
	// Entries ascend by timestamp and hash.
	Entries []Entry
	// Cursor is what the next question of the same walk has as its Cursor: the
	// hash of the last entry in the direction of the walk. Nil: there is no more.
	Cursor *message.Hash
}
