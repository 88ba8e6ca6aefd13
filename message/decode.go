package message

import (
	"errors"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// The tags of the fields, number<<3 | wire type.
const (
	tagPayload        = 1<<3 | uint64(protowire.BytesType)
	tagContentTopic   = 2<<3 | uint64(protowire.BytesType)
	tagVersion        = 3<<3 | uint64(protowire.VarintType)
	tagTimestamp      = 10<<3 | uint64(protowire.VarintType)
	tagMeta           = 11<<3 | uint64(protowire.BytesType)
	tagRateLimitProof = 21<<3 | uint64(protowire.BytesType)
	tagEphemeral      = 31<<3 | uint64(protowire.VarintType)
)

// maxGroupDepth is how deep groups may nest in an unknown field. It is what the
// Go protobuf library allows: with less, we would call damaged what others
// forward in good faith.
const maxGroupDepth = protowire.DefaultRecursionLimit + 1

// truncated is protowire's code for a value that ends too early.
var _, truncated = protowire.ConsumeVarint(nil)

var (
	errGroupDepth = errors.New("groups nested too deep")
	errGroupEnd   = errors.New("mismatching end group marker")
)

// Decode reads an encoded message. It accepts what a proto3 library accepts:
// any order of fields, the last value of a repeated one, unknown fields, which
// it skips. A known number with another wire type is an unknown field, and
// values too large for their field lose their upper bits.
//
// Payload, Meta and RateLimitProof alias b, so b must not change while the
// message is in use; [Message.Clone] cuts the tie. ContentTopic is a copy, but
// whoever keeps it keeps b too, unless it is cloned.
//
// The error is a [*DecodeError]; whether the message makes sense is for
// [Message.Validate] to say.
func Decode(b []byte) (*Message, error) {
	d := new(decoded)
	if off, err := d.decode(b); err != nil {
		return nil, &DecodeError{Offset: off, Err: err}
	}
	return &d.Message, nil
}

// decoded is a message with room for its content topic, so that decoding takes
// one allocation for all topics of the usual length.
type decoded struct {
	Message
	topic [32]byte
}

// decode fills in the zero value d; with an error comes the offset of the field
// at fault.
func (d *decoded) decode(in []byte) (int, error) {
	var (
		m     = &d.Message
		seen  Fields
		topic []byte // made a string once, however often it is repeated
		b     = in
	)
	for len(b) > 0 {
		off := len(in) - len(b)
		tag, n := consumeVarint(b)
		if n < 0 {
			return off, protowire.ParseError(n)
		}
		b = b[n:]

		var field Fields
		switch tag {
		case tagPayload:
			field = fieldPayload
			m.Payload, n = consumeBytes(b)
		case tagContentTopic:
			field = fieldContentTopic
			if topic, n = consumeBytes(b); !utf8.Valid(topic) {
				return off, ErrContentTopicUTF8
			}
		case tagMeta:
			field = FieldMeta
			m.Meta, n = consumeBytes(b)
		case tagRateLimitProof:
			field = FieldRateLimitProof
			m.RateLimitProof, n = consumeBytes(b)
		case tagVersion:
			var v uint64
			v, n = consumeVarint(b)
			field, m.Version = FieldVersion, uint32(v)
		case tagTimestamp:
			var v uint64
			v, n = consumeVarint(b)
			field, m.Timestamp = FieldTimestamp, protowire.DecodeZigZag(v)
		case tagEphemeral:
			var v uint64
			v, n = consumeVarint(b)
			field, m.Ephemeral = FieldEphemeral, v != 0
		default:
			var err error
			if n, err = skipUnknown(tag, b); err != nil {
				return off, err
			}
			m.wire |= sawUnknown
		}
		if n < 0 {
			return off, protowire.ParseError(n)
		}
		if seen&field != 0 {
			m.wire |= sawRepeated
		}
		seen |= field
		b = b[n:]
	}
	d.setTopic(topic)
	m.Explicit = seen & m.zeroFields()
	return 0, nil
}

// setTopic makes ContentTopic a copy of topic.
func (d *decoded) setTopic(topic []byte) {
	if len(topic) > len(d.topic) {
		d.ContentTopic = string(topic)
		return
	}
	// The string shares d.topic, which nothing writes to from here on.
	d.ContentTopic = unsafe.String(&d.topic[0], copy(d.topic[:], topic))
}

// zeroFields returns the optional fields that hold their zero value.
func (m *Message) zeroFields() Fields {
	zero := optionalFields
	if m.Version != 0 {
		zero &^= FieldVersion
	}
	if m.Timestamp != 0 {
		zero &^= FieldTimestamp
	}
	if len(m.Meta) != 0 {
		zero &^= FieldMeta
	}
	if len(m.RateLimitProof) != 0 {
		zero &^= FieldRateLimitProof
	}
	if m.Ephemeral {
		zero &^= FieldEphemeral
	}
	return zero
}

// consumeVarint is protowire.ConsumeVarint with a short way for one byte.
func consumeVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

// consumeBytes is protowire.ConsumeBytes, but an empty value is nil, and
// appending to a value never writes into what follows it.
func consumeBytes(b []byte) ([]byte, int) {
	size, n := consumeVarint(b)
	if n < 0 {
		return nil, n
	}
	if size > uint64(len(b)-n) {
		return nil, truncated
	}
	if size == 0 {
		return nil, n
	}
	end := n + int(size)
	return b[n:end:end], end
}

// skipUnknown returns the length of the value after tag.
func skipUnknown(tag uint64, b []byte) (int, error) {
	if n := tag >> 3; n < uint64(protowire.MinValidNumber) || n > uint64(protowire.MaxValidNumber) {
		return 0, ErrFieldNumber
	}
	num, typ := protowire.DecodeTag(tag)
	if typ == protowire.StartGroupType {
		return skipGroup(num, b)
	}
	n := protowire.ConsumeFieldValue(num, typ, b)
	return n, protowire.ParseError(n)
}

// skipGroup returns the length of what follows the start of group num, its end
// marker included. It keeps the open groups in a list, not on the call stack: a
// stranger chooses how many there are.
func skipGroup(num protowire.Number, b []byte) (int, error) {
	var few [16]protowire.Number
	open := append(few[:0], num)
	for i := 0; ; {
		num, typ, n := protowire.ConsumeTag(b[i:])
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		i += n
		switch typ {
		case protowire.StartGroupType:
			if len(open) == maxGroupDepth {
				return 0, errGroupDepth
			}
			open = append(open, num)
		case protowire.EndGroupType:
			if open[len(open)-1] != num {
				return 0, errGroupEnd
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				return i, nil
			}
		default:
			n := protowire.ConsumeFieldValue(num, typ, b[i:])
			if n < 0 {
				return 0, protowire.ParseError(n)
			}
			i += n
		}
	}
}
