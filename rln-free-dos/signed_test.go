package dosguard_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// Every reason that a single message can give, with its verdict; and Verify, on
// the ways past the relay, says the same.
func TestReasons(t *testing.T) {
	key, stranger := communityKey(t), strangerKey(t)
	flip := func(m *message.Message) { // s becomes n - s
		order := []byte{
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
			0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
		}
		borrow := 0
		for i := 31; i >= 0; i-- {
			d := int(order[i]) - int(m.Meta[32+i]) - borrow
			borrow = 0
			if d < 0 {
				d, borrow = d+256, 1
			}
			m.Meta[32+i] = byte(d)
		}
	}
	clear32 := func(b []byte) { clear(b[:32]) }
	ones := func(b []byte) {
		for i := range b[:32] {
			b[i] = 0xff
		}
	}
	for _, c := range []struct {
		name   string
		change func(m *message.Message)
		want   dosguard.Reason
	}{
		{"good", func(m *message.Message) {}, dosguard.ReasonAccepted},
		{"version 1", func(m *message.Message) { m.Version = 1 }, dosguard.ReasonAccepted},
		{"explicit zeros", func(m *message.Message) { m.Explicit = message.FieldVersion | message.FieldRateLimitProof }, dosguard.ReasonAccepted},
		{"timestamp 0", func(m *message.Message) { m.Timestamp = 0 }, dosguard.ReasonNoTimestamp},
		{"no meta", func(m *message.Message) { m.Meta = nil }, dosguard.ReasonNoSignature},
		{"no meta, curious otherwise", func(m *message.Message) { m.Meta, m.Version, m.ContentTopic = nil, 9, "x" }, dosguard.ReasonNoSignature},
		{"no meta, stale", func(m *message.Message) { m.Meta, m.Timestamp = nil, 1 }, dosguard.ReasonNoSignature},
		{"63 bytes", func(m *message.Message) { m.Meta = m.Meta[:63] }, dosguard.ReasonMalformedSignature},
		{"65 bytes", func(m *message.Message) { m.Meta = append(m.Meta, 0) }, dosguard.ReasonMalformedSignature},
		{"1 byte", func(m *message.Message) { m.Meta = m.Meta[:1] }, dosguard.ReasonMalformedSignature},
		{"r = 0", func(m *message.Message) { clear32(m.Meta) }, dosguard.ReasonMalformedSignature},
		{"s = 0", func(m *message.Message) { clear32(m.Meta[32:]) }, dosguard.ReasonMalformedSignature},
		{"r above n", func(m *message.Message) { ones(m.Meta) }, dosguard.ReasonMalformedSignature},
		{"s above n", func(m *message.Message) { ones(m.Meta[32:]) }, dosguard.ReasonMalformedSignature},
		{"high s", flip, dosguard.ReasonHighS},
		{"another's signature", func(m *message.Message) { require.NoError(t, stranger.Sign(topic, m)) }, dosguard.ReasonBadSignature},
		{"another shard's signature", func(m *message.Message) { require.NoError(t, key.Sign("/waku/2/rs/16/129", m)) }, dosguard.ReasonBadSignature},
		{"payload changed", func(m *message.Message) { m.Payload = []byte("hellp") }, dosguard.ReasonBadSignature},
		{"timestamp changed", func(m *message.Message) { m.Timestamp++ }, dosguard.ReasonBadSignature},
		{"ephemeral changed", func(m *message.Message) { m.Ephemeral = true }, dosguard.ReasonBadSignature},
		{"content topic changed", func(m *message.Message) { m.ContentTopic = "/waku/1/0x9c22ff5f/rfc27" }, dosguard.ReasonBadSignature},
		{"empty payload", func(m *message.Message) { m.Payload = nil; require.NoError(t, key.Sign(topic, m)) }, dosguard.ReasonEmptyPayload},
		{"version 2", func(m *message.Message) { m.Version = 2 }, dosguard.ReasonVersion},
		{"proof", func(m *message.Message) { m.RateLimitProof = []byte{0} }, dosguard.ReasonRateLimitProof},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newClock().signed(key.PublicKey())
			m := newMessage(t, key, start, "hello")
			m.Meta = slices.Clip(m.Meta)
			c.change(m)
			v, reason := admitFor(t, s, received(m))
			assert.Equal(t, c.want, reason)
			assert.Equal(t, c.want.Verdict(), v)

			err := s.Verify(topic, m, true)
			if c.want == dosguard.ReasonAccepted {
				assert.NoError(t, err)
				assert.NoError(t, s.Verify(topic, m, true), "nothing is remembered")
				return
			}
			assert.ErrorIs(t, err, &dosguard.RefusedError{Reason: c.want})
			assert.ErrorContains(t, err, c.want.String())
		})
	}
}

func TestContentTopics(t *testing.T) {
	key := communityKey(t)
	for topicOf, want := range map[string]dosguard.Reason{
		"/a/1/b/proto":         dosguard.ReasonAccepted,
		contentTopic:           dosguard.ReasonAccepted,
		"/ä/1/日本/x":            dosguard.ReasonAccepted,
		"":                     dosguard.ReasonContentTopic,
		"/":                    dosguard.ReasonContentTopic,
		"////":                 dosguard.ReasonContentTopic,
		"a/1/b/proto":          dosguard.ReasonContentTopic,
		"x/a/1/b/proto":        dosguard.ReasonContentTopic,
		"/a/1/b":               dosguard.ReasonContentTopic,
		"/a/1/b/":              dosguard.ReasonContentTopic,
		"/a/1//proto":          dosguard.ReasonContentTopic,
		"//1/b/proto":          dosguard.ReasonContentTopic,
		"/a/1/b/proto/":        dosguard.ReasonContentTopic,
		"/0/a/1/b/proto":       dosguard.ReasonContentTopic, // with a generation: five parts
		"/a/1/b/proto/further": dosguard.ReasonContentTopic,
		"/a/1/b/\xff":          dosguard.ReasonContentTopic, // not UTF-8
	} {
		s := newClock().signed(key.PublicKey())
		m := newMessage(t, key, start, "hello")
		m.ContentTopic = topicOf
		require.NoError(t, key.Sign(topic, m))
		_, reason := admitFor(t, s, received(m))
		assert.Equal(t, want, reason, "%q", topicOf)
	}
}

func TestNothingToJudge(t *testing.T) {
	s := newClock().signed(communityKey(t).PublicKey())
	for _, in := range []*message.Received{nil, {}} {
		assert.Equal(t, message.Ignore, s.Screen(in))
		assert.Equal(t, message.Ignore, s.Validate(context.Background(), in))
	}
	assert.Error(t, s.Verify(topic, nil, true))
}

// Exactly the window's length counts as inside. Nothing overflows.
func TestWindow(t *testing.T) {
	key := communityKey(t)
	const w = int64(dosguard.DefaultWindow)
	for _, c := range []struct {
		now, timestamp int64
		inside         bool
	}{
		{start.UnixNano(), start.UnixNano() - w, true},
		{start.UnixNano(), start.UnixNano() - w - 1, false},
		{start.UnixNano(), start.UnixNano() + w, true},
		{start.UnixNano(), start.UnixNano() + w + 1, false},
		{start.UnixNano(), math.MaxInt64, false},
		{start.UnixNano(), math.MinInt64, false},
		{start.UnixNano(), -1, false},
		{start.UnixNano(), 1, false},
		{0, -w, true},
		{0, -w - 1, false},
		{-5, w - 5, true},
		{math.MaxInt64, math.MaxInt64, true},
		{math.MaxInt64, math.MinInt64, false},
		{math.MaxInt64, math.MaxInt64 - w - 1, false},
		{math.MinInt64, math.MinInt64 + w, true},
		{math.MinInt64, math.MaxInt64, false},
		{math.MaxInt64 - 1, math.MinInt64 + 1, false},
	} {
		cl := &clock{time.Unix(0, c.now)}
		s := cl.signed(key.PublicKey())
		m := newMessage(t, key, time.Unix(0, c.timestamp), "hello")
		v, reason := admitFor(t, s, received(m))
		if c.inside {
			assert.Equal(t, message.Accept, v, "%+v", c)
			assert.NoError(t, s.Verify(topic, m, true))
			continue
		}
		assert.Equal(t, message.Ignore, v, "%+v", c)
		assert.Equal(t, dosguard.ReasonOutsideWindow, reason, "%+v", c)
		var refused *dosguard.RefusedError
		require.ErrorAs(t, s.Verify(topic, m, true), &refused)
		assert.Equal(t, c.timestamp > c.now, refused.Offset > 0)
		assert.NoError(t, s.Verify(topic, m, false), "what a store returns is old")
	}

	short := dosguard.NewSigned(dosguard.SignedConfig{Keys: dosguard.NewRegistry(key.PublicKey()), Now: newClock().now, Window: time.Second})
	assert.Equal(t, message.Accept, admit(short, received(newMessage(t, key, start.Add(-time.Second), "a"))))
	assert.Equal(t, message.Ignore, admit(short, received(newMessage(t, key, start.Add(time.Second+1), "b"))))
}

// A shard whose key isn't known yet is closed.
func TestNoKeyYet(t *testing.T) {
	key := communityKey(t)
	s := dosguard.NewSigned(dosguard.SignedConfig{Now: newClock().now})
	m := newMessage(t, key, start, "hello")
	v, reason := admitFor(t, s, received(m))
	assert.Equal(t, message.Ignore, v)
	assert.Equal(t, dosguard.ReasonNoKey, reason)
	assert.Equal(t, message.Reject, admit(s, received(newMessage(t, nil, start, "unsigned"))))
	assert.ErrorIs(t, s.Verify(topic, m, true), &dosguard.RefusedError{Reason: dosguard.ReasonNoKey})

	require.NoError(t, s.Keys().Add(key.PublicKey(), time.Time{}, time.Time{}))
	assert.Equal(t, message.Accept, admit(s, received(m)), "it was judged before, but not accepted")
}

// A replay is refused at every moment, from the next one until its timestamp has
// left the window, also one that was made for the future.
func TestReplays(t *testing.T) {
	key := communityKey(t)
	for _, ahead := range []time.Duration{0, -4 * time.Minute, 5 * time.Minute} {
		c := newClock()
		s := c.signed(key.PublicKey())
		m := newMessage(t, key, start.Add(ahead), "hello")
		require.Equal(t, message.Accept, admit(s, received(m)))
		for minute := range 12 {
			for _, second := range []time.Duration{0, 30 * time.Second, time.Minute - 1} {
				c.t = start.Add(time.Duration(minute)*time.Minute + second)
				admit(s, received(newMessage(t, key, c.t, "others go on"))) // and expire what is old
				v, reason := admitFor(t, s, received(m))
				require.Equal(t, message.Ignore, v)
				if c.t.Sub(start) <= dosguard.DefaultWindow+ahead {
					require.Equal(t, dosguard.ReasonReplay, reason, c.t)
				} else {
					require.Equal(t, dosguard.ReasonOutsideWindow, reason, c.t)
				}
			}
		}
		digests, buckets := s.Remembered()
		assert.Less(t, digests, 40)
		assert.Less(t, buckets, 40)
	}
}

// Screen alone refuses replays, and doesn't mistake for one what merely bears a
// seen signature.
func TestScreenPeeks(t *testing.T) {
	key := communityKey(t)
	s := newClock().signed(key.PublicKey())
	m := newMessage(t, key, start, "hello")
	assert.Equal(t, message.Accept, s.Screen(received(m)))
	assert.Equal(t, message.Accept, s.Screen(received(m)), "a look isn't remembered")
	require.Equal(t, message.Accept, s.Validate(context.Background(), received(m)))
	assert.Equal(t, message.Ignore, s.Screen(received(m)))

	forged := m.Clone()
	forged.Payload = []byte("forged")
	v, reason := admitFor(t, s, received(forged))
	assert.Equal(t, message.Reject, v)
	assert.Equal(t, dosguard.ReasonBadSignature, reason)
}

// What failed isn't remembered: a forger can't block the original.
func TestForgeryDoesNotBlockTheOriginal(t *testing.T) {
	key := communityKey(t)
	s := newClock().signed(key.PublicKey())
	m := newMessage(t, key, start, "hello")
	forged := m.Clone()
	forged.Meta = strangerKey(t).SignDigest(dosguard.Digest(topic, m))
	require.Equal(t, message.Reject, admit(s, received(forged)))
	assert.Equal(t, message.Accept, admit(s, received(m)))
}

// One digest, two signatures: only a member can do that, and gains nothing.
func TestSecondSignatureOfADigest(t *testing.T) {
	a, b := communityKey(t), strangerKey(t)
	s := newClock().signed(a.PublicKey(), b.PublicKey())
	m := newMessage(t, a, start, "hello")
	require.Equal(t, message.Accept, admit(s, received(m)))
	again := m.Clone()
	require.NoError(t, b.Sign(topic, again))
	_, reason := admitFor(t, s, received(again))
	assert.Equal(t, dosguard.ReasonReplay, reason)
}

func TestConcurrentCopies(t *testing.T) {
	key := communityKey(t)
	s := newClock().signed(key.PublicKey())
	for i := range 10 {
		m := newMessage(t, key, start, fmt.Sprint(i))
		var accepted atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if admit(s, received(m.Clone())) == message.Accept {
					accepted.Add(1)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 1, accepted.Load())
	}
}

// A full memory forgets the oldest and lets nothing in that is as old; what is
// newer goes on, and nothing is ever accepted twice.
func TestFullMemory(t *testing.T) {
	key := communityKey(t)
	c := newClock()
	s := dosguard.NewSigned(dosguard.SignedConfig{
		Keys: dosguard.NewRegistry(key.PublicKey()), Now: c.now, MemorySize: 8,
	})
	var all []*message.Message
	for i := range 60 {
		c.add(7 * time.Second)
		m := newMessage(t, key, c.t, fmt.Sprint(i))
		all = append(all, m)
		require.Equal(t, message.Accept, admit(s, received(m)), "a newer message passes")
		digests, _ := s.Remembered()
		require.LessOrEqual(t, digests, 8)
		for _, old := range all {
			require.Equal(t, message.Ignore, admit(s, received(old)))
		}
	}
	// Inside the window, but older than what had to be forgotten.
	v, reason := admitFor(t, s, received(newMessage(t, key, c.t.Add(-3*time.Minute), "late")))
	assert.Equal(t, message.Ignore, v)
	assert.Equal(t, dosguard.ReasonForgotten, reason)
	assert.NotZero(t, s.Counters().Of(dosguard.ReasonReplay))

	// All at one instant.
	c.add(time.Hour)
	for i := range 20 {
		admit(s, received(newMessage(t, key, c.t, fmt.Sprint("burst", i))))
		digests, _ := s.Remembered()
		require.LessOrEqual(t, digests, 8)
	}
	c.add(time.Nanosecond)
	assert.Equal(t, message.Accept, admit(s, received(newMessage(t, key, c.t, "after"))))
}

// A clock that jumps ahead makes the memory expire; when it is set right again,
// the replays of then are still refused.
func TestClockSetBack(t *testing.T) {
	key := communityKey(t)
	c := newClock()
	s := c.signed(key.PublicKey())
	var all []*message.Message
	for i := range 5 {
		c.add(time.Minute)
		m := newMessage(t, key, c.t, fmt.Sprint(i))
		all = append(all, m)
		require.Equal(t, message.Accept, admit(s, received(m)))
	}
	right := c.t
	c.add(24 * time.Hour)
	require.Equal(t, message.Accept, admit(s, received(newMessage(t, key, c.t, "one of our own"))))
	digests, _ := s.Remembered()
	require.Equal(t, 1, digests)
	c.t = right.Add(time.Second)
	for _, m := range all {
		assert.Equal(t, message.Ignore, admit(s, received(m)))
	}
	assert.Equal(t, message.Accept, admit(s, received(newMessage(t, key, c.t, "goes on"))))
}

// Members' messages outside the window are reported, once a second at most, and
// forged ones never.
func TestOnOutsideWindow(t *testing.T) {
	key := communityKey(t)
	c := newClock()
	type report struct {
		offset time.Duration
		from   string
	}
	var reports []report
	s := dosguard.NewSigned(dosguard.SignedConfig{
		Keys: dosguard.NewRegistry(key.PublicKey()),
		Now:  c.now,
		OnOutsideWindow: func(offset time.Duration, from string) {
			reports = append(reports, report{offset, from})
		},
	})
	see := func(key *dosguard.PrivateKey, offset time.Duration, from string) {
		in := received(newMessage(t, key, c.t.Add(offset), "x"))
		in.From = from
		require.Equal(t, message.Ignore, s.Screen(in))
		require.Equal(t, message.Ignore, s.Validate(context.Background(), in))
	}
	see(key, 6*time.Minute, "a")
	see(key, 7*time.Minute, "b") // within a second of the last
	assert.Equal(t, []report{{6 * time.Minute, "a"}}, reports)
	c.add(time.Second)
	see(strangerKey(t), 7*time.Minute, "c")
	see(key, 7*time.Minute, "d") // the second's look was wasted on a forgery
	c.add(time.Second)
	see(key, -24*time.Hour, "e")
	c.add(-time.Hour) // a clock set back must not silence it
	see(key, -6*time.Minute, "f")
	c.add(time.Second)
	see(key, 6*time.Minute, "") // our own
	assert.Equal(t, []report{{6 * time.Minute, "a"}, {-24 * time.Hour, "e"}, {-6 * time.Minute, "f"}}, reports)
}

func TestCounters(t *testing.T) {
	shared := new(dosguard.Counters)
	key := communityKey(t)
	c := newClock()
	a := dosguard.NewSigned(dosguard.SignedConfig{Keys: dosguard.NewRegistry(key.PublicKey()), Now: c.now, Counters: shared})
	b := dosguard.NewSigned(dosguard.SignedConfig{Keys: a.Keys(), Now: c.now, Counters: shared})
	m := newMessage(t, key, start, "x")
	admit(a, received(m))
	admit(b, received(m))
	admit(b, received(m))
	assert.EqualValues(t, 2, shared.Of(dosguard.ReasonAccepted))
	assert.EqualValues(t, 1, shared.Of(dosguard.ReasonReplay))
	assert.Len(t, shared.Snapshot(), dosguard.NumReasons)

	labels := map[string]bool{}
	for _, count := range shared.Snapshot() {
		assert.NotEmpty(t, count.Reason.String())
		labels[count.Reason.String()] = true
	}
	assert.Len(t, labels, dosguard.NumReasons, "labels are distinct")
	assert.Equal(t, "reason(200)", dosguard.Reason(200).String())
	assert.Zero(t, shared.Of(200))
	assert.Equal(t, message.Ignore, dosguard.Reason(200).Verdict())
	var none *dosguard.Counters
	assert.Zero(t, none.Of(dosguard.ReasonReplay))
	assert.Len(t, none.Snapshot(), dosguard.NumReasons)
}

func TestSignRefusesWhatNobodyAccepts(t *testing.T) {
	m := &message.Message{Payload: []byte("x"), ContentTopic: contentTopic}
	err := communityKey(t).Sign(topic, m)
	var refused *dosguard.RefusedError
	require.True(t, errors.As(err, &refused))
	assert.Equal(t, dosguard.ReasonNoTimestamp, refused.Reason)
	assert.Nil(t, m.Meta)
}
