package dosguard

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/status-im/shoal/message"
)

// Reason says why a message got its verdict. Every reason belongs to one
// verdict; String is the label to count it under.
type Reason uint8

// The reasons, in the order in which they are looked at.
//
// Those of verdict Reject are what every implementation rejects. All others are
// Ignore: they are what only we refuse, so whoever forwarded the message did
// nothing wrong.
const (
	// ReasonAccepted is a message that passed.
	ReasonAccepted Reason = iota

	// ReasonNoTimestamp is Reject: no timestamp, or zero.
	ReasonNoTimestamp
	// ReasonNoSignature is Reject: meta is empty.
	ReasonNoSignature
	// ReasonMalformedSignature is Reject: meta isn't 64 bytes, or r or s is zero
	// or not below the group's order.
	ReasonMalformedSignature
	// ReasonHighS is Reject: s above n/2.
	ReasonHighS
	// ReasonBadSignature is Reject: no key of the shard made the signature.
	ReasonBadSignature

	// ReasonNoMessage is Ignore: there is nothing to judge.
	ReasonNoMessage
	// ReasonEmptyPayload is Ignore: some nodes forward messages without payload.
	ReasonEmptyPayload
	// ReasonContentTopic is Ignore: the content topic isn't UTF-8 of a leading
	// slash and exactly four parts. The signature doesn't cover the border between payload
	// and content topic; this form does.
	ReasonContentTopic
	// ReasonUnknownField is Ignore: a field on the wire that messages don't have.
	ReasonUnknownField
	// ReasonRepeatedField is Ignore: a field on the wire twice.
	ReasonRepeatedField
	// ReasonVersion is Ignore: version above 1.
	ReasonVersion
	// ReasonRateLimitProof is Ignore: a rate limit proof that isn't empty.
	ReasonRateLimitProof
	// ReasonOutsideWindow is Ignore: the timestamp is too far from our clock, or
	// our clock from it.
	ReasonOutsideWindow
	// ReasonNoKey is Ignore: no key of the shard counts at the message's time, or
	// none is known yet.
	ReasonNoKey
	// ReasonKeyNotValid is Ignore: signed by a key of the shard, but not within
	// the time for which it counts.
	ReasonKeyNotValid
	// ReasonReplay is Ignore: the same signed digest was accepted before.
	ReasonReplay
	// ReasonForgotten is Ignore: as old as what the full memory had to forget, so
	// that nobody knows any more whether it is a replay.
	ReasonForgotten

	// ReasonTooLarge is Ignore: above the limit given to MaxSize.
	ReasonTooLarge
	// ReasonTooManyMessages is Ignore: the forwarder sends more messages than its
	// budget allows.
	ReasonTooManyMessages
	// ReasonTooManyBytes is Ignore: the forwarder sends more bytes than its budget
	// allows.
	ReasonTooManyBytes

	// ReasonTimeout is Ignore: a plugged-in validator didn't answer in time.
	ReasonTimeout
	// ReasonPanic is Ignore: a plugged-in validator panicked.
	ReasonPanic
	// ReasonBadVerdict is Ignore: a plugged-in validator gave no verdict.
	ReasonBadVerdict
	// ReasonStuck is Ignore: a plugged-in validator wasn't called, because too
	// many calls of it never came back.
	ReasonStuck
	// ReasonCanceled is Ignore: the node stopped asking before there was an answer.
	ReasonCanceled

	numReasons
)

var reasonLabels = [numReasons]string{
	ReasonAccepted:           "accepted",
	ReasonNoTimestamp:        "no_timestamp",
	ReasonNoSignature:        "no_signature",
	ReasonMalformedSignature: "malformed_signature",
	ReasonHighS:              "high_s",
	ReasonBadSignature:       "bad_signature",
	ReasonNoMessage:          "no_message",
	ReasonEmptyPayload:       "empty_payload",
	ReasonContentTopic:       "content_topic",
	ReasonUnknownField:       "unknown_field",
	ReasonRepeatedField:      "repeated_field",
	ReasonVersion:            "version",
	ReasonRateLimitProof:     "rate_limit_proof",
	ReasonOutsideWindow:      "outside_window",
	ReasonNoKey:              "no_key",
	ReasonKeyNotValid:        "key_not_valid",
	ReasonReplay:             "replay",
	ReasonForgotten:          "forgotten",
	ReasonTooLarge:           "too_large",
	ReasonTooManyMessages:    "too_many_messages",
	ReasonTooManyBytes:       "too_many_bytes",
	ReasonTimeout:            "timeout",
	ReasonPanic:              "panic",
	ReasonBadVerdict:         "bad_verdict",
	ReasonStuck:              "stuck",
	ReasonCanceled:           "canceled",
}

// String returns the reason's label, such as "bad_signature".
func (r Reason) String() string {
	if r < numReasons {
		return reasonLabels[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Verdict is what the reason leads to.
func (r Reason) Verdict() message.Verdict {
	switch r {
	case ReasonAccepted:
		return message.Accept
	case ReasonNoTimestamp, ReasonNoSignature, ReasonMalformedSignature, ReasonHighS, ReasonBadSignature:
		return message.Reject
	}
	return message.Ignore
}

// RefusedError is why a message isn't to be believed.
type RefusedError struct {
	// Reason says which it is; its Verdict is what a relay would answer.
	Reason Reason
	// Offset is how far the message's timestamp is ahead of the clock, negative
	// if it is behind. It is set for ReasonOutsideWindow.
	Offset time.Duration
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.Reason == ReasonOutsideWindow {
		return fmt.Sprintf("dosguard: message refused: %s by %v", e.Reason, e.Offset)
	}
	return "dosguard: message refused: " + e.Reason.String()
}

// Is reports whether target is a RefusedError of the same reason.
func (e *RefusedError) Is(target error) bool {
	t, ok := target.(*RefusedError)
	return ok && t.Reason == e.Reason
}

// Counters count messages by reason. The zero value is ready, and a nil one
// counts nothing. Several validators may share one, say all those of a shard.
type Counters struct{ n [numReasons]atomic.Uint64 }

// Count is how often a reason occurred.
type Count struct {
	Verdict message.Verdict // of the reason
	Reason  Reason
	N       uint64 // messages, since the Counters were made
}

func (c *Counters) add(r Reason) {
	if c != nil {
		c.n[r].Add(1)
	}
}

// Of returns how often a reason occurred.
func (c *Counters) Of(r Reason) uint64 {
	if c == nil || r >= numReasons {
		return 0
	}
	return c.n[r].Load()
}

// Snapshot returns all counts, those of zero included, ordered by reason. Nodes
// publish them as waku_msg_validator_signed_outcome, with the verdict as result.
func (c *Counters) Snapshot() []Count {
	counts := make([]Count, numReasons)
	for i := range counts {
		r := Reason(i)
		counts[i] = Count{r.Verdict(), r, c.Of(r)}
	}
	return counts
}
