package dosguard_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// A field as it stands on the wire.
type field []byte

const (
	wireVarint = 0
	wireFixed8 = 1
	wireBytes  = 2
	wireFixed4 = 5
)

func tag(number, wireType int) field {
	return binary.AppendUvarint(nil, uint64(number)<<3|uint64(wireType))
}

func varintField(number int, v uint64) field {
	return binary.AppendUvarint(tag(number, wireVarint), v)
}

func bytesField(number int, b []byte) field {
	return append(binary.AppendUvarint(tag(number, wireBytes), uint64(len(b))), b...)
}

// longVarint is v in n bytes, with zeros where fewer would do.
func longVarint(v uint64, n int) []byte {
	var b []byte
	for range n - 1 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

func join(fields ...field) []byte {
	var b []byte
	for _, f := range fields {
		b = append(b, f...)
	}
	return b
}

// variant is what somebody without the key makes of a captured message.
type variant struct {
	kind string
	wire []byte
}

// mint makes variants of one signed message by changing what its signature
// doesn't cover. Every kind of variant is there many times over.
func mint(m *message.Message) []variant {
	var all []variant
	put := func(kind string, fields ...field) { all = append(all, variant{kind, join(fields...)}) }
	rnd := rand.New(rand.NewPCG(7, 8))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}

	payload, ct := bytesField(1, m.Payload), bytesField(2, []byte(m.ContentTopic))
	ts, meta := varintField(10, zigzag(m.Timestamp)), bytesField(11, m.Meta)
	original := []field{payload, ct, ts, meta}
	with := func(f ...field) []field { return append(append([]field(nil), original...), f...) }

	for range 10 {
		put("exact", original...)
	}
	for v := range uint64(800) {
		put("version", with(varintField(3, v+2))...)
		put("version", with(varintField(3, 1<<32|v<<33|(v+2)))...) // the upper bits are cut off
	}
	for i := range 800 {
		put("proof", with(bytesField(21, noise(1+i%200)))...)
	}
	known := map[int]bool{1: true, 2: true, 3: true, 10: true, 11: true, 21: true, 31: true}
	for n := 1; n <= 300; n++ {
		if known[n] {
			// A known number with another wire type is an unknown field.
			put("unknown", with(append(tag(n, wireFixed4), noise(4)...))...)
			continue
		}
		put("unknown", with(varintField(n, rnd.Uint64()))...)
		put("unknown", with(bytesField(n, noise(n%50)))...)
		put("unknown", append([]field{append(tag(n, wireFixed8), noise(8)...)}, original...)...)
		put("unknown", with(append(tag(n*100, wireFixed4), noise(4)...))...)
		put("unknown", with(append(tag(n, 3), tag(n, 4)...))...) // an empty group
	}
	for i, f := range original {
		for j := range len(original) + 1 {
			fields := append(append(append([]field(nil), original[:j]...), f), original[j:]...)
			put("repeated", fields...)
			for n := range 8 {
				other := []field{bytesField(1, noise(n)), bytesField(2, bytes.Repeat([]byte("x"), n)), varintField(10, rnd.Uint64()), bytesField(11, noise(n))}[i]
				// The last one wins, so a stranger's value goes before ours.
				fields := append([]field{other}, original...)
				fields[0], fields[min(j, i)] = fields[min(j, i)], fields[0]
				put("repeated", fields...)
			}
		}
	}
	for _, f := range []field{varintField(3, 0), bytesField(21, nil), varintField(31, 0)} {
		put("repeated zeros", with(f, f)...)
		put("repeated zeros", append([]field{f}, with(f)...)...)
	}

	// Every other border between payload and content topic: the bytes that are
	// signed stay the same.
	both := append(append([]byte(nil), m.Payload...), m.ContentTopic...)
	for cut := range len(both) + 1 {
		if cut != len(m.Payload) {
			put("border", bytesField(1, both[:cut]), bytesField(2, both[cut:]), ts, meta)
		}
	}

	// One message in other bytes: nothing but the encoding differs.
	for n := 1; n <= 5; n++ {
		put("same", append(append(longVarint(1<<3|wireBytes, n), longVarint(uint64(len(m.Payload)), n+1)...), m.Payload...), ct, ts, meta)
		put("same", payload, append(append(tag(2, wireBytes), longVarint(uint64(len(m.ContentTopic)), n)...), m.ContentTopic...), ts, meta)
		put("same", payload, ct, append(longVarint(10<<3, n), longVarint(zigzag(m.Timestamp), 10)...), meta)
	}
	zeros := []field{varintField(3, 0), bytesField(21, nil), varintField(31, 0)}
	for mask := range 8 {
		fields := append([]field(nil), original...)
		for i, z := range zeros {
			if mask>>i&1 == 1 {
				fields = append(fields, z)
			}
		}
		for range 60 {
			rnd.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
			put("same", fields...)
		}
	}
	return all
}

// captured is the message that variants are made from. Its payload is full of
// what looks like parts of content topics.
func captured(t testing.TB) *message.Message {
	payload := "/a/1/b/proto//x/y/z/w /waku/1/0x9c22ff5f/rfc26 plain text /app/2/name/enc/ /1/2/3 ////"
	for i := range 40 {
		payload += fmt.Sprintf("/part%d/%d", i, i)
	}
	return newMessage(t, communityKey(t), start, payload)
}

func receive(v variant) (*message.Received, bool) {
	m, err := message.Decode(v.wire)
	if err != nil {
		return nil, false
	}
	return &message.Received{PubsubTopic: topic, Message: m, From: "attacker"}, true
}

// sameMeaning reports whether two messages differ in nothing that a reader sees.
func sameMeaning(a, b *message.Message) bool {
	return bytes.Equal(a.Payload, b.Payload) && a.ContentTopic == b.ContentTopic && a.Version == b.Version &&
		a.Timestamp == b.Timestamp && bytes.Equal(a.Meta, b.Meta) && a.Ephemeral == b.Ephemeral &&
		bytes.Equal(a.RateLimitProof, b.RateLimitProof)
}

func TestMintedVariants(t *testing.T) {
	original := captured(t)
	key := communityKey(t).PublicKey()
	variants := mint(original)
	require.GreaterOrEqual(t, len(variants), 5000)
	decodable := 0

	c := newClock()
	seen := c.signed(key)
	require.Equal(t, message.Accept, admit(seen, received(original)))
	// A node that hasn't seen the original: nothing but the original in other
	// bytes passes, and of that one.
	fresh := c.signed(key)
	passed := 0
	for _, v := range variants {
		in, ok := receive(v)
		if !ok {
			continue
		}
		decodable++
		require.NotEqual(t, message.Accept, seen.Screen(in), "%s %x", v.kind, v.wire)
		require.NotEqual(t, message.Accept, seen.Validate(context.Background(), in), "%s %x", v.kind, v.wire)
		require.NotEqual(t, message.Reject, seen.Screen(in), "who forwards a variant isn't blamed: %s %x", v.kind, v.wire)
		if admit(fresh, in) == message.Accept {
			passed++
			require.True(t, sameMeaning(original, in.Message), "%s %x", v.kind, v.wire)
		}
	}
	assert.Equal(t, 1, passed)
	assert.GreaterOrEqual(t, decodable, 5000)

	// And later: while the seen-cache of gossip remembers, after it has forgotten,
	// when the window has passed.
	for _, at := range []time.Duration{time.Second, time.Minute, 3 * time.Minute, 5 * time.Minute, 5*time.Minute + 1, 9 * time.Minute, time.Hour} {
		c.t = start.Add(at)
		for i, v := range variants {
			if in, ok := receive(v); ok && i%7 == 0 {
				require.NotEqual(t, message.Accept, admit(seen, in), "%s after %v", v.kind, at)
			}
		}
	}
}

// The one freedom that is left: version 0 and 1 are both in use, and no signature
// tells them apart. It makes no second message of the first.
func TestVersionIsTheOneFreedom(t *testing.T) {
	original := captured(t)
	changed := original.Clone()
	changed.Version = 1
	s := newClock().signed(communityKey(t).PublicKey())
	require.Equal(t, message.Accept, admit(s, received(changed)))
	assert.Equal(t, message.Ignore, admit(s, received(original)))
}

// Each defence switched off, the same variants get through: the test above tests
// something, and none of the defences is there for nothing.
func TestDefencesSwitchedOff(t *testing.T) {
	original := captured(t)
	key := communityKey(t).PublicKey()
	variants := mint(original)
	// passed counts by kind what a node accepts that has seen the original.
	passed := func(s *dosguard.Signed) map[string]int {
		admit(s, received(original))
		n := map[string]int{}
		for i, v := range variants {
			if in, ok := receive(v); ok && (i%5 == 0 || v.kind == "exact") && admit(s, in) == message.Accept {
				n[v.kind]++
			}
		}
		return n
	}
	c := newClock()
	assert.Empty(t, passed(c.signed(key)))

	t.Run("memory", func(t *testing.T) {
		n := passed(c.signed(key).WithoutMemory())
		assert.Equal(t, 10, n["exact"])
		assert.NotZero(t, n["same"])
		assert.Zero(t, n["border"], "strictness still holds")
	})
	t.Run("strictness", func(t *testing.T) {
		// On a node that hasn't seen the original, any variant takes its place.
		for _, kind := range []string{"version", "proof", "unknown", "repeated", "border"} {
			s, strict := c.signed(key).WithoutStrictness(), c.signed(key)
			n := 0
			for i, v := range variants {
				if in, ok := receive(v); ok && v.kind == kind && i%5 == 0 {
					require.NotEqual(t, message.Accept, admit(strict, in))
					if admit(s, in) == message.Accept {
						n++
					}
				}
			}
			assert.Equal(t, 1, n, kind)
		}
	})
	t.Run("memory and strictness", func(t *testing.T) {
		n := passed(c.signed(key).WithoutMemory().WithoutStrictness())
		for _, kind := range []string{"exact", "version", "proof", "unknown", "repeated", "border", "same"} {
			assert.Greater(t, n[kind], 1, kind)
		}
	})
	t.Run("window", func(t *testing.T) {
		stale := newMessage(t, communityKey(t), start.Add(-time.Hour), "stale")
		future := newMessage(t, communityKey(t), start.Add(time.Hour), "future")
		on, off := c.signed(key), c.signed(key).WithoutWindow()
		for _, m := range []*message.Message{stale, future} {
			assert.Equal(t, message.Ignore, admit(on, received(m)))
			assert.Equal(t, message.Accept, admit(off, received(m)))
		}
	})
	t.Run("key", func(t *testing.T) {
		// Without the key's end, or with the stranger's key among them, what the
		// community no longer signs would pass.
		m := newMessage(t, strangerKey(t), start, "retired")
		s := c.signed(key)
		require.NoError(t, s.Keys().Add(strangerKey(t).PublicKey(), time.Time{}, start))
		assert.Equal(t, message.Ignore, admit(s, received(m)))
		require.NoError(t, s.Keys().Add(strangerKey(t).PublicKey(), time.Time{}, time.Time{}))
		assert.Equal(t, message.Accept, admit(s, received(m)))
	})
}
