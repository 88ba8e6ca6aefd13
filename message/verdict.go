package message

import (
	"context"
	"fmt"
	"time"
)

// Verdict is what a validator says about a message. Only Reject blames the peer
// that forwarded it. The zero value is Ignore: who says nothing lets nothing
// pass.
type Verdict uint8

// The verdicts.
const (
	// Ignore drops the message and holds it against nobody.
	Ignore Verdict = iota
	// Accept delivers the message and forwards it.
	Accept
	// Reject drops the message and lowers the forwarder's score.
	Reject
)

// String returns "ignore", "accept" or "reject".
func (v Verdict) String() string {
	switch v {
	case Ignore:
		return "ignore"
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// Received is one message on its way in.
type Received struct {
	// PubsubTopic is where the message arrived, see package sharding.
	PubsubTopic string
	// Message is shared by all who judge it: read it, don't change it.
	Message *Message
	// From holds the raw bytes of the peer id that forwarded the message; ""
	// means that it was published here.
	From string
	// At is when the message arrived.
	At time.Time
}

// Validator judges a message in full. It may take its time within ctx, and may
// be called by several goroutines at once.
type Validator func(ctx context.Context, in *Received) Verdict

// Screen judges what can be judged cheaply, before the mesh is told that the
// message is here. It must not block, and may be called by several goroutines
// at once.
type Screen func(in *Received) Verdict
