package segment

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of SegmentMessage.
const (
	fieldWhole       protowire.Number = 1
	fieldIndex       protowire.Number = 2
	fieldCount       protowire.Number = 3
	fieldPayload     protowire.Number = 4
	fieldParityIndex protowire.Number = 5
	fieldParityCount protowire.Number = 6
)

// maxCount bounds the counts read. It is far from what can be put together.
const maxCount = math.MaxUint16

// Encode returns the segment's bytes.
func (s *Segment) Encode() []byte {
	b := make([]byte, 0, len(s.Payload)+HashLen+24)
	b = protowire.AppendTag(b, fieldWhole, protowire.BytesType)
	b = protowire.AppendBytes(b, s.Whole[:])
	index, count := fieldIndex, fieldCount
	if s.Parity {
		index, count = fieldParityIndex, fieldParityCount
	} else {
		b = appendNumber(b, index, s.Index)
		b = appendNumber(b, count, s.Count)
	}
	b = protowire.AppendTag(b, fieldPayload, protowire.BytesType)
	b = protowire.AppendBytes(b, s.Payload)
	if s.Parity {
		b = appendNumber(b, index, s.Index)
		b = appendNumber(b, count, s.Count)
	}
	return b
}

func appendNumber(b []byte, field protowire.Number, v int) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

// Decode reads a segment. Whatever can't be one is [ErrNotSegment]. As protobuf
// libraries do, it takes the last of a repeated field and skips unknown ones. The
// payload shares memory with b.
func Decode(b []byte) (*Segment, error) {
	s := new(Segment)
	var numbers [fieldParityCount + 1]uint64
	var whole []byte
	for len(b) > 0 {
		field, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, notSegment(protowire.ParseError(n).Error())
		}
		b = b[n:]
		switch {
		case field == fieldWhole && typ == protowire.BytesType:
			whole, n = protowire.ConsumeBytes(b)
		case field == fieldPayload && typ == protowire.BytesType:
			s.Payload, n = protowire.ConsumeBytes(b)
		case field <= fieldParityCount && field != fieldWhole && field != fieldPayload && typ == protowire.VarintType:
			numbers[field], n = protowire.ConsumeVarint(b)
		case field <= fieldParityCount:
			return nil, notSegment(fmt.Sprintf("field %d is of another type", field))
		default:
			n = skip(field, typ, b)
		}
		if n < 0 {
			return nil, notSegment(protowire.ParseError(n).Error())
		}
		b = b[n:]
	}
	if len(whole) != HashLen {
		return nil, notSegment(fmt.Sprintf("a hash of %d bytes", len(whole)))
	}
	s.Whole = Hash(whole)
	index, count := numbers[fieldIndex], numbers[fieldCount]
	if count == 0 {
		s.Parity = true
		index, count = numbers[fieldParityIndex], numbers[fieldParityCount]
	}
	switch {
	case count == 0:
		return nil, notSegment("no count")
	case count == 1 && !s.Parity:
		return nil, notSegment("the only one of its payload")
	case count > maxCount || index >= count:
		return nil, notSegment(fmt.Sprintf("index %d of %d", index, count))
	case len(s.Payload) == 0:
		return nil, notSegment("no payload")
	}
	s.Index, s.Count = int(index), int(count)
	return s, nil
}

// skip returns the length of an unknown field's value. Groups aren't skipped: no
// version of the record has any, and a stranger chooses how deep they go.
func skip(field protowire.Number, typ protowire.Type, b []byte) int {
	if typ == protowire.StartGroupType {
		return -1
	}
	return protowire.ConsumeFieldValue(field, typ, b)
}

func notSegment(why string) error { return fmt.Errorf("%w: %s", ErrNotSegment, why) }
