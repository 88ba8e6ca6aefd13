package filter

import (
	"io"
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

// fields calls f for each field of b. Groups and fixed numbers, which no message
// here has, are skipped but for their numbers. The error is f's or ErrMalformed.
func fields(b []byte, f func(field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return damaged(n)
		}
		b = b[n:]
		x := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			x.value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			x.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return damaged(n)
		}
		b = b[n:]
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

// damaged words protowire's code. Its own words differ from build to build.
func damaged(n int) error {
	if protowire.ParseError(n) == io.ErrUnexpectedEOF {
		return malformed("cut short")
	}
	return malformed("no protobuf")
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

func appendString(b []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}
