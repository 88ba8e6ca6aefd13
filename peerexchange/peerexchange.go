// Package peerexchange asks a peer for other peers, and answers those who ask
// (34/WAKU2-PEER-EXCHANGE). It is how a node finds peers that can't or won't take
// part in discv5: one on a phone, in a browser, behind a strict firewall.
//
// Three names are enough to begin with: [Client.Ask], which asks a peer that the
// caller names; [Server], which answers; and [Sampler], the function that a Server
// gets its peers from. None of them keeps peers, dials, or knows what discovery is.
//
// What comes back are node records (31/WAKU2-ENR), and every [Peer] of an [Answer]
// was signed by the peer it is about. That proves who it is and nothing else:
// whether it is alive, whether its addresses are fit to be dialled, which may well
// be those of one's own local network, and whether it serves what it says, is for
// the caller to find out. Whoever is asked chooses who one meets. So ask several,
// and never rely on peer exchange alone.
//
// # On the wire
//
// One stream carries one request and one response, each a protobuf message behind
// its length. Twenty peers are asked for, and one comes:
//
//	0a 02        field 1: query, 2 bytes        0a 02        field 1: query
//	   08 14        its field 1: 20 peers          08 00        none: it is no request
//	                                            12 8b 01     field 2: response, 139 bytes
//	                                               0a 85 01     its field 1: a peer
//	                                                  0a 82 01     its field 1: a record
//	                                                  f8 80 …      of 130 bytes, RLP
//	                                               50 c8 01     its field 10: status 200
//
// Both fields may be there in both directions: nwaku writes both, and can't read
// what lacks the first. A server reads the first and a client the second. go-waku
// and js-waku know no status; without one, an answer with peers is a success and
// one without any means that there are none.
//
// # Refusals
//
//	400  the request can't be read                  final
//	429  too many requests                          later
//	503  there are no peers to offer, or no memory  somebody else, or later
//
// The numbers are nwaku's. Our words begin with the code's name and end in "retry
// after 250ms", or so, where waiting helps. go-waku hangs up on whoever asks more
// than once a second.
package peerexchange

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/sharding"
)

// ID is the protocol's name on the wire.
const ID protocol.ID = "/vac/waku/peer-exchange/2.0.0-alpha1"

// Numbers of peers.
const (
	// DefaultPeers is how many peers a server gives to one who doesn't say how many.
	DefaultPeers = 5
	// DefaultMaxPeers is how many peers there are at most in an answer.
	DefaultMaxPeers = 60
)

// Peer is a peer as its own record describes it.
type Peer struct {
	// Info is who the peer is and where, the better addresses first; there is one
	// at least. Nobody has tried them.
	Info peer.AddrInfo
	// ENR is the record, RLP encoded, at most 300 bytes.
	ENR []byte
	// Seq is the record's number: of two records of one peer the higher counts.
	Seq uint64
	// Shards are those that the peer serves, in ascending order, of one cluster.
	// None: the record doesn't say.
	Shards []sharding.Shard
	// Capabilities is what the peer offers.
	Capabilities Capabilities
}

// Answer is what became of a question.
type Answer struct {
	// Peers are each there once, by their newest record. There may be none.
	Peers []Peer
	// Refused counts the records that were left out, by one of the reasons below.
	// Nil: none were.
	Refused map[string]int
}

// Why a record is left out of an answer.
const (
	// RefusedMalformed: it is no record.
	RefusedMalformed = "malformed"
	// RefusedTooLarge: it is longer than 300 bytes.
	RefusedTooLarge = "too large"
	// RefusedKey: it isn't one of a secp256k1 key.
	RefusedKey = "key"
	// RefusedSignature: the peer it is about hasn't signed it.
	RefusedSignature = "signature"
	// RefusedShards: what it says about shards can't be read.
	RefusedShards = "shards"
	// RefusedNoAddress: it names no address.
	RefusedNoAddress = "no address"
	// RefusedSelf: it is about oneself.
	RefusedSelf = "self"
	// RefusedDuplicate: there was one of the same peer, as new or newer.
	RefusedDuplicate = "duplicate"
	// RefusedSurplus: it is one more than was asked for. It wasn't looked at.
	RefusedSurplus = "surplus"
)

// Capabilities is what a peer says that it offers (31/WAKU2-ENR, waku2), a bit each.
// Bits without a name here are always zero.
type Capabilities uint8

// The capabilities.
const (
	Relay Capabilities = 1 << iota
	Store
	Filter
	Lightpush
	Sync
	Mix
)

// Has reports whether all of other are in c.
func (c Capabilities) Has(other Capabilities) bool { return c&other == other }

// String returns the names joined by "+", "none" if there is none.
func (c Capabilities) String() string { return enr.Capabilities(c).String() }

const (
	// service is the protocol's name for the resource manager.
	service = "waku.peerexchange"
	// maxRequest is the length of the longest request read, in bytes. The longest
	// in use has 18.
	maxRequest = 1 << 10
	// perPeer is more than a record takes in an answer, in bytes.
	perPeer = enr.MaxSize + 16
	// envelope is more than an answer has beside its records.
	envelope = 1 << 10
)
