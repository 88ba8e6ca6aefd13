package lightpush

import (
	"unicode/utf8"

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

func (f field) raw(name string) ([]byte, error) {
	if f.typ != protowire.BytesType {
		return nil, malformed("%s has no length", name)
	}
	return f.bytes, nil
}

func (f field) text(name string) (string, error) {
	b, err := f.raw(name)
	if err == nil && !utf8.Valid(b) {
		err = malformed("%s is not UTF-8", name)
	}
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// id is a request id.
func (f field) id() (string, error) {
	if len(f.bytes) > maxID {
		return "", malformed("request_id is longer than %d bytes", maxID)
	}
	return f.text("request_id")
}

// isID says whether id has no error.
func (f field) isID() bool {
	return f.typ == protowire.BytesType && len(f.bytes) <= maxID && utf8.Valid(f.bytes)
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendVarint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// appendLength begins a field of so many bytes.
func appendLength(b []byte, num protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(size))
}

// sizeBytes is the length of a field of so many bytes.
func sizeBytes(num protowire.Number, size int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(size)
}
