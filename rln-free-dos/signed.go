package dosguard

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/status-im/shoal/message"
)

// Defaults of [SignedConfig].
const (
	// DefaultWindow is how far a live message's timestamp may be from the clock,
	// each way. Other implementations use the same.
	DefaultWindow = 5 * time.Minute
	// DefaultMemorySize is how many digests the first-sight memory holds: 109
	// messages a second for the ten minutes from one end of the window to the
	// other. A full memory takes about 4 MiB, an empty one next to nothing.
	DefaultMemorySize = 1 << 16
)

// SignedConfig configures a [Signed]. Only Keys has to be set.
type SignedConfig struct {
	// Keys are the shard's keys. Nil: a new empty registry, with which nothing
	// passes until keys are added to it, see [Signed.Keys].
	Keys *Registry
	// Window is how far a live message's timestamp may be from the clock, each
	// way; exactly that far is still inside. 0: DefaultWindow.
	Window time.Duration
	// MemorySize is how many digests are remembered. 0: DefaultMemorySize. When
	// more messages than that are accepted within twice the window, the memory
	// forgets the oldest timestamps, and messages as old are ignored.
	MemorySize int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// OnOutsideWindow, if set, is told about messages whose signature is good but
	// whose timestamp is outside the window: offset is how far they are ahead of
	// the clock, negative if behind. If several peers bring such messages with
	// about the same offset, it is the clock that is wrong; a single peer may be
	// replaying old ones. At most one such message a second is looked at. It is
	// called by Screen and Validate, and must not block.
	OnOutsideWindow func(offset time.Duration, from string)
	// Counters count the verdicts. Nil: the validator's own.
	Counters *Counters
}

// Signed validates the messages of one protected shard: a message passes if a key
// of the shard signed it, at about this time, and if it is the first of its kind.
//
// A signature here covers less than the whole message (see [Digest]), so that
// anyone could turn one signed message into many by changing what isn't covered.
// Signed therefore accepts a single form of every message: version 0 or 1, no
// rate limit proof, no unknown and no repeated fields, a content topic of a
// leading slash and exactly four parts, which fixes its border with the payload;
// and it accepts a signed digest once. What only this strictness refuses is
// ignored, never rejected: its forwarder may be an honest node of another
// implementation.
//
// It is safe for concurrent use and runs nothing in the background.
type Signed struct {
	cfg    SignedConfig
	memory *memory

	lastLook atomic.Int64 // at a message outside the window, Unix nanoseconds

	// Tests switch defences off to show that they matter.
	withoutStrictness, withoutWindow, withoutMemory bool
}

// NewSigned returns the validator of one shard.
func NewSigned(cfg SignedConfig) *Signed {
	if cfg.Keys == nil {
		cfg.Keys = new(Registry)
	}
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.MemorySize <= 0 {
		cfg.MemorySize = DefaultMemorySize
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Counters == nil {
		cfg.Counters = new(Counters)
	}
	return &Signed{cfg: cfg, memory: newMemory(cfg.Window, cfg.MemorySize)}
}

// Keys returns the registry, to add, expire and remove keys.
func (s *Signed) Keys() *Registry { return s.cfg.Keys }

// Counters returns the counts of what Screen refused and Validate decided.
func (s *Signed) Counters() *Counters { return s.cfg.Counters }

// Screen is the [message.Screen] of the shard: it refuses what doesn't take the
// curve to refuse, copies of accepted messages among it. Accept means no more
// than that Validate has to decide. It doesn't allocate, and what it hashes are
// only messages that bear an accepted message's signature.
//
// With OnOutsideWindow set it does verify one message a second, of those outside
// the window.
func (s *Signed) Screen(in *message.Received) message.Verdict {
	reason, _ := s.screen(in, unixNano(s.cfg.Now()))
	if reason != ReasonAccepted {
		s.cfg.Counters.add(reason)
	}
	return reason.Verdict()
}

// Validate is the [message.Validator] of the shard, with the last word: it does
// what Screen does, verifies the signature and remembers the message. It accepts
// a message once, so call it once per message and node, at the gate of the relay.
func (s *Signed) Validate(_ context.Context, in *message.Received) message.Verdict {
	reason := s.validate(in)
	s.cfg.Counters.add(reason)
	return reason.Verdict()
}

func (s *Signed) validate(in *message.Received) Reason {
	now := unixNano(s.cfg.Now())
	reason, sig := s.screen(in, now)
	if reason != ReasonAccepted {
		return reason
	}
	m := in.Message
	digest := Digest(in.PubsubTopic, m)
	if reason = s.cfg.Keys.judge(&digest, &sig, m.Timestamp); reason != ReasonAccepted || s.withoutMemory {
		return reason
	}
	return s.memory.accept(m.Timestamp, &digest, tag(m.Meta), now)
}

// Verify reports why a message that came by another way than the relay (light
// push, filter, store) isn't to be believed, with a [*RefusedError], or nil. It
// asks the same of it as Validate, but remembers nothing and may be called for
// any copy. The window is judged only if live is set: what a store returns is old.
func (s *Signed) Verify(pubsubTopic string, m *message.Message, live bool) error {
	reason, sig := s.inspect(m)
	if reason != ReasonAccepted {
		return &RefusedError{Reason: reason}
	}
	if live {
		if offset, inside := s.offset(m.Timestamp, unixNano(s.cfg.Now())); !inside {
			return &RefusedError{Reason: ReasonOutsideWindow, Offset: offset}
		}
	}
	digest := Digest(pubsubTopic, m)
	if reason = s.cfg.Keys.judge(&digest, &sig, m.Timestamp); reason != ReasonAccepted {
		return &RefusedError{Reason: reason}
	}
	return nil
}

// screen is everything but the curve, the cheapest first.
func (s *Signed) screen(in *message.Received, now int64) (Reason, signature) {
	if in == nil {
		return ReasonNoMessage, signature{}
	}
	m := in.Message
	reason, sig := s.inspect(m)
	if reason != ReasonAccepted {
		return reason, sig
	}
	if offset, inside := s.offset(m.Timestamp, now); !inside {
		s.lookOutside(in, &sig, offset, now)
		return ReasonOutsideWindow, sig
	}
	if len(s.cfg.Keys.load()) == 0 {
		return ReasonNoKey, sig
	}
	if s.withoutMemory {
		return ReasonAccepted, sig
	}
	reason, known := s.memory.peek(m.Timestamp, tag(m.Meta))
	if known {
		digest := Digest(in.PubsubTopic, m)
		if s.memory.contains(m.Timestamp, &digest) {
			reason = ReasonReplay
		}
	}
	return reason, sig
}

// inspect judges a message by itself. What everybody rejects comes first: a
// message without signature must not be excused by a curious version.
func (s *Signed) inspect(m *message.Message) (Reason, signature) {
	switch {
	case m == nil:
		return ReasonNoMessage, signature{}
	case m.Timestamp == 0:
		return ReasonNoTimestamp, signature{}
	case len(m.Meta) == 0:
		return ReasonNoSignature, signature{}
	}
	sig, ok := parseSignature(m.Meta)
	switch {
	case !ok:
		return ReasonMalformedSignature, sig
	case sig.s.isHigh():
		return ReasonHighS, sig
	case len(m.Payload) == 0:
		return ReasonEmptyPayload, sig
	case s.withoutStrictness:
		return ReasonAccepted, sig
	}
	if err := m.Strict(); err != nil {
		return strictReason(err), sig
	}
	if !fourParts(m.ContentTopic) || !utf8.ValidString(m.ContentTopic) {
		return ReasonContentTopic, sig
	}
	return ReasonAccepted, sig
}

func strictReason(err error) Reason {
	switch {
	case errors.Is(err, message.ErrRepeatedField):
		return ReasonRepeatedField
	case errors.Is(err, message.ErrVersion):
		return ReasonVersion
	case errors.Is(err, message.ErrRateLimitProof):
		return ReasonRateLimitProof
	}
	return ReasonUnknownField
}

// fourParts reports whether a content topic is /a/b/c/d with nothing empty. Of
// all the ways to cut bytes into a payload and a content topic, at most one gives
// the topic this form: it begins at the fourth slash from the end.
func fourParts(topic string) bool {
	for range 4 {
		if !strings.HasPrefix(topic, "/") {
			return false
		}
		end := strings.IndexByte(topic[1:], '/')
		if end < 0 {
			end = len(topic) - 1
		}
		if end == 0 {
			return false
		}
		topic = topic[1+end:]
	}
	return topic == ""
}

// offset is how far a timestamp is ahead of the clock, and whether that is inside
// the window.
func (s *Signed) offset(timestamp, now int64) (offset time.Duration, inside bool) {
	offset = since(timestamp, now)
	return offset, s.withoutWindow || -s.cfg.Window <= offset && offset <= s.cfg.Window
}

// lookOutside tells OnOutsideWindow about a message, if it is time to look at one
// and somebody of the community wrote it.
func (s *Signed) lookOutside(in *message.Received, sig *signature, offset time.Duration, now int64) {
	if s.cfg.OnOutsideWindow == nil || in.From == "" {
		return
	}
	last := s.lastLook.Load()
	if d := since(now, last); -time.Second < d && d < time.Second || !s.lastLook.CompareAndSwap(last, now) {
		return
	}
	digest := Digest(in.PubsubTopic, in.Message)
	if s.cfg.Keys.judge(&digest, sig, in.Message.Timestamp) == ReasonAccepted {
		s.cfg.OnOutsideWindow(offset, in.From)
	}
}
