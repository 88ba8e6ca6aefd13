package spool_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/spool"
)

// one returns the only file of a disk.
func (d *disk) one(t testing.TB) (name string, f *inode) {
	t.Helper()
	require.Len(t, d.files, 1)
	for name, f := range d.files {
		return name, f
	}
	return "", nil
}

// filled returns a disk with one segment of records, sealed or not.
func filled(t testing.TB, sealed bool, records ...string) *disk {
	t.Helper()
	d := newDisk()
	s, err := spool.Open("", spool.Config{FS: d})
	require.NoError(t, err)
	add(t, s, records...)
	if sealed {
		require.NoError(t, s.Close())
		return d
	}
	left := d.kill()
	require.NoError(t, s.Close())
	return left
}

// The format of the package comment, byte for byte.
func TestFormat(t *testing.T) {
	want, err := hex.DecodeString("a7726563" + "05000000" + "4cbb719a" + "2f57e273" + "68656c6c6f")
	require.NoError(t, err)
	d := newDisk()
	d.files["000000000000002a-5f3a91c4.spool"] = &inode{data: want}
	s := open(t, "", spool.Config{FS: d})
	require.Equal(t, []string{"hello"}, drain(t, s))

	d = filled(t, true, "hello", "")
	name, f := d.one(t)
	require.Equal(t, len("000000000000002a-5f3a91c4.spool"), len(name))
	require.True(t, strings.HasPrefix(name, "0000000000000001-"))
	require.Len(t, f.data, 16+5+16+24)
	require.Equal(t, want[:12], f.data[:12])
	require.Equal(t, "a7726563"+"00000000"+"00000000", hex.EncodeToString(f.data[21:33]))
	require.Equal(t, "a773656c"+"08000000", hex.EncodeToString(f.data[37:45]))
	require.Equal(t, "0200000000000000", hex.EncodeToString(f.data[53:]))
}

var samples = []string{"first", "", "the third is a little longer", "4", "fifth and last"}

// ends are the offsets at which records end.
func ends(records []string) (offsets []int) {
	at := 0
	for _, r := range records {
		at += 16 + len(r)
		offsets = append(offsets, at)
	}
	return offsets
}

func TestTornAnywhere(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		_, whole := filled(t, sealed, samples...).one(t)
		for size := range len(whole.data) {
			for _, junk := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\xa7rec", "\xa7"} {
				d := filled(t, sealed, samples...)
				_, f := d.one(t)
				f.data = append(slices.Clone(f.data[:size]), junk...)
				s, err := spool.Open("", spool.Config{FS: d})
				require.NoError(t, err)
				kept := 0
				for _, end := range ends(samples) {
					if end <= size {
						kept++
					}
				}
				require.EqualValues(t, kept, s.Stats().Records, "cut at %d", size)
				require.Equal(t, samples[:kept], append([]string{}, drain(t, s)...))
				require.Zero(t, s.Stats().Damaged)
				require.NoError(t, s.Close())
				require.Empty(t, d.files)
			}
		}
	}
}

// A bit that is wrong costs the record in which it is, and no other.
func TestFlippedBit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, sealed := range []bool{false, true} {
			_, whole := filled(t, sealed, samples...).one(t)
			for bit := range 8 * len(whole.data) {
				d := filled(t, sealed, samples...)
				_, f := d.one(t)
				f.data[bit/8] ^= 1 << (bit % 8)
				hit := slices.IndexFunc(ends(samples), func(end int) bool { return bit/8 < end })
				want := slices.Clone(samples)
				if hit >= 0 {
					want = slices.Delete(want, hit, hit+1)
				}
				s, err := spool.Open("", spool.Config{FS: d})
				require.NoError(t, err)
				require.Equal(t, want, drain(t, s), "bit %d", bit)
				stats := s.Stats()
				// Without a seal, the last record is a torn write.
				lost := min(1, len(samples)-len(want))
				if hit == len(samples)-1 && !sealed {
					lost = 0
				}
				require.EqualValues(t, lost, stats.Damaged, "bit %d", bit)
				require.Zero(t, stats.Bytes, "bit %d", bit)
				require.NoError(t, s.Close())
				require.Empty(t, d.files)
			}
		}
	})
}

// The same in a segment that is being written and read, over more than one
// record, with data that looks like records.
func TestDamageInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, err := spool.Open("", spool.Config{FS: d, MemoryBytes: 1})
		require.NoError(t, err)
		_, other := filled(t, true, "pretender", "another").one(t)
		var want []string
		for i := range 20 {
			r := fmt.Sprint(i, string(other.data))
			add(t, s, r)
			want = append(want, r)
		}
		_, f := d.one(t)
		size := 16 + len(want[0])
		for i := 5*size + 40; i < 8*size; i++ { // of 0 to 4, 5 to 7
			f.data[i] ^= 0xff
		}
		b, err := s.Next(t.Context(), 3, 0)
		require.NoError(t, err)
		require.Equal(t, want[:3], texts(b))
		b.Return()
		add(t, s, "more")
		got := drain(t, s)
		require.EqualValues(t, 3, s.Stats().Damaged)
		require.Equal(t, append(slices.Delete(want, 5, 8), "more"), got)
		add(t, s, "still")
		require.NoError(t, s.Close())
		s, err = spool.Open("", spool.Config{FS: d})
		require.NoError(t, err)
		require.Equal(t, "still", last(drain(t, s)))
		require.NoError(t, s.Close())
	})
}

func last(s []string) string { return s[len(s)-1] }

func TestFailingReads(t *testing.T) {
	d := newDisk()
	var fail int
	var victim string
	s := open(t, "", spool.Config{FS: d, SegmentBytes: 50, MemoryBytes: 1})
	d.fail = func(o op) error {
		if (o.name == "read" || o.name == "open") && o.file == victim && fail > 0 {
			fail--
			return errCrash
		}
		return nil
	}
	for i := range 9 {
		add(t, s, fmt.Sprintf("record number %d, of thirty-odd bytes", i))
	}
	names := func() (all []string) {
		for name := range d.files {
			all = append(all, name)
		}
		slices.Sort(all)
		return all
	}
	require.Greater(t, len(names()), 3)

	// Two failures are told, and nothing is lost.
	victim, fail = names()[0], 2
	for range 2 {
		_, err := s.Next(t.Context(), 1, 0)
		var disk *spool.DiskError
		require.ErrorAs(t, err, &disk)
		require.ErrorIs(t, err, errCrash)
		require.False(t, disk.NoSpace())
	}
	next(t, s, 1).Return()

	// A segment that can't be read at all is passed over, and stays.
	victim, fail = names()[1], 1000
	var got []string
	for s.Stats().Records > 0 {
		b, err := s.Next(t.Context(), 0, 0)
		if err == nil {
			got = append(got, texts(b)...)
			b.Done()
		}
	}
	lost := s.Stats().Damaged
	require.NotZero(t, lost)
	require.Len(t, got, 9-int(lost))
	require.Contains(t, d.files, victim)
	require.NoError(t, s.Close())

	// Also at Open; when the disk has recovered, it is there.
	s = open(t, "", spool.Config{FS: d})
	require.NotZero(t, s.Stats().Damaged)
	require.Zero(t, s.Stats().Records)
	add(t, s, "goes on")
	require.Equal(t, []string{"goes on"}, drain(t, s))
	require.NoError(t, s.Close())
	fail = 0
	s = open(t, "", spool.Config{FS: d})
	require.Len(t, drain(t, s), int(lost))
}

// A segment that vanishes takes only its own records along.
func TestVanishedSegment(t *testing.T) {
	d := newDisk()
	s := open(t, "", spool.Config{FS: d, SegmentBytes: 1, MemoryBytes: 1})
	add(t, s, "aa")
	add(t, s, "bb")
	for name := range d.files {
		if strings.HasPrefix(name, "0000000000000001") {
			require.NoError(t, d.Remove(name))
		}
	}
	require.Equal(t, []string{"bb"}, drain(t, s))
	require.EqualValues(t, 1, s.Stats().Damaged)
}

// The disk fills up and has room again: nothing earlier is harmed, and no
// restart is needed.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for limit := int64(1); limit < 400; limit++ {
			d := newDisk()
			s, err := spool.Open("", spool.Config{FS: d, SegmentBytes: 150, MemoryBytes: 30})
			require.NoError(t, err)
			var want []string
			put := func() error {
				batch := []string{fmt.Sprint("record ", len(want)), "and another"}
				err := s.Append(t.Context(), [][]byte{[]byte(batch[0]), []byte(batch[1])})
				if err == nil {
					want = append(want, batch...)
				}
				return err
			}
			d.limit = limit
			for err == nil {
				err = put()
			}
			var disk *spool.DiskError
			require.ErrorAs(t, err, &disk)
			require.ErrorIs(t, err, errNoSpace)
			require.True(t, disk.NoSpace())
			require.ErrorIs(t, put(), errNoSpace)
			require.EqualValues(t, len(want), s.Stats().Records)
			require.Equal(t, d.used(), s.Stats().DiskBytes)
			switch limit % 3 {
			case 0: // room from outside
				d.limit = 0
				require.NoError(t, put())
			case 1: // by handing out
				got := drain(t, s)
				require.Equal(t, want, append([]string(nil), got...))
				want = nil
			case 2: // after a restart
				require.NoError(t, s.Close())
				s, err = spool.Open("", spool.Config{FS: d})
				require.NoError(t, err)
			}
			d.limit = 0
			require.NoError(t, put())
			require.Equal(t, want, drain(t, s), "limit %d", limit)
			require.Zero(t, s.Stats().Damaged)
			require.NoError(t, s.Close())
			require.Empty(t, d.files)
		}
	})
}

// A file that can't be removed is removed later, and its room counts meanwhile.
func TestFailingRemove(t *testing.T) {
	d := newDisk()
	s := open(t, "", spool.Config{FS: d, SegmentBytes: 1})
	bad := true
	d.fail = func(o op) error {
		if o.name == "remove" && bad {
			return errCrash
		}
		return nil
	}
	for range 5 {
		add(t, s, "x")
	}
	require.Len(t, drain(t, s), 5)
	require.EqualValues(t, d.used(), s.Stats().DiskBytes)
	require.Len(t, d.files, 5)
	d.mu.Lock()
	bad = false
	d.mu.Unlock()
	add(t, s, "y")
	drain(t, s)
	require.Len(t, d.files, 1)
	require.EqualValues(t, d.used(), s.Stats().DiskBytes)
}

// Opening reads the seals and no more.
func TestOpenIsLazy(t *testing.T) {
	d := newDisk()
	cfg := spool.Config{FS: d, SegmentBytes: 10_000}
	s, err := spool.Open("", cfg)
	require.NoError(t, err)
	for range 200 {
		add(t, s, string(make([]byte, 1000)))
	}
	require.NoError(t, s.Close())
	n := len(d.files)
	require.Greater(t, n, 15)
	reads := 0
	d.fail = func(o op) error {
		if o.name == "read" {
			reads++
		}
		return nil
	}
	began := time.Now()
	s = open(t, "", cfg)
	t.Log(time.Since(began))
	require.Equal(t, n, reads)
	require.EqualValues(t, 200, s.Stats().Records)
	require.EqualValues(t, 200_000, s.Stats().Bytes)
	require.Len(t, drain(t, s), 200)
}
