package sqlite

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// split takes a hash apart: its first eight bytes, so that numbers sort as hashes
// do, and the others.
func split(h message.Hash) (prefix int64, rest []byte) {
	return int64(binary.BigEndian.Uint64(h[:8]) ^ 1<<63), h[8:]
}

// join is the inverse of split.
func join(prefix int64, rest []byte) (h message.Hash, err error) {
	if len(rest) != len(h)-8 {
		return h, fmt.Errorf("%w: a hash of %d bytes", errDamaged, 8+len(rest))
	}
	binary.BigEndian.PutUint64(h[:8], uint64(prefix)^1<<63)
	copy(h[8:], rest)
	return h, nil
}

// spanOf is where the indexes have a key.
func spanOf(k store.Key) span {
	prefix, _ := split(k.Hash)
	return span{k.Time, prefix}
}

func shardNumber(s sharding.Shard) int64 { return int64(s.Cluster)<<16 | int64(s.Index) }

func numberShard(n int64) (sharding.Shard, error) {
	s := sharding.Shard{Cluster: uint16(n >> 16), Index: uint16(n)}
	if n < 0 || n > math.MaxUint32 || s.Valid() != nil {
		return s, fmt.Errorf("%w: no shard has the number %d", errDamaged, n)
	}
	return s, nil
}

// row is a message as it is filed.
type row struct {
	id      int64
	shard   int64
	topic   int64
	key     store.Key
	seal    int64
	message []byte // nil: not asked for
}

// columns is what scanner reads, and bareColumns the same without the message.
const (
	bareColumns = `id, shard, topic, time, prefix, rest, seal`
	columns     = bareColumns + `, message`
)

// scanner reads rows, one after another, and what follows their columns.
type scanner struct {
	id, shard, topic, time, prefix, seal number
	rest                                 sql.RawBytes
	message                              blob
	into                                 []any
}

// newScanner makes one. ours tells whether it is our driver that it reads from.
func newScanner(ours, bare bool, more ...any) *scanner {
	s := &scanner{message: blob{ours: ours}}
	s.into = []any{&s.id, &s.shard, &s.topic, &s.time, &s.prefix, &s.rest, &s.seal}
	if !bare {
		s.into = append(s.into, &s.message)
	}
	s.into = append(s.into, more...)
	return s
}

// scan returns the row at hand. With an error comes its id, if that was read.
func (s *scanner) scan(rows *sql.Rows) (row, error) {
	s.id = 0
	if err := rows.Scan(s.into...); err != nil {
		if errors.Is(err, errDamaged) {
			err = &rowError{int64(s.id), err}
		}
		return row{id: int64(s.id)}, err
	}
	r := row{
		id: int64(s.id), shard: int64(s.shard), topic: int64(s.topic), seal: int64(s.seal),
		message: s.message.bytes,
	}
	var err error
	r.key.Time = int64(s.time)
	r.key.Hash, err = join(int64(s.prefix), s.rest)
	return r, err
}

// blob takes a column's bytes. Those that our driver hands over were made for the
// row; those of another may be used for the next.
type blob struct {
	bytes []byte
	ours  bool
}

// Scan implements sql.Scanner.
func (b *blob) Scan(from any) error {
	v, ok := from.([]byte)
	if !ok {
		return fmt.Errorf("%w: %T instead of bytes", errDamaged, from)
	}
	if !b.ours {
		v = bytes.Clone(v)
	}
	b.bytes = v
	return nil
}

// number takes a column's number, and nothing else.
type number int64

// Scan implements sql.Scanner.
func (n *number) Scan(from any) error {
	v, ok := from.(int64)
	if !ok {
		return fmt.Errorf("%w: %T instead of a number", errDamaged, from)
	}
	*n = number(v)
	return nil
}

// rowError says what is wrong with a row.
type rowError struct {
	id  int64
	err error
}

func (e *rowError) Error() string { return e.err.Error() }

func (e *rowError) Unwrap() error { return e.err }

// check makes sure that the row stands where it was filed.
func (r *row) check() error {
	if r.seal>>32 != sealKey(r.shard, r.topic, r.key) {
		return &rowError{r.id, fmt.Errorf("%w: message %s is not where it was filed", errDamaged, r.key.Hash)}
	}
	return nil
}

// entry reads the message and makes sure that it is the one that was filed: a
// bit that has flipped anywhere in the row shows.
func (r *row) entry() (store.Entry, error) {
	if err := r.check(); err != nil {
		return store.Entry{}, err
	}
	e, err := r.verified()
	if err != nil {
		err = &rowError{r.id, err}
	}
	return e, err
}

// verified looks at what check doesn't. The hash leaves out some fields of a
// message, which the seal covers.
func (r *row) verified() (store.Entry, error) {
	s, err := numberShard(r.shard)
	if err != nil {
		return store.Entry{}, err
	}
	if int64(int32(r.seal)) != sealMessage(r.message) {
		return store.Entry{}, fmt.Errorf("%w: message %s is not as it was filed", errDamaged, r.key.Hash)
	}
	m, err := message.Decode(r.message)
	if err != nil {
		return store.Entry{}, fmt.Errorf("%w: message %s: %w", errDamaged, r.key.Hash, err)
	}
	if m.Timestamp != r.key.Time || m.Hash(s.PubsubTopic()) != r.key.Hash {
		return store.Entry{}, fmt.Errorf("%w: message %s has another hash", errDamaged, r.key.Hash)
	}
	return store.Entry{Hash: r.key.Hash, Shard: s, Message: m}, nil
}

// seal sums up numbers of a row.
func seal(numbers ...int64) int64 {
	h := fnv.New64a()
	var b [8]byte
	for _, n := range numbers {
		binary.BigEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
	return int64(h.Sum64())
}

// sealRow is the seal of a message's row: its upper half is that of the key, by
// which a place is checked without the message.
func sealRow(shard, topic int64, k store.Key, encoded []byte) int64 {
	return sealKey(shard, topic, k)<<32 | sealMessage(encoded)&math.MaxUint32
}

func sealKey(shard, topic int64, k store.Key) int64 {
	var b [24 + len(k.Hash)]byte
	binary.BigEndian.PutUint64(b[:], uint64(shard))
	binary.BigEndian.PutUint64(b[8:], uint64(topic))
	binary.BigEndian.PutUint64(b[16:], uint64(k.Time))
	copy(b[24:], k.Hash[:])
	return int64(int32(crc32.Checksum(b[:], castagnoli)))
}

func sealMessage(encoded []byte) int64 {
	return int64(int32(crc32.Checksum(encoded, castagnoli)))
}

// sealTopic is the seal of a content topic's row.
func sealTopic(id, shard int64, name string) int64 {
	return seal(id, shard, int64(crc32.Checksum([]byte(name), castagnoli)))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hourOf and dayOf count since 1970.
func hourOf(ns int64) int64 { return ns / int64(time.Hour) }

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }
