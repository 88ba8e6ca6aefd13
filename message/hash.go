package message

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"unsafe"
)

// Hash is the deterministic hash of a message on a pubsub topic
// (14/WAKU2-MESSAGE): the same for every encoding of the message, and what
// stores and applications know it by.
type Hash [32]byte

// ErrHash says that a text is not a hash.
var ErrHash = errors.New("message: a hash is 0x and 64 hexadecimal digits")

// Hash returns the deterministic hash of m on a pubsub topic,
//
//	sha256(pubsub topic ‖ payload ‖ content topic ‖ meta ‖ timestamp)
//
// with the timestamp as eight bytes, big-endian, zeros if there is none.
// Version, rate limit proof and ephemeral are not covered. Nothing separates
// the parts: two messages that differ only in where one part ends have one
// hash.
func (m *Message) Hash(pubsubTopic string) Hash {
	var ts [8]byte
	binary.BigEndian.PutUint64(ts[:], uint64(m.Timestamp))
	h := sha256.New()
	h.Write(view(pubsubTopic))
	h.Write(m.Payload)
	h.Write(view(m.ContentTopic))
	h.Write(m.Meta)
	h.Write(ts[:])
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

// view returns the bytes of s without a copy, to be read only.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// String returns 0x and 64 lower-case hexadecimal digits.
func (h Hash) String() string { return "0x" + hex.EncodeToString(h[:]) }

// ParseHash reads what [Hash.String] writes, in either case. The error is
// [ErrHash].
func ParseHash(s string) (Hash, error) {
	var h Hash
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok || len(digits) != 2*len(h) {
		return Hash{}, ErrHash
	}
	if _, err := hex.Decode(h[:], []byte(digits)); err != nil {
		return Hash{}, ErrHash
	}
	return h, nil
}

// MarshalText implements encoding.TextMarshaler, with the form of String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler, see [ParseHash].
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}
