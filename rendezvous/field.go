package rendezvous

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field as it stands on the wire.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	value uint64 // of a varint
	bytes []byte // of a length and bytes; aliases the input
}

// fields calls set for each field of b until it fails. Fields of other wire types
// than the two in use are passed on without a value.
func fields(b []byte, set func(f field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed("%v", protowire.ParseError(n))
		}
		b = b[n:]
		f := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return malformed("%v", protowire.ParseError(n))
		}
		b = b[n:]
		if err := set(f); err != nil {
			return err
		}
	}
	return nil
}

func (f field) varint(name string) (uint64, error) {
	if f.typ != protowire.VarintType {
		return 0, malformed("%s is no number", name)
	}
	return f.value, nil
}

// raw is never nil without an error.
func (f field) raw(name string) ([]byte, error) {
	switch {
	case f.typ != protowire.BytesType:
		return nil, malformed("%s has no length", name)
	case f.bytes == nil:
		return []byte{}, nil
	}
	return f.bytes, nil
}

func appendVarint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// appendLength begins a field of so many bytes.
func appendLength(b []byte, num protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(size))
}

// sizeBytes is the length of a field of so many bytes.
func sizeBytes(num protowire.Number, size int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(size)
}

// sizeVarint is the length of a field with the number v.
func sizeVarint(num protowire.Number, v uint64) int {
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}
