// Package message holds a Waku message: its bytes, its hash, its limits, and
// the words in which others judge it (14/WAKU2-MESSAGE).
//
// Three names are enough to begin with: [Message], [Decode] and
// [Message.Encode]. [Message.Hash] names a message for everyone,
// [Message.Validate] says whether it may travel.
//
// # The bytes
//
// A message is one protobuf (proto3) record. Every field begins with a tag: the
// field number shifted left by three, plus the wire type. Two wire types occur:
// 0 is a varint (seven bits a byte, least significant first, the top bit says
// that more follow), 2 is a length (a varint) and that many bytes.
//
//	tag     field               value                                    presence
//	0a      1  payload          length, bytes; must not be empty         always written
//	12      2  content_topic    length, UTF-8; must not be empty         always written
//	18      3  version          varint uint32: 0 none, 1 Status's own    optional
//	50      10 timestamp        zigzag varint int64, Unix nanoseconds    optional
//	5a      11 meta             length, at most 64 bytes                 optional
//	aa 01   21 rate_limit_proof length, bytes                            optional
//	f8 01   31 ephemeral        varint, 1: nobody stores it              optional
//
// "hello" on a Status content topic is 43 bytes:
//
//	0a 05 68656c6c6f                                     payload "hello"
//	12 18 2f77616b752f312f307839633232666635662f7266633236   /waku/1/0x9c22ff5f/rfc26
//	50 aab4aed8c7bfce972f                                1700000000123456789 ns
//
// Optional means that absent and zero are two encodings of one message. Some
// senders write every field, zeros included; others leave zeros out. Decode
// keeps the difference in [Message.Explicit], so that what was read can be
// written again byte for byte: gossipsub names a message by the hash of these
// bytes, and a needless difference would look like a second message.
//
// # What strangers send
//
// Decode accepts what other implementations accept: fields in any order, the
// last of a repeated field, unknown fields skipped. What it saw of these it
// remembers, and [Message.Strict] reports it. Decode never panics, and what it
// allocates is bounded by the length of its input.
//
// # Two hashes
//
// [Message.Hash] is the deterministic hash, which identifies. The hash that a
// community signs is another one, leaves meta out, and lives in package
// dosguard.
package message

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits, in bytes.
const (
	// MaxMetaLen is the largest meta field (14/WAKU2-MESSAGE).
	MaxMetaLen = 64

	// DefaultMaxSize bounds an encoded message on a network with the limits of
	// 64/WAKU2-NETWORK: 150 KiB, less 64 bytes for the frame around it, because
	// some nodes measure the frame.
	DefaultMaxSize = 150<<10 - 64

	// LargeMaxSize bounds an encoded message on networks that raise the limit
	// to 1 MiB, as Status does.
	LargeMaxSize = 1 << 20
)

// Fields is a set of optional fields.
type Fields uint8

// The optional fields of a message.
const (
	FieldVersion        Fields = 1 << iota // version = 3
	FieldTimestamp                         // timestamp = 10
	FieldMeta                              // meta = 11
	FieldRateLimitProof                    // rate_limit_proof = 21
	FieldEphemeral                         // ephemeral = 31

	// The plain fields, for Decode to see them repeated.
	fieldPayload
	fieldContentTopic

	optionalFields = fieldPayload - 1
)

// Has reports whether every field of want is in f.
func (f Fields) Has(want Fields) bool { return f&want == want }

// wireFlags says what Decode met besides the fields' values.
type wireFlags uint8

const (
	sawUnknown wireFlags = 1 << iota
	sawRepeated
)

// Message is a WakuMessage. Payload and ContentTopic are required, everything
// else may stay zero; a sender should always set Timestamp.
type Message struct {
	// Payload is what the application sends: 1 byte up to the network's limit.
	Payload []byte
	// ContentTopic says what the payload is about: UTF-8, not empty. Package
	// sharding parses it.
	ContentTopic string
	// Version names the payload's encryption scheme: 0 none or the
	// application's own, 1 the one of 26/WAKU2-PAYLOAD. No hash covers it.
	Version uint32
	// Timestamp is the sender's clock in Unix nanoseconds; 0 means none.
	Timestamp int64
	// Meta is at most MaxMetaLen bytes; a shard's signature travels in it.
	Meta []byte
	// RateLimitProof is a proof for networks with rate-limiting nullifiers. No
	// hash covers it.
	RateLimitProof []byte
	// Ephemeral asks store nodes not to keep the message. No hash covers it.
	Ephemeral bool

	// Explicit lists the optional fields that are on the wire although they are
	// zero. Fields that aren't zero are written in any case.
	Explicit Fields

	wire wireFlags
}

// Clone returns a copy that shares no memory with m, nor with the bytes that m
// was decoded from. It remembers what [Message.Strict] asks about.
func (m *Message) Clone() *Message {
	c := *m
	c.Payload = slices.Clone(m.Payload)
	c.ContentTopic = strings.Clone(m.ContentTopic)
	c.Meta = slices.Clone(m.Meta)
	c.RateLimitProof = slices.Clone(m.RateLimitProof)
	return &c
}

// Validate reports why m may not be published, and why a relay refuses it:
// [ErrEmptyPayload], [ErrEmptyContentTopic], [ErrContentTopicUTF8] or
// [ErrMetaTooLong]. It asks only what every implementation asks; see
// [Message.Strict] for the rest, and [Message.CheckSize] for the size, whose
// limit is the network's.
func (m *Message) Validate() error {
	switch {
	case len(m.Payload) == 0:
		return ErrEmptyPayload
	case m.ContentTopic == "":
		return ErrEmptyContentTopic
	case len(m.Meta) > MaxMetaLen:
		return ErrMetaTooLong
	case !utf8.ValidString(m.ContentTopic):
		return ErrContentTopicUTF8
	}
	return nil
}

// CheckSize returns a [*TooLargeError] if m takes more than limit bytes when
// encoded, the measure that publishers and relays share.
func (m *Message) CheckSize(limit int) error {
	if size := m.Size(); size > limit {
		return &TooLargeError{Size: size, Limit: limit}
	}
	return nil
}

// Strict reports what other implementations let pass though neither hash covers
// it, so that anyone on the way could have changed it without the sender's key:
// [ErrUnknownField], [ErrRepeatedField], [ErrVersion] (above 1), or
// [ErrRateLimitProof] (not empty). Nobody may be blamed for forwarding such a
// message: the verdict is Ignore, never Reject.
func (m *Message) Strict() error {
	switch {
	case m.wire&sawUnknown != 0:
		return ErrUnknownField
	case m.wire&sawRepeated != 0:
		return ErrRepeatedField
	case m.Version > 1:
		return ErrVersion
	case len(m.RateLimitProof) > 0:
		return ErrRateLimitProof
	}
	return nil
}
