// Package segment cuts what is too large for one message into several, and puts it
// together again, the way Status does: slices in order, and Reed–Solomon parity
// that makes up for lost ones.
//
// [Split] and [Assembler.Add] are all that most need. Each segment travels as the
// payload of a message of its own, or inside what encrypts that payload.
//
// # The bytes
//
// A segment is a protobuf (proto3) record, SegmentMessage. Its fields, with the tags
// that they begin with:
//
//	tag  field                     data segment           parity segment
//	0a   1 entire_message_hash     keccak256 of the whole the same
//	10   2 index                   0 … n−1                absent
//	18   3 segments_count          n, at least 2          absent
//	22   4 payload                 a slice                a block of parity
//	28   5 parity_segment_index    absent                 0 … p−1
//	30   6 parity_segments_count   absent                 p
//
// What fits one segment is sent as it is, without a record around it: so a receiver
// takes for a segment what reads as one, and for a message whatever doesn't.
//
// All slices but the last are as long as the segment size ([Size]). There are n/8
// parity blocks, rounded down: none below eight slices, and none if there would be
// more than 256 in all. They are those of the systematic Reed–Solomon code over
// GF(2⁸) with the polynomial 0x11d, whose Vandermonde matrix V[r][c] = rᶜ is
// normalised by the inverse of its top square; the last slice counts as if zeros
// filled it up. Any n of the n+p segments, one of them data, make the whole.
//
// A parity segment doesn't say how long the last slice is. When that one is missing
// it comes out with its zeros, and the hash tells how many of them to drop.
//
// # What strangers send
//
// [Decode] is bounded by its input. An [Assembler] holds what it is given up to
// limits, for each sender and for all together; a whole is given out only if its
// hash is right.
package segment

import (
	"encoding/hex"

	"golang.org/x/crypto/sha3"
)

const (
	// MaxSegments is the largest number of slices of one payload. Status has no
	// such limit; no parity goes with more.
	MaxSegments = 256
	// HashLen is the length of a [Hash] in bytes.
	HashLen = 32

	// parityShare is how many slices there are to one block of parity.
	parityShare = 8
)

// Hash is the keccak256 of a whole payload, which its segments name.
type Hash [HashLen]byte

// String returns 0x and 64 hexadecimal digits.
func (h Hash) String() string { return "0x" + hex.EncodeToString(h[:]) }

// Sum returns the hash of a whole payload.
func Sum(payload []byte) (h Hash) {
	k := sha3.NewLegacyKeccak256()
	k.Write(payload)
	k.Sum(h[:0])
	return h
}

// Size returns the longest payload that Status leaves in one message, and the length
// of a slice of a longer one, where an encoded message may have so many bytes: three
// quarters of them. The rest is for encryption and fields.
func Size(maxMessageSize int) int { return maxMessageSize / 4 * 3 }

// Segment is one part of a payload: a slice, or a block of parity.
type Segment struct {
	// Whole is the hash of the whole payload.
	Whole Hash
	// Parity is true for a block of parity.
	Parity bool
	// Index is the segment's place among Count slices, or among Count blocks of
	// parity.
	Index, Count int
	// Payload is the slice or the block. It isn't empty.
	Payload []byte
}
