package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/wire"
)

func TestRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 1023, 1024, 1025, 4095, 65_536, 65_537, 1 << 20} {
		msg := bytes.Repeat([]byte{0xa5}, size)
		var buf bytes.Buffer
		require.NoError(t, wire.WriteFrame(&buf, msg))
		buf.WriteString("next")
		got, err := wire.ReadFrame(iotest.HalfReader(&buf), 1<<20)
		require.NoError(t, err)
		require.Equal(t, msg, got)
		require.Equal(t, "next", buf.String(), "nothing beyond the frame is read")
	}
}

func TestWriteFrameWritesOnce(t *testing.T) {
	var w countingWriter
	require.NoError(t, wire.WriteFrame(&w, make([]byte, 300)))
	require.Equal(t, countingWriter{calls: 1, bytes: 302}, w)
	broken := errors.New("broken")
	require.ErrorIs(t, wire.WriteFrame(iotestErrWriter{broken}, nil), broken)

	w = countingWriter{}
	require.NoError(t, wire.WriteFrame(&w, make([]byte, 65_537)))
	require.Equal(t, countingWriter{calls: 2, bytes: 65_540}, w, "long ones aren't copied")
}

type countingWriter struct{ calls, bytes int }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.calls++
	w.bytes += len(b)
	return len(b), nil
}

type iotestErrWriter struct{ err error }

func (w iotestErrWriter) Write([]byte) (int, error) { return 0, w.err }

func uvarint(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func TestRefused(t *testing.T) {
	tooLarge := func(size uint64) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var e *wire.FrameTooLargeError
			require.ErrorAs(t, err, &e)
			require.Equal(t, &wire.FrameTooLargeError{Size: size, Limit: 1024}, e)
		}
	}
	is := func(want error) func(*testing.T, error) {
		return func(t *testing.T, err error) { require.ErrorIs(t, err, want) }
	}
	ff := bytes.Repeat([]byte{0xff}, 16)
	for name, c := range map[string]struct {
		in    []byte
		check func(*testing.T, error)
	}{
		"nothing":               {nil, is(io.EOF)},
		"half a prefix":         {[]byte{0x80}, is(io.ErrUnexpectedEOF)},
		"prefix alone":          {[]byte{5}, is(io.ErrUnexpectedEOF)},
		"half a frame":          {[]byte{5, 1, 2}, is(io.ErrUnexpectedEOF)},
		"one over":              {uvarint(1025), tooLarge(1025)},
		"2^31-1":                {uvarint(math.MaxInt32), tooLarge(math.MaxInt32)},
		"2^63-1":                {uvarint(math.MaxInt64), tooLarge(math.MaxInt64)},
		"2^63":                  {uvarint(1 << 63), is(wire.ErrBadVarint)},
		"2^64-1":                {uvarint(math.MaxUint64), is(wire.ErrBadVarint)},
		"no end":                {ff, is(wire.ErrBadVarint)},
		"overlong zero":         {[]byte{0x80, 0x00}, is(wire.ErrBadVarint)},
		"overlong one":          {[]byte{0x81, 0x00, 7}, is(wire.ErrBadVarint)},
		"ten bytes for nothing": {append(bytes.Repeat([]byte{0x80}, 9), 0), is(wire.ErrBadVarint)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := wire.ReadFrame(bytes.NewReader(c.in), 1024)
			require.Nil(t, got)
			c.check(t, err)
		})
	}
	_, err := wire.ReadFrame(bytes.NewReader(uvarint(1)), -1)
	require.Error(t, err, "a negative limit allows only the empty frame")
	got, err := wire.ReadFrame(bytes.NewReader(uvarint(0)), 0)
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestReaderErrorIsKept(t *testing.T) {
	broken := errors.New("broken")
	_, err := wire.ReadFrame(io.MultiReader(bytes.NewReader([]byte{9, 1}), iotest.ErrReader(broken)), 1024)
	require.ErrorIs(t, err, broken)
}

// Announcing a lot and sending little must cost little.
func TestAnnouncementsAreCheap(t *testing.T) {
	const rounds, announced = 1000, 1 << 30
	var before, after runtime.MemStats
	in := append(uvarint(announced), make([]byte, 100)...)
	runtime.ReadMemStats(&before)
	for range rounds {
		_, err := wire.ReadFrame(bytes.NewReader(in), announced)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(rounds*4<<10))
}

func FuzzReadFrame(f *testing.F) {
	for _, n := range []uint64{0, 1, 127, 128, 1024, 1025, math.MaxInt32, math.MaxInt64, math.MaxUint64} {
		f.Add(append(uvarint(n), "some bytes"...))
	}
	f.Add([]byte{0x80, 0x00})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1024
		r := bytes.NewReader(in)
		got, err := wire.ReadFrame(iotest.OneByteReader(r), limit)
		if err != nil {
			require.Nil(t, got)
			return
		}
		require.LessOrEqual(t, len(got), limit)
		read := in[:len(in)-r.Len()]
		require.Equal(t, read, wire.AppendFrame(nil, got), "only the shortest form is accepted")
	})
}

func BenchmarkReadFrame(b *testing.B) {
	in := wire.AppendFrame(nil, make([]byte, 2048))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.ReadFrame(bytes.NewReader(in), 4096); err != nil {
			b.Fatal(err)
		}
	}
}
