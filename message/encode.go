package message

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Size returns the length of [Message.Encode], in bytes.
func (m *Message) Size() int {
	n := 1 + protowire.SizeBytes(len(m.Payload)) +
		1 + protowire.SizeBytes(len(m.ContentTopic))
	on := m.written()
	if on.Has(FieldVersion) {
		n += 1 + protowire.SizeVarint(uint64(m.Version))
	}
	if on.Has(FieldTimestamp) {
		n += 1 + protowire.SizeVarint(protowire.EncodeZigZag(m.Timestamp))
	}
	if on.Has(FieldMeta) {
		n += 1 + protowire.SizeBytes(len(m.Meta))
	}
	if on.Has(FieldRateLimitProof) {
		n += 2 + protowire.SizeBytes(len(m.RateLimitProof))
	}
	if on.Has(FieldEphemeral) {
		n += 2 + 1
	}
	return n
}

// Encode returns m in the form that is published, fields in the order of their
// numbers. Payload and content topic are always written; optional fields if
// they aren't zero, or are named in Explicit. Encode doesn't judge: see
// [Message.Validate].
func (m *Message) Encode() []byte {
	return m.AppendTo(nil)
}

// AppendTo appends what [Message.Encode] returns to dst.
func (m *Message) AppendTo(dst []byte) []byte {
	dst = slices.Grow(dst, m.Size())
	dst = appendTag(dst, tagPayload)
	dst = protowire.AppendBytes(dst, m.Payload)
	dst = appendTag(dst, tagContentTopic)
	dst = protowire.AppendString(dst, m.ContentTopic)
	on := m.written()
	if on.Has(FieldVersion) {
		dst = appendTag(dst, tagVersion)
		dst = protowire.AppendVarint(dst, uint64(m.Version))
	}
	if on.Has(FieldTimestamp) {
		dst = appendTag(dst, tagTimestamp)
		dst = protowire.AppendVarint(dst, protowire.EncodeZigZag(m.Timestamp))
	}
	if on.Has(FieldMeta) {
		dst = appendTag(dst, tagMeta)
		dst = protowire.AppendBytes(dst, m.Meta)
	}
	if on.Has(FieldRateLimitProof) {
		dst = appendTag(dst, tagRateLimitProof)
		dst = protowire.AppendBytes(dst, m.RateLimitProof)
	}
	if on.Has(FieldEphemeral) {
		dst = appendTag(dst, tagEphemeral)
		dst = protowire.AppendVarint(dst, protowire.EncodeBool(m.Ephemeral))
	}
	return dst
}

// written returns the optional fields that belong on the wire.
func (m *Message) written() Fields {
	return m.Explicit | optionalFields&^m.zeroFields()
}

func appendTag(dst []byte, tag uint64) []byte {
	return protowire.AppendVarint(dst, tag)
}
