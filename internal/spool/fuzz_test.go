package spool_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/spool"
)

const fuzzName = "0000000000000001-00000000.spool"

// FuzzOpen reads any file as a segment. The spool must not be harmed, and what
// is appended then must come out.
func FuzzOpen(f *testing.F) {
	plain := func(sealed bool) []byte {
		_, file := filled(f, sealed, samples...).one(f)
		return file.data
	}
	f.Add([]byte(nil), []byte(nil))
	f.Add(plain(true), []byte{3, 0, 1})
	f.Add(plain(false), []byte{200, 0, 1})
	f.Add([]byte("\xa7rec\xff\xff\xff\xff\xa7rec\xa7rec\x00\x00\x00\x00\x00\x00\x00\x00"), []byte(nil))
	f.Fuzz(func(t *testing.T, data, flips []byte) {
		// Sums are hard to guess: a good segment, with damage, and then the data.
		d := filled(t, len(flips)%2 == 0, samples...)
		name, file := d.one(t)
		for ; len(flips) >= 3; flips = flips[3:] {
			file.data[int(binary.LittleEndian.Uint16(flips))%len(file.data)] ^= flips[2]
		}
		file.data = append(file.data, data...)
		d.files[fuzzName] = &inode{data: data}
		require.NotEqual(t, fuzzName, name)

		s, err := spool.Open("", spool.Config{FS: d})
		require.NoError(t, err)
		before := s.Stats()
		require.LessOrEqual(t, before.Records, int64(len(data)/8+2*len(samples)))
		require.NoError(t, s.Append(t.Context(), [][]byte{[]byte("the end")}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for {
			b, err := s.Next(ctx, 0, 0)
			require.NoError(t, err)
			b.Done()
			if string(b.Records[len(b.Records)-1]) == "the end" {
				break
			}
		}
		require.NoError(t, s.Wait(ctx, s.Position()))
		require.Zero(t, s.Stats().Records)
		require.Zero(t, s.Stats().Bytes)
		require.NoError(t, s.Close())
		require.Empty(t, d.files)
	})
}
