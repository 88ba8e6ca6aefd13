package waku

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

// State says how well a shard is connected (nwaku's topic health).
type State uint8

// The states of a shard.
const (
	// Unhealthy: no mesh peer; what is sent reaches nobody, or hardly.
	Unhealthy State = iota
	// Minimal: some mesh peers, but fewer than the profile's DLow.
	Minimal
	// Sufficient: a full mesh.
	Sufficient
)

// String returns "unhealthy", "minimal" or "sufficient".
func (s State) String() string { return "" }

// Mode says how the node takes part in a shard.
type Mode uint8

// The modes.
const (
	// ModeRelay: by the shard's relay mesh.
	ModeRelay Mode = iota + 1
)

// String returns "relay".
func (m Mode) String() string { return "" }

// Health is a node's state at one moment: a value, nobody else's.
type Health struct {
	// At is the node's clock.
	At time.Time
	// State is the worst shard's; Unhealthy when nothing is joined.
	State State
	// Summary says in a sentence what is wrong, or that nothing is.
	Summary string
	// Peers is the number of connected peers.
	Peers int
	// Shards are the joined shards, in order.
	Shards []ShardHealth
	// Clock is what the node thinks of its clock.
	Clock ClockHealth
	// Disconnects are the last peers turned away or lost, the latest first, at
	// most 16.
	Disconnects []Disconnect
	// Static are the peers of WithStaticPeers.
	Static []StaticPeer
}

// ShardHealth is the state of one shard.
type ShardHealth struct {
	Shard sharding.Shard
	Mode  Mode
	State State
	// Reason says in a sentence why State isn't Sufficient, or why nothing can
	// pass; empty otherwise.
	Reason string
	// Mesh and Peers count the peers in this node's mesh, and those that announced
	// the shard.
	Mesh, Peers int
	// Memberships is how often the shard is joined.
	Memberships int
	// Protected is true when messages must be signed. Keys counts the keys valid
	// now.
	Protected bool
	Keys      int
	// Delivered counts messages that passed every rule, Lost those that slow
	// readers lost.
	Delivered, Lost uint64
	// Refused counts what didn't pass, by reason: "no_signature",
	// "bad_signature", "outside_window", "replay", ….
	Refused map[string]uint64
	// Validators are the plugged-in ones that aren't well.
	Validators []ValidatorHealth
}

// ValidatorHealth is the state of a plugged-in validator.
type ValidatorHealth struct {
	Name string
	// Stuck is how many of its calls were abandoned and still run; at 16 it isn't
	// asked any more.
	Stuck int
	// TimedOut and Panicked count its calls that ended so.
	TimedOut, Panicked uint64
}

// ClockHealth is what the node thinks of its clock, from the timestamps of signed
// messages.
type ClockHealth struct {
	// Suspect is true when the messages of several peers agree that the clock is
	// wrong. Send fails with a *ClockError meanwhile.
	Suspect bool
	// Offset is how far the network's time is ahead of the node's.
	Offset time.Duration
	// Since is when the suspicion arose, by the node's clock.
	Since time.Time
}

// Disconnect tells of a peer that was turned away or lost.
type Disconnect struct {
	Peer peer.ID
	At   time.Time
	// Reason is a sentence, such as "peer is on cluster 1, ours is 16".
	Reason string
}

// StaticPeer is the state of one of [WithStaticPeers].
type StaticPeer struct {
	Peer      peer.ID
	Connected bool
	// Failures counts the attempts since the last success; LastError is the last
	// one's.
	Failures  int
	LastError string
	// NextTry is when the next attempt is due.
	NextTry time.Time
}

// Health returns the node's state. It asks nobody and doesn't wait.
func (n *Node) Health() Health { return Health{} }
