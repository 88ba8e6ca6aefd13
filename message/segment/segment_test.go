package segment_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/status-im/shoal/message/segment"
)

type vector struct {
	Name     string
	Size     int
	Payload  string
	Hash     string
	Segments []string
}

func vectors(t testing.TB) []vector {
	b, err := os.ReadFile("testdata/segments.json")
	require.NoError(t, err)
	var file struct{ Cases []vector }
	require.NoError(t, json.Unmarshal(b, &file))
	require.NotEmpty(t, file.Cases)
	return file.Cases
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			payload := unhex(t, v.Payload)
			assert.Equal(t, v.Hash, segment.Sum(payload).String())
			segments, err := segment.Split(payload, v.Size)
			require.NoError(t, err)
			got := []string{}
			for _, s := range segments {
				got = append(got, hex.EncodeToString(s.Encode()))
				back, err := segment.Decode(s.Encode())
				require.NoError(t, err)
				assert.Equal(t, s, back)
			}
			assert.Equal(t, v.Segments, got)
		})
	}
}

func random(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func split(t testing.TB, payload []byte, size int) []*segment.Segment {
	segments, err := segment.Split(payload, size)
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	return segments
}

// Whatever parity allows to be lost may be lost, in any order, the last slice too.
func TestLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 40).Draw(t, "size")
		n := rapid.IntRange(2, 70).Draw(t, "slices")
		length := (n-1)*size + rapid.IntRange(1, size).Draw(t, "last")
		payload := rapid.SliceOfN(rapid.Byte(), length, length).Draw(t, "payload")
		for i := range rapid.IntRange(0, min(length, size+2)).Draw(t, "zeros") {
			payload[length-1-i] = 0
		}
		segments, err := segment.Split(payload, size)
		if err != nil {
			t.Fatal(err)
		}
		perm := rapid.Permutation(segments).Draw(t, "order")
		lost := rapid.IntRange(0, n/8).Draw(t, "lost")
		a := segment.NewAssembler(segment.Config{})
		var got []byte
		for i, s := range perm[lost:] {
			whole, err := a.Add("ana", s)
			if err != nil {
				t.Fatal(err)
			}
			if whole != nil && got != nil {
				t.Fatal("given out twice")
			}
			if whole != nil {
				got = whole
				if i+1 < n {
					t.Fatalf("whole after %d of %d", i+1, n)
				}
			}
		}
		if !bytes.Equal(got, payload) {
			t.Fatalf("got %d bytes, want %d", len(got), len(payload))
		}
	})
}

func TestRepeats(t *testing.T) {
	payload := random(1, 9*100+7)
	segments := split(t, payload, 100)
	a := segment.NewAssembler(segment.Config{})
	for _, s := range segments[:8] {
		for range 3 {
			whole, err := a.Add("ana", s)
			require.NoError(t, err)
			require.Nil(t, whole)
		}
	}
	have, need := a.Progress("ana", segment.Sum(payload))
	assert.Equal(t, [2]int{8, 10}, [2]int{have, need})
	for _, s := range segments[8:10] {
		whole, err := a.Add("ana", s)
		require.NoError(t, err)
		assert.Equal(t, s.Index == 9, whole != nil)
	}
	assert.True(t, a.Has("ana", segment.Sum(payload)))
	whole, err := a.Add("ana", segments[10])
	require.NoError(t, err)
	assert.Nil(t, whole, "parity that comes late")
	st := a.Stats()
	assert.Equal(t, segment.Stats{Completed: 1, Repeats: 17}, st)
}

// A last slice that is lost comes back without its padding. Where its end can't be
// known it is waited for.
func TestLastSlice(t *testing.T) {
	for _, c := range []struct {
		name   string
		zeros  int
		length int
		found  bool
	}{
		{"full", 0, 8 * 10000, true},
		{"one byte", 0, 7*10000 + 1, true},
		{"ends with some zeros", 300, 7*10000 + 5000, true},
		{"ends with more zeros than are tried", 4999, 7*10000 + 5000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			payload := random(2, c.length)
			clear(payload[c.length-c.zeros:])
			payload[c.length-c.zeros-1] = 1
			segments := split(t, payload, 10000)
			require.Len(t, segments, 9)
			a := segment.NewAssembler(segment.Config{})
			var got []byte
			add := func(s *segment.Segment) {
				whole, err := a.Add("ana", s)
				require.NoError(t, err)
				if whole != nil {
					got = whole
				}
			}
			for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 8} {
				add(segments[i])
			}
			assert.Equal(t, c.found, got != nil)
			add(segments[7])
			assert.Equal(t, payload, got)
		})
	}
}

func TestNotSegments(t *testing.T) {
	hash := append([]byte{0x0a, 32}, make([]byte, 32)...)
	with := func(more ...byte) []byte { return append(slices.Clone(hash), more...) }
	for name, b := range map[string][]byte{
		"empty":                    nil,
		"text":                     []byte("hello, world"),
		"no hash":                  {0x18, 2, 0x22, 1, 'x'},
		"a short hash":             {0x0a, 1, 0, 0x18, 2, 0x22, 1, 'x'},
		"no counts":                with(0x22, 1, 'x'),
		"one slice":                with(0x18, 1, 0x22, 1, 'x'),
		"one slice and parity":     with(0x18, 1, 0x22, 1, 'x', 0x30, 1),
		"index beyond":             with(0x10, 2, 0x18, 2, 0x22, 1, 'x'),
		"parity index beyond":      with(0x22, 1, 'x', 0x28, 1, 0x30, 1),
		"no payload":               with(0x18, 2),
		"an enormous count":        with(0x18, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x22, 1, 'x'),
		"index of another type":    with(0x12, 1, 'x', 0x18, 2, 0x22, 1, 'x'),
		"a group":                  with(0x18, 2, 0x22, 1, 'x', 0x3b, 0x3c),
		"cut":                      with(0x18, 2, 0x22, 9, 'x'),
		"an encryption envelope":   {0x12, 3, 'a', 'b', 'c', 0xb2, 0x06, 1, 'x'},
		"an overlong varint field": with(0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1),
	} {
		_, err := segment.Decode(b)
		require.ErrorIs(t, err, segment.ErrNotSegment, name)
	}
	s, err := segment.Decode(with(0x18, 2, 0x22, 1, 'x', 0x38, 1, 0x10, 1))
	require.NoError(t, err, "unknown fields, any order")
	assert.Equal(t, &segment.Segment{Index: 1, Count: 2, Payload: []byte("x")}, s)
}

func TestTooLarge(t *testing.T) {
	_, err := segment.Split(make([]byte, 257*10), 10)
	var large *segment.TooLargeError
	require.ErrorAs(t, err, &large)
	assert.Equal(t, segment.TooLargeError{Size: 2570, Limit: 2560}, *large)
	assert.Contains(t, err.Error(), "2560")
	_, err = segment.Split(nil, 0)
	require.Error(t, err)

	a := segment.NewAssembler(segment.Config{MaxWhole: 1000})
	for _, s := range []*segment.Segment{
		{Index: 0, Count: 11, Payload: make([]byte, 100)},
		{Index: 10, Count: 11, Payload: make([]byte, 100)},
		{Index: 0, Count: 257, Payload: []byte{1}},
		{Parity: true, Index: 0, Count: 1, Payload: make([]byte, 1000)},
	} {
		_, err := a.Add("ana", s)
		require.ErrorAs(t, err, &large, "%+v", s)
	}
	assert.Equal(t, segment.Stats{Refused: 4}, a.Stats())
	assert.Equal(t, 786432, segment.Size(1<<20))
	assert.Equal(t, 115200, segment.Size(150<<10))
}

func TestContradictions(t *testing.T) {
	payload := random(3, 16*20-1)
	good := split(t, payload, 20)
	change := func(i int, f func(*segment.Segment)) *segment.Segment {
		s := *good[i]
		s.Payload = slices.Clone(s.Payload)
		f(&s)
		return &s
	}
	a := segment.NewAssembler(segment.Config{})
	for _, s := range []*segment.Segment{good[0], good[16]} {
		_, err := a.Add("ana", s)
		require.NoError(t, err)
	}
	for name, s := range map[string]*segment.Segment{
		"another slice":       change(0, func(s *segment.Segment) { s.Payload[0]++ }),
		"another count":       change(1, func(s *segment.Segment) { s.Count++ }),
		"another parity":      change(16, func(s *segment.Segment) { s.Payload[0]++ }),
		"count of parity":     change(17, func(s *segment.Segment) { s.Count++ }),
		"a shorter slice":     change(1, func(s *segment.Segment) { s.Payload = s.Payload[1:] }),
		"a longer parity":     change(17, func(s *segment.Segment) { s.Payload = append(s.Payload, 1) }),
		"a longer last slice": change(15, func(s *segment.Segment) { s.Payload = append(s.Payload, 1, 2) }),
		"too much parity":     change(17, func(s *segment.Segment) { s.Count = 255 }),
	} {
		_, err := a.Add("ana", s)
		require.ErrorIs(t, err, segment.ErrContradiction, name)
	}
	// Another sender's bad segments are its own.
	_, err := a.Add("mallory", change(1, func(s *segment.Segment) { s.Payload[0]++ }))
	require.NoError(t, err)
	var got []byte
	for _, s := range good {
		whole, err := a.Add("ana", s)
		require.NoError(t, err)
		if whole != nil {
			got = whole
		}
	}
	assert.Equal(t, payload, got)
}

// What isn't what its hash says is forgotten, and can be sent again.
func TestSpoiled(t *testing.T) {
	payload := random(4, 8*20)
	a := segment.NewAssembler(segment.Config{})
	for _, lost := range []int{-1, 3, 7} {
		spoil := split(t, payload, 20)
		spoil[1].Payload = slices.Clone(spoil[1].Payload)
		spoil[1].Payload[5]++
		var err error
		for i, s := range spoil {
			if i == lost || err != nil {
				continue
			}
			var whole []byte
			whole, err = a.Add("ana", s)
			require.Nil(t, whole)
		}
		require.ErrorIs(t, err, segment.ErrSpoiled, "without %d", lost)
	}
	assert.Equal(t, segment.Stats{Spoiled: 3}, a.Stats())
	var got []byte
	for _, s := range split(t, payload, 20) {
		whole, err := a.Add("ana", s)
		require.NoError(t, err)
		if whole != nil {
			got = whole
		}
	}
	assert.Equal(t, payload, got)
}

// Half messages without end, of one sender and of many, take no more room than there
// is, and don't push out what is under way.
func TestHostileHalves(t *testing.T) {
	now := time.Unix(1700000000, 0)
	cfg := segment.Config{MaxWhole: 1 << 20, MaxSender: 2 << 20, MaxBytes: 4 << 20, Now: func() time.Time { return now }}
	a := segment.NewAssembler(cfg)
	payload := random(5, 1<<20)
	good := split(t, payload, 32<<10)
	var got []byte
	junk, peak := 0, 0
	for _, s := range good {
		for i := range 50 {
			sender := "mallory"
			if i%2 == 1 {
				sender = fmt.Sprintf("mallory %d", junk)
			}
			junk++
			bad := &segment.Segment{Whole: segment.Sum(fmt.Append(nil, junk)), Index: junk % 7, Count: 8, Payload: make([]byte, 1+junk*37%2000)}
			if junk%3 == 0 {
				bad.Parity = true
			}
			_, err := a.Add(sender, bad)
			require.NoError(t, err)
			peak = max(peak, a.Stats().Bytes)
		}
		whole, err := a.Add("ana", s)
		require.NoError(t, err)
		if whole != nil {
			got = whole
		}
	}
	assert.Equal(t, payload, got)
	st := a.Stats()
	assert.LessOrEqual(t, peak, 4<<20)
	assert.Positive(t, st.Held)

	// One alone never has more than its share.
	b := segment.NewAssembler(cfg)
	for i := range 10000 {
		_, err := b.Add("mallory", &segment.Segment{Whole: segment.Sum(fmt.Append(nil, i)), Count: 2, Payload: make([]byte, 1000)})
		require.NoError(t, err)
		require.LessOrEqual(t, b.Stats().Bytes, 2<<20)
	}
	assert.Positive(t, b.Stats().Evicted)
	b.Forget("mallory", segment.Sum(fmt.Append(nil, 9999)))
	held := b.Stats().Held
	now = now.Add(25 * time.Hour)
	_, err := b.Add("ana", good[0])
	require.NoError(t, err)
	assert.Equal(t, 1, b.Stats().Held, "of %d", held)
}

// What is remembered of payloads that were given out is bounded too.
func TestForgetsWholes(t *testing.T) {
	a := segment.NewAssembler(segment.Config{Remember: 2})
	give := func(seed uint64) (whole []byte) {
		for _, s := range split(t, random(seed, 20), 10) {
			var err error
			whole, err = a.Add("ana", s)
			require.NoError(t, err)
		}
		return whole
	}
	for seed := range uint64(3) {
		assert.NotNil(t, give(seed))
	}
	assert.Nil(t, give(2))
	assert.Nil(t, give(1))
	assert.NotNil(t, give(0), "forgotten meanwhile")
}

func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		for _, s := range v.Segments {
			f.Add(unhex(f, s))
		}
	}
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := segment.Decode(b)
		if err != nil {
			require.ErrorIs(t, err, segment.ErrNotSegment)
			return
		}
		back, err := segment.Decode(s.Encode())
		require.NoError(t, err)
		require.Equal(t, s, back)
	})
}

// FuzzAssembler reads a list of operations: whose segment, of which payload, and what
// is wrong with it.
func FuzzAssembler(f *testing.F) {
	payloads := [][]byte{random(6, 9*7+3), random(7, 20), append(random(8, 17*5), 0, 0, 0)}
	var all []*segment.Segment
	for i, size := range []int{7, 10, 5} {
		all = append(all, split(f, payloads[i], size)...)
	}
	f.Add([]byte{0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 0, 0, 5, 0, 0, 6, 0, 0, 7, 0, 0, 8, 0, 0, 10, 0, 0})
	f.Add([]byte{11, 1, 0, 12, 1, 3, 12, 1, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 3000 {
			return
		}
		now := time.Unix(0, 0)
		a := segment.NewAssembler(segment.Config{
			MaxWhole: 100, MaxSender: 1, MaxBytes: 1, Remember: 3, Now: func() time.Time { return now },
		})
		limit := 2 * (100 + 100/8 + 1024 + 256*128)
		for ; len(ops) >= 3; ops = ops[3:] {
			s := *all[int(ops[0])%len(all)]
			s.Payload = slices.Clone(s.Payload)
			switch ops[2] % 8 {
			case 1:
				s.Payload[0] ^= ops[2]
			case 2:
				s.Count += int(ops[2])
			case 3:
				s.Parity = !s.Parity
			case 4:
				s.Payload = append(s.Payload, ops[2])
			case 5:
				s.Whole[0] ^= ops[2]
			case 6:
				now = now.Add(time.Hour)
			}
			if s.Index >= s.Count {
				continue
			}
			whole, err := a.Add(string('a'+rune(ops[1]%3)), &s)
			if whole != nil && (err != nil || segment.Sum(whole) != s.Whole) {
				t.Fatal("a whole that isn't one")
			}
			if got := a.Stats().Bytes; got > limit {
				t.Fatalf("%d bytes held", got)
			}
		}
	})
}

func BenchmarkAssemble3MB(b *testing.B) {
	payload := random(9, 3<<20)
	for _, size := range []int{segment.Size(1 << 20), segment.Size(150 << 10)} {
		segments := split(b, payload, size)
		n := segments[0].Count
		for _, lost := range []int{0, n / 8} {
			b.Run(fmt.Sprintf("%d segments, %d lost", n, lost), func(b *testing.B) {
				b.SetBytes(int64(len(payload)))
				for b.Loop() {
					a := segment.NewAssembler(segment.Config{})
					var whole []byte
					for _, s := range segments[lost:] {
						if w, _ := a.Add("ana", s); w != nil {
							whole = w
						}
					}
					if whole == nil {
						b.Fatal("not whole")
					}
				}
			})
		}
	}
}
