package sharding

import (
	"encoding/binary"
	"fmt"
)

// The keys of a node record under which a set of shards is found (31/WAKU2-ENR).
const (
	// KeyRS holds a list of indices. It is for fewer than 64 shards.
	KeyRS = "rs"
	// KeyRSV holds a bit vector. It is for 64 shards or more.
	KeyRSV = "rsv"
)

const (
	rsHeader    = 2 + 1              // cluster, count
	rsvLen      = 2 + (MaxIndex+1)/8 // cluster, vector
	minVectored = 64                 // from here on it's the vector
	maxListed   = 1<<8 - 1           // what count can say
)

// Encode returns the key under which a node record carries s, and the value's
// bytes: [KeyRS] for fewer than 64 shards, [KeyRSV] for more. For an empty set
// the key is "": a record without shards has neither. In any case the other key
// must be deleted, or it might be believed; [Set.WriteRecord] sees to it.
func (s Set) Encode() (key string, value []byte) {
	switch n := s.Len(); {
	case n == 0:
		return "", nil
	case n < minVectored:
		return KeyRS, s.appendRS(n)
	default:
		return KeyRSV, s.EncodeRSV()
	}
}

// EncodeRS returns s as the value of [KeyRS], 3 bytes and 2 for each shard. The
// error is [ErrShardCount]: the list can't hold more than 255.
func (s Set) EncodeRS() ([]byte, error) {
	n := s.Len()
	if n > maxListed {
		return nil, fmt.Errorf("sharding: %w: rs can list 255 shards, not %d", ErrShardCount, n)
	}
	return s.appendRS(n), nil
}

func (s Set) appendRS(n int) []byte {
	b := make([]byte, 0, rsHeader+2*n)
	b = binary.BigEndian.AppendUint16(b, s.cluster)
	b = append(b, byte(n))
	for shard := range s.All() {
		b = binary.BigEndian.AppendUint16(b, shard.Index)
	}
	return b
}

// EncodeRSV returns s as the value of [KeyRSV], 130 bytes.
func (s Set) EncodeRSV() []byte {
	b := make([]byte, 0, rsvLen)
	b = binary.BigEndian.AppendUint16(b, s.cluster)
	for _, w := range s.words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// DecodeRS reads a value of [KeyRS]. A list without shards is an empty set,
// which matches nothing; an index that occurs twice is in the set once. The
// error is [ErrShardSet] if the length isn't what the count says, or an
// [*IndexError].
func DecodeRS(value []byte) (Set, error) {
	if len(value) < rsHeader {
		return Set{}, fmt.Errorf("sharding: %w: rs has %d bytes, at least 3 are needed", ErrShardSet, len(value))
	}
	n := int(value[2])
	if want := rsHeader + 2*n; len(value) != want {
		return Set{}, fmt.Errorf("sharding: %w: rs has %d bytes, its %d shards take %d", ErrShardSet, len(value), n, want)
	}
	s := Set{cluster: binary.BigEndian.Uint16(value)}
	for b := value[rsHeader:]; len(b) > 0; b = b[2:] {
		if err := s.Add(binary.BigEndian.Uint16(b)); err != nil {
			return Set{}, err
		}
	}
	return s, nil
}

// DecodeRSV reads a value of [KeyRSV]. A vector without bits is an empty set,
// which matches nothing. The error is [ErrShardSet]: the length is 130 bytes.
func DecodeRSV(value []byte) (Set, error) {
	if len(value) != rsvLen {
		return Set{}, fmt.Errorf("sharding: %w: rsv has %d bytes, not %d", ErrShardSet, len(value), rsvLen)
	}
	s := Set{cluster: binary.BigEndian.Uint16(value)}
	for i := range s.words {
		s.words[i] = binary.LittleEndian.Uint64(value[2+8*i:])
	}
	return s, nil
}

// WriteRecord brings the shard keys of a node record up to date: it deletes what
// is no longer true and puts what is.
func (s Set) WriteRecord(put func(key string, value []byte), del func(key string)) {
	key, value := s.Encode()
	for _, k := range []string{KeyRS, KeyRSV} {
		if k != key {
			del(k)
		}
	}
	if key != "" {
		put(key, value)
	}
}

// ReadRecord reads the shards of a node record. If it has both keys, rs counts
// alone; if it has none, the set is empty. See [DecodeRS] and [DecodeRSV] for
// the error.
func ReadRecord(get func(key string) (value []byte, ok bool)) (Set, error) {
	if value, ok := get(KeyRS); ok {
		return DecodeRS(value)
	}
	if value, ok := get(KeyRSV); ok {
		return DecodeRSV(value)
	}
	return Set{}, nil
}
