package wire_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
)

// Fields are told in the order in which they stand, repeated ones each time.
func TestFields(t *testing.T) {
	b := wire.AppendVarint(nil, 1, 300)
	b = wire.AppendString(b, 2, "über")
	b = wire.AppendBytes(b, 2, nil)
	b = append(b, 0x1d, 1, 2, 3, 4) // field 3, fixed 32 bits
	b = wire.AppendLength(b, 4, 2)
	b = append(b, 8, 9)
	require.Equal(t, "08ac02"+"1205c3bc626572"+"1200"+"1d01020304"+"22020809", hex.EncodeToString(b))

	var nums []int
	require.NoError(t, wire.Fields(b, func(f wire.Field) error {
		nums = append(nums, int(f.Num))
		switch len(nums) {
		case 1:
			v, err := f.Varint("number")
			assert.NoError(t, err)
			assert.EqualValues(t, 300, v)
			_, err = f.Raw("number")
			assert.ErrorIs(t, err, wire.ErrMalformed)
			assert.EqualError(t, err, "malformed: number has no length")
		case 2:
			s, err := f.Text("name")
			assert.NoError(t, err)
			assert.Equal(t, "über", s)
			_, err = f.Varint("name")
			assert.EqualError(t, err, "malformed: name is no number")
		case 3:
			raw, err := f.Raw("empty")
			assert.NoError(t, err)
			assert.Equal(t, []byte{}, raw, "empty isn't absent")
		}
		return nil
	}))
	assert.Equal(t, []int{1, 2, 2, 3, 4}, nums)
}

// What isn't a message is ErrMalformed, and the caller's own error passes.
func TestFieldsRefused(t *testing.T) {
	for in, want := range map[string]string{
		"0a":                       "malformed: cut short",
		"0a05616263":               "malformed: cut short",
		"08":                       "malformed: cut short",
		"00":                       "malformed: no protobuf",
		"08ffffffffffffffffffff01": "malformed: no protobuf",
		"0f":                       "malformed: no protobuf",
	} {
		b, err := hex.DecodeString(in)
		require.NoError(t, err)
		err = wire.Fields(b, func(wire.Field) error { return nil })
		assert.ErrorIs(t, err, wire.ErrMalformed, in)
		assert.EqualError(t, err, want, in)
	}
	err := wire.Fields([]byte{0x0a, 1, 0xff}, func(f wire.Field) error {
		_, err := f.Text("name")
		return err
	})
	assert.EqualError(t, err, "malformed: name is not UTF-8")
	assert.ErrorIs(t, wire.Fields([]byte{8, 1}, func(wire.Field) error { return assert.AnError }), assert.AnError)
}

// A size is what appending takes.
func TestSizes(t *testing.T) {
	for _, num := range []protowire.Number{1, 15, 16, 5001} {
		for _, size := range []int{0, 1, 127, 128, 70_000} {
			assert.Len(t, wire.AppendBytes(nil, num, make([]byte, size)), wire.SizeBytes(num, size))
			assert.Len(t, wire.AppendVarint(nil, num, uint64(size)), wire.SizeVarint(num, uint64(size)))
		}
	}
}
