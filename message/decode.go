package message

import (
	"errors"
	"unicode/utf8"

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

var (
	errFieldNumber = errors.New("field number out of range")
	errGroupDepth  = errors.New("groups nested too deep")
	errGroupEnd    = errors.New("mismatching end group marker")
)

// Decode reads an encoded message. It accepts what a proto3 library accepts:
// any order of fields, the last value of a repeated one, unknown fields, which
// it skips. A known number with another wire type is an unknown field, and
// values too large for their field lose their upper bits.
//
// Payload, Meta and RateLimitProof alias b, so b must not change while the
// message is in use; [Message.Clone] cuts the tie. ContentTopic is a copy.
//
// The error is a [*DecodeError]; whether the message makes sense is for
// [Message.Validate] to say.
func Decode(b []byte) (*Message, error) {
	m := new(Message)
	if off, err := m.decode(b); err != nil {
		return nil, &DecodeError{Offset: off, Err: err}
	}
	return m, nil
}

// decode fills in the zero message m; with an error comes the offset of the
// field at fault.
func (m *Message) decode(b []byte) (int, error) {
	var seen Fields
	for i := 0; i < len(b); {
		tag, n := consumeVarint(b[i:])
		if n < 0 {
			return i, protowire.ParseError(n)
		}
		rest := b[i+n:]

		var (
			field Fields
			v     uint64
			s     []byte
		)
		switch tag {
		case tagPayload, tagContentTopic, tagMeta, tagRateLimitProof:
			s, n = consumeBytes(rest)
		case tagVersion, tagTimestamp, tagEphemeral:
			v, n = consumeVarint(rest)
		default:
			var err error
			if n, err = skipUnknown(tag, rest); err != nil {
				return i, err
			}
			m.wire |= sawUnknown
		}
		if n < 0 {
			return i, protowire.ParseError(n)
		}

		switch tag {
		case tagPayload:
			field, m.Payload = fieldPayload, s
		case tagContentTopic:
			if !utf8.Valid(s) {
				return i, ErrContentTopicUTF8
			}
			field, m.ContentTopic = fieldContentTopic, string(s)
		case tagVersion:
			field, m.Version = FieldVersion, uint32(v)
		case tagTimestamp:
			field, m.Timestamp = FieldTimestamp, protowire.DecodeZigZag(v)
		case tagMeta:
			field, m.Meta = FieldMeta, s
		case tagRateLimitProof:
			field, m.RateLimitProof = FieldRateLimitProof, s
		case tagEphemeral:
			field, m.Ephemeral = FieldEphemeral, v != 0
		}
		if seen&field != 0 {
			m.wire |= sawRepeated
		}
		seen |= field
		i = len(b) - len(rest) + n
	}
	m.Explicit = seen & m.zeroFields()
	return 0, nil
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
	v, n := protowire.ConsumeBytes(b)
	if len(v) == 0 {
		return nil, n
	}
	return v[:len(v):len(v)], n
}

// skipUnknown returns the length of the value after tag.
func skipUnknown(tag uint64, b []byte) (int, error) {
	if n := tag >> 3; n < uint64(protowire.MinValidNumber) || n > uint64(protowire.MaxValidNumber) {
		return 0, errFieldNumber
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
