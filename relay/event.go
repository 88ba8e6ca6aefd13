package relay

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

// EventKind says what an Event is about.
type EventKind uint8

const (
	// PeerCut: a peer was disconnected for what it sent; Reason says why. Its
	// messages are refused for ten minutes, whether or not it comes back.
	PeerCut EventKind = iota + 1
	// MeshChanged: a peer joined or left this node's mesh of Shard; Count is
	// the mesh's size afterwards.
	MeshChanged
	// ReaderLost: a Subscription of Shard began to lose messages.
	ReaderLost
	// Overload: a message of Shard was refused because its validators have
	// more work waiting than Rules.MaxPending. Said once a second at most.
	Overload
	// ValidatorPanic: a validator of Shard panicked; Reason holds the value.
	// Said once a second at most.
	ValidatorPanic
)

// String returns the kind in words.
func (k EventKind) String() string {
	switch k {
	case PeerCut:
		return "peer cut"
	case MeshChanged:
		return "mesh changed"
	case ReaderLost:
		return "reader lost messages"
	case Overload:
		return "validators overloaded"
	case ValidatorPanic:
		return "validator panicked"
	default:
		return fmt.Sprintf("event %d", uint8(k))
	}
}

// Event is something that happened to a Relay. Fields that don't apply to the
// kind are zero.
type Event struct {
	Kind   EventKind
	Peer   peer.ID
	Shard  sharding.Shard
	Reason string
	Count  int
}
