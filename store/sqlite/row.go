package sqlite

import (
	"encoding/binary"
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
	message []byte
}

// columns is what scan reads.
const columns = `id, shard, topic, time, prefix, rest, seal, message`

func (r *row) scan(from interface{ Scan(...any) error }) error {
	var prefix int64
	var rest []byte
	err := from.Scan(&r.id, &r.shard, &r.topic, &r.key.Time, &prefix, &rest, &r.seal, &r.message)
	if err != nil {
		return err
	}
	r.key.Hash, err = join(prefix, rest)
	return err
}

// rowError says what is wrong with a row.
type rowError struct {
	id  int64
	err error
}

func (e *rowError) Error() string { return e.err.Error() }

func (e *rowError) Unwrap() error { return e.err }

// entry reads the message and makes sure that it is the one that was filed: a
// bit that has flipped anywhere in the row shows.
func (r *row) entry() (store.Entry, error) {
	e, err := r.verified()
	if err != nil {
		err = &rowError{r.id, err}
	}
	return e, err
}

func (r *row) verified() (store.Entry, error) {
	s, err := numberShard(r.shard)
	if err != nil {
		return store.Entry{}, err
	}
	if r.seal != sealMessage(r.shard, r.topic, r.message) {
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

// sealMessage sums up what a message's hash leaves out: 32 bits, to save room.
func sealMessage(shard, topic int64, encoded []byte) int64 {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(shard))
	binary.BigEndian.PutUint64(b[8:], uint64(topic))
	return int64(int32(crc32.Update(crc32.Checksum(b[:], castagnoli), castagnoli, encoded)))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hourOf and dayOf count since 1970.
func hourOf(ns int64) int64 { return ns / int64(time.Hour) }

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }
