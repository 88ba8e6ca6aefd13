package waku

import (
	"context"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

// EventKind says what an [Event] is about.
type EventKind uint8

// The kinds of events.
const (
	// PeerConnected: Peer proved to belong to this network.
	PeerConnected EventKind = iota + 1
	// PeerDisconnected: the last connection to Peer ended; Reason, if known.
	PeerDisconnected
	// PeerRejected: Peer was turned away; Reason says why.
	PeerRejected
	// PeerCut: Peer was disconnected for what it sent; it may come back in ten
	// minutes.
	PeerCut
	// ShardHealthChanged: State is Shard's new state, Count its mesh size.
	ShardHealthChanged
	// KeyAdded and KeyExpired: Key, in hex, counts or no longer counts on Shard.
	KeyAdded
	KeyExpired
	// MessagesLost: a reader of Shard has begun to lose messages.
	MessagesLost
	// ValidatorStuck: a plugged-in validator of Shard isn't asked any more, or
	// panicked; Reason names it.
	ValidatorStuck
	// ClockSuspect and ClockOK: the network disagrees with the node's clock, or
	// agrees again; Offset is how far its time is ahead.
	ClockSuspect
	ClockOK
	// EventsLost: this reader of events was too slow, Count events are missing
	// here.
	EventsLost
)

// String returns the kind in words.
func (k EventKind) String() string { return "" }

// Event is something that happened to a node. Fields that don't apply to the kind
// are zero.
type Event struct {
	Kind   EventKind
	At     time.Time // the node's clock
	Peer   peer.ID
	Shard  sharding.Shard
	State  State
	Key    string
	Offset time.Duration
	Count  int
	Reason string
}

// String returns the event as a line for people.
func (e Event) String() string { return "" }

// Events iterates over what happens from now on, until ctx ends or the node is
// closed. Of a reader that falls behind the oldest events are dropped, and an
// EventsLost takes their place. The sequence can be ranged over once.
func (n *Node) Events(ctx context.Context) iter.Seq[Event] { return func(func(Event) bool) {} }
