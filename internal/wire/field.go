package wire

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed is what the error is, by errors.Is, of bytes that aren't the message
// they should be.
var ErrMalformed = errors.New("malformed")

// Malformed returns an ErrMalformed that says what is wrong.
func Malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Field is one field of a protobuf message as it stands on the wire.
type Field struct {
	Num   protowire.Number
	Type  protowire.Type
	Value uint64 // of a varint
	Bytes []byte // of a length and bytes; aliases the input
}

// Fields calls f for each field of b until it fails. Groups and fixed numbers, which
// no message of Waku's services has, come without a value. The error is f's or
// ErrMalformed.
func Fields(b []byte, f func(Field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return damaged(n)
		}
		b = b[n:]
		x := Field{Num: num, Type: typ}
		switch typ {
		case protowire.VarintType:
			x.Value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			x.Bytes, n = protowire.ConsumeBytes(b)
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
		return Malformed("cut short")
	}
	return Malformed("no protobuf")
}

// Varint returns the number, or ErrMalformed with the field's name.
func (f Field) Varint(name string) (uint64, error) {
	if f.Type != protowire.VarintType {
		return 0, Malformed("%s is no number", name)
	}
	return f.Value, nil
}

// Raw returns the bytes, which alias the input and are never nil, or ErrMalformed
// with the field's name.
func (f Field) Raw(name string) ([]byte, error) {
	if f.Type != protowire.BytesType {
		return nil, Malformed("%s has no length", name)
	}
	if f.Bytes == nil {
		return []byte{}, nil
	}
	return f.Bytes, nil
}

// Text returns the bytes as text, or ErrMalformed with the field's name, also if they
// aren't UTF-8.
func (f Field) Text(name string) (string, error) {
	b, err := f.Raw(name)
	if err == nil && !utf8.Valid(b) {
		err = Malformed("%s is not UTF-8", name)
	}
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// AppendVarint appends a field with a number.
func AppendVarint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// AppendString appends a field with text.
func AppendString(b []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// AppendBytes appends a field with bytes.
func AppendBytes(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// AppendLength begins a field of so many bytes.
func AppendLength(b []byte, num protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(size))
}

// SizeBytes is the length of a field of so many bytes.
func SizeBytes(num protowire.Number, size int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(size)
}

// SizeVarint is the length of a field with the number v.
func SizeVarint(num protowire.Number, v uint64) int {
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}
