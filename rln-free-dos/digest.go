package dosguard

import (
	"crypto/sha256"
	"encoding/binary"
	"unsafe"

	"github.com/status-im/shoal/message"
)

// Digest returns what a community signs, the app-message-hash of
// 57/STATUS-SIMPLE-SCALING:
//
//	sha256(pubsub topic ‖ payload ‖ content topic ‖ timestamp ‖ ephemeral)
//
// with the timestamp as eight bytes, little-endian, and ephemeral as one byte, 0
// or 1. It covers neither meta, where the signature is, nor version or rate
// limit proof. It isn't the deterministic hash that names a message, see
// [message.Message.Hash]. It doesn't allocate.
func Digest(pubsubTopic string, m *message.Message) [32]byte {
	var tail [9]byte
	binary.LittleEndian.PutUint64(tail[:], uint64(m.Timestamp))
	if m.Ephemeral {
		tail[8] = 1
	}
	h := sha256.New()
	h.Write(view(pubsubTopic))
	h.Write(m.Payload)
	h.Write(view(m.ContentTopic))
	h.Write(tail[:])
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

// view returns the bytes of s without a copy, to be read only.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// Sign puts the signature of m on a pubsub topic into m.Meta. Payload, content
// topic, timestamp and ephemeral must be final; version and rate limit proof
// aren't covered. The error is a [*RefusedError] of [ReasonNoTimestamp], for a
// message that every verifier would reject.
func (k *PrivateKey) Sign(pubsubTopic string, m *message.Message) error {
	if m.Timestamp == 0 {
		return &RefusedError{Reason: ReasonNoTimestamp}
	}
	m.Meta = k.SignDigest(Digest(pubsubTopic, m))
	return nil
}
