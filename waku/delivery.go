package waku

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// DeliveryState says how far a sent message has got.
type DeliveryState uint8

// The states of a delivery, in the order in which they are reached. The last three are
// final, and so is Propagated for an ephemeral message.
const (
	// Queued: nobody is known to have the message but this node's own readers.
	Queued DeliveryState = iota + 1
	// Propagated: relay peers were handed the message, or service peers have accepted it.
	Propagated
	// Stored: a store node has it.
	Stored
	// Failed: nobody is known to have got it, and it isn't tried any more.
	Failed
	// Expired: it was propagated, and no store node was found to have it in time.
	Expired
)

var deliveryWords = [...]string{Queued: "queued", Propagated: "propagated", Stored: "stored", Failed: "failed", Expired: "expired"}

// String returns the state in a word.
func (s DeliveryState) String() string {
	if s == 0 || int(s) >= len(deliveryWords) {
		return fmt.Sprintf("state %d", uint8(s))
	}
	return deliveryWords[s]
}

// Priority says which of the messages that wait leave first.
type Priority uint8

// The priorities. What is more urgent never waits for what is less so.
const (
	// PriorityChat is for what people are waiting for. It is the default.
	PriorityChat Priority = iota
	// PriorityHistory is for what is sent again or in bulk.
	PriorityHistory
	// PriorityControl is for what keeps a community going and is in no hurry.
	PriorityControl

	priorities = 3
)

var priorityWords = [priorities]string{"chat", "history", "control"}

// String returns the priority in a word.
func (p Priority) String() string {
	if p >= priorities {
		return fmt.Sprintf("priority %d", uint8(p))
	}
	return priorityWords[p]
}

// Acceptance is a service peer's word that it has published a message.
type Acceptance struct {
	Peer peer.ID
	// RelayPeers is how many peers it handed the message to; -1 if it didn't say
	// (light push 2).
	RelayPeers int
}

// Delivery is one message on its way. It goes on whether or not anybody looks.
type Delivery struct {
	// Hash is the deterministic message hash (14/WAKU2-MESSAGE), by which stores
	// and readers know the message. See [DeliveryStatus].Hash.
	Hash message.Hash
	// Timestamp is the one given to the message. It grows from message to message
	// of a node, unless the clock is set back.
	Timestamp time.Time
	// Size is the encoded message's, in bytes.
	Size int

	last DeliveryState // beyond which it isn't followed
	box  *outbox
	job  job // guarded by box.mu

	mu      sync.Mutex
	status  DeliveryStatus
	log     []DeliveryStatus // one for each state
	changed chan struct{}    // closed at the next change
	final   bool
}

// DeliveryStatus is a delivery at one moment: a value, nobody else's.
type DeliveryStatus struct {
	State DeliveryState
	// At is when State was reached, by the node's clock.
	At time.Time
	// Hash is that of the message that leaves. It differs from the delivery's if the
	// message had to wait for so long that nobody would have kept it: it was then given
	// a new timestamp and signature. Nobody but this node's readers had it before, and
	// they don't get it again.
	Hash message.Hash
	// Shard, ContentTopic and Priority are the message's.
	Shard        sharding.Shard
	ContentTopic string
	Priority     Priority
	Ephemeral    bool
	// Attempts counts how often it was given to relay peers or service peers, or was to
	// be.
	Attempts int
	// Peers is how many peers were handed it: relay peers, or those in Accepted.
	Peers int
	// LowMesh is true when fewer relay peers were handed it than a mesh needs: it may
	// not get far.
	LowMesh bool
	// Accepted are the service peers that have published it.
	Accepted []Acceptance
	// StoredBy are the store nodes that have it: two that say so, or one that has
	// handed it out.
	StoredBy []peer.ID
	// SoleStore is true when whoever is in StoredBy had the message from this node, and
	// no other store node was there to ask: nothing proves that others got it.
	SoleStore bool
	// Late is true when it should have been stored and wasn't yet.
	Late bool
	// Kept is true when the node was closed and the next run goes on with the message
	// ([WithStateStore]).
	Kept bool
	// Err says why the delivery failed or expired; before that, what was in its way
	// last.
	Err error
}

// ErrNotStored is what an expired delivery's error is, by errors.Is, when store nodes
// were asked and none of them had the message.
var ErrNotStored = errors.New("waku: no store node has the message")

// ErrNotFollowed is what the error is, by errors.Is, of waiting for a message to be
// stored that is ephemeral, or that isn't to be confirmed ([DeliveryConfig]).
var ErrNotFollowed = errors.New("waku: no store node is asked for this message")

// ErrNobody is what a failed delivery's error is, by errors.Is, when no relay peer was
// there to hand the message to.
var ErrNobody = errors.New("waku: no relay peer")

// DeliveryError is why a delivery didn't get as far as was waited for.
type DeliveryError struct {
	Shard sharding.Shard
	Hash  message.Hash
	// State is Failed or Expired; or the state in which the node was closed, or beyond
	// which the message isn't followed.
	State DeliveryState
	// Err is the reason: *[RefusedError] for a message that a plugged-in validator
	// doesn't accept, *[SendError] when no service peer took it, [ErrNobody],
	// [ErrNotStored], [ErrNoStorePeer], [ErrNotFollowed], or one that is net.ErrClosed.
	Err error
}

// Error implements error.
func (e *DeliveryError) Error() string {
	return fmt.Sprintf("waku: shard %s: message %s is %s: %s", e.Shard, e.Hash, e.State, line(e.Err))
}

// Unwrap returns Err.
func (e *DeliveryError) Unwrap() error { return e.Err }

// QueueFullError is returned by Send when too much is on its way already.
type QueueFullError struct {
	Priority Priority
	// Messages and Bytes are how much of this priority and more urgent ones the node
	// keeps.
	Messages, Bytes int
}

// Error implements error.
func (e *QueueFullError) Error() string {
	return fmt.Sprintf("waku: too much waits to be sent: the queue takes %d messages and %d bytes for priority %s",
		e.Messages, e.Bytes, e.Priority)
}

// State returns how far the message has got.
func (d *Delivery) State() DeliveryState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status.State
}

// Status returns all that is known of the delivery.
func (d *Delivery) Status() DeliveryStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status.clone()
}

func (s DeliveryStatus) clone() DeliveryStatus {
	s.Accepted = append([]Acceptance(nil), s.Accepted...)
	s.StoredBy = append([]peer.ID(nil), s.StoredBy...)
	return s
}

// Wait waits until the message is Propagated or Stored. That it was propagated counts,
// whatever came after. The error is a *[DeliveryError] when it won't get there any
// more. When ctx ends before, the error is ctx's, and that of what was in the way last
// as well; the delivery goes on.
func (d *Delivery) Wait(ctx context.Context, state DeliveryState) error {
	for {
		done, change, err := d.reached(state)
		if done {
			return err
		}
		select {
		case <-change:
		case <-ctx.Done():
			if done, _, now := d.reached(state); done {
				return now
			}
			if err != nil {
				return fmt.Errorf("%w; so far: %w", context.Cause(ctx), err)
			}
			return context.Cause(ctx)
		}
	}
}

// reached tells whether Wait is over; if it isn't, err is what is in the way.
func (d *Delivery) reached(want DeliveryState) (done bool, change <-chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.status
	fail := func(err error) (bool, <-chan struct{}, error) {
		return true, nil, &DeliveryError{Shard: s.Shard, Hash: d.Hash, State: s.State, Err: err}
	}
	for _, past := range d.log {
		if past.State == want || want == Propagated && past.State == Stored {
			return true, nil, nil
		}
	}
	switch {
	case want == Stored && d.last == Propagated:
		return fail(ErrNotFollowed)
	case d.final:
		return fail(s.Err)
	}
	return false, d.changed, s.Err
}

// Changes iterates over the states that the delivery reaches, beginning with those it
// has reached, and ends after the last one, or with ctx.
func (d *Delivery) Changes(ctx context.Context) iter.Seq[DeliveryStatus] {
	return func(yield func(DeliveryStatus) bool) {
		for next := 0; ; {
			d.mu.Lock()
			var news []DeliveryStatus
			for _, s := range d.log[next:] {
				news = append(news, s.clone())
			}
			final, change := d.final, d.changed
			next += len(news)
			d.mu.Unlock()
			for _, s := range news {
				if ctx.Err() != nil || !yield(s) {
					return
				}
			}
			if final {
				return
			}
			select {
			case <-change:
			case <-ctx.Done():
				return
			}
		}
	}
}

// update changes the status, and tells who waits.
func (d *Delivery) update(change func(*DeliveryStatus)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.final {
		return
	}
	before := d.status
	change(&d.status)
	if s := &d.status; s.State != before.State || s.Kept != before.Kept {
		s.At = d.box.shard.node.cfg.now()
		d.log = append(d.log, s.clone())
		d.final = s.State >= d.last || s.Kept
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// OutgoingHealth counts a shard's deliveries.
type OutgoingHealth struct {
	// Queued and Unconfirmed are on their way: nobody has them yet, or they were
	// propagated and no store node was found to have them.
	Queued, Unconfirmed int
	// Propagated, Stored, Failed and Expired count those that got so far.
	Propagated, Stored, Failed, Expired uint64
	// Failure is why a delivery failed or expired last.
	Failure string
}

func (o *outbox) health() OutgoingHealth {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := OutgoingHealth{
		Propagated: o.totals[Propagated], Stored: o.totals[Stored], Failed: o.totals[Failed], Expired: o.totals[Expired],
		Failure: o.last,
	}
	for d := range o.all {
		if d.State() == Propagated {
			h.Unconfirmed++
		} else {
			h.Queued++
		}
	}
	return h
}
