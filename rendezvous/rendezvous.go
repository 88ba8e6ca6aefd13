// Package rendezvous lets peers of one shard find each other at a third one: a
// rendezvous point, with which they leave their addresses, and which they ask for
// those of others (libp2p rendezvous, /rendezvous/1.0.0).
//
// Three names are enough to begin with: [Client], which registers, and asks a point
// that the caller names; [Registrar], which keeps a registration alive at several
// points; and [Point], which serves. None of them dials of its own accord, knows
// what discovery is, or keeps the peers found.
//
// What comes back are signed peer records, and every [Peer] of an [Answer] was
// signed by the peer it is about. That proves who it is, and that these were once
// its addresses; not that it is alive, nor that the addresses are fit to be dialled.
// A point chooses whom one meets. So ask several.
//
// # On the wire
//
// One stream carries one request and one response, each a protobuf message behind
// its length. A peer registers for two hours, and asks for twelve others:
//
//	08 00                type REGISTER, on the wire although it is zero
//	12 …                 field 2: register
//	   0a 09 rs/16/128      the namespace
//	   12 …                 the signed peer record
//	   18 a0 38             7200 seconds
//
//	08 03                type DISCOVER
//	2a …                 field 5: discover
//	   0a 09 rs/16/128      the namespace; without one: all of them
//	   10 0c                at most 12
//	   1a …                 the cookie, when going on
//
// A request to unregister has no response: the stream just ends.
//
// # Who is shown
//
// A first answer is a random sample in which every network address has the same
// share, however many peers register from it. Its cookie leads on: if the sample
// wasn't all there was, through everybody, in the order of their coming; and then to
// those who have come since.
//
// # Refusals
//
//	100  the namespace isn't served             final
//	101  the record isn't the peer's own        final
//	102  too short or too long                  final
//	103  the cookie isn't the point's           ask without it
//	200  not welcome                            final
//	300  internal error                         later
//	400  too often, too many, or full           later, or somebody else
//
// Our words begin with the code's name and end in "retry after 250ms", or so, where
// waiting helps.
package rendezvous

import (
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/sharding"
)

// ID is the protocol's name on the wire.
const ID protocol.ID = "/rendezvous/1.0.0"

// How long a registration lives.
const (
	// MinTTL is the shortest that a point accepts by default.
	MinTTL = time.Minute
	// DefaultTTL is what a registration has that doesn't say. All implementations
	// accept it.
	DefaultTTL = 2 * time.Hour
	// MaxTTL is the longest, everywhere.
	MaxTTL = 72 * time.Hour
)

// Sizes.
const (
	// MaxNamespace is the length of the longest namespace, in bytes.
	MaxNamespace = 255
	// MaxAddrs is how many addresses there are at most in a record.
	MaxAddrs = 64
	// MaxAddrBytes is how long a record's addresses are at most together, in bytes.
	MaxAddrBytes = 2048
	// DefaultPeers is how many peers a client asks for unless it says otherwise.
	DefaultPeers = 12
	// MaxPeers is how many peers can be asked for.
	MaxPeers = 1000
)

// namespacePrefix begins the namespaces of shards.
const namespacePrefix = "rs/"

// Namespace returns the namespace of a shard, rs/<cluster>/<index>.
func Namespace(s sharding.Shard) string { return namespacePrefix + s.String() }

// ParseNamespace reads the namespace of a shard. Exactly what [Namespace] writes is
// accepted. The error is one of package sharding, or says that the prefix is
// missing.
func ParseNamespace(ns string) (sharding.Shard, error) {
	pair, ok := strings.CutPrefix(ns, namespacePrefix)
	if !ok || strings.HasPrefix(pair, "/") {
		return sharding.Shard{}, fmt.Errorf("rendezvous: %q is no shard's namespace", ns[:min(len(ns), MaxNamespace)])
	}
	return sharding.ParseShard(pair)
}

// Peer is a peer as its own record describes it.
type Peer struct {
	// Info is who the peer is and where; there is one address at least. Nobody has
	// tried them.
	Info peer.AddrInfo
	// Namespace is where it was found.
	Namespace string
	// Seq is the record's number: of two records of one peer the higher counts.
	Seq uint64
	// TTL is how long the registration lives on, at most MaxTTL. Zero: the point
	// doesn't say.
	TTL time.Duration
	// Record is the signed peer record as it came.
	Record []byte
}

// Answer is what a point has to say.
type Answer struct {
	// Peers are each there once, by their newest record; with all namespaces asked
	// for, once in each. There may be none.
	Peers []Peer
	// Cookie leads on from here, at the same point and in the same namespace.
	Cookie Cookie
	// Refused counts the registrations that were left out, by one of the reasons
	// below. Nil: none were.
	Refused map[string]int
}

// Cookie is a point's bookmark. The zero value is the beginning.
type Cookie struct {
	point peer.ID
	ns    string
	value string
}

// Why a registration is left out of an answer.
const (
	// RefusedMalformed: there is no signed peer record in it.
	RefusedMalformed = "malformed"
	// RefusedTooLarge: the record has too many addresses, or too long ones.
	RefusedTooLarge = "too large"
	// RefusedSignature: the peer it is about hasn't signed it.
	RefusedSignature = "signature"
	// RefusedNamespace: it belongs to another namespace.
	RefusedNamespace = "namespace"
	// RefusedExpired: it is past its time.
	RefusedExpired = "expired"
	// RefusedNoAddress: it names no address that can be read.
	RefusedNoAddress = "no address"
	// RefusedSelf: it is about oneself.
	RefusedSelf = "self"
	// RefusedDuplicate: there was one of the same peer, as new or newer.
	RefusedDuplicate = "duplicate"
	// RefusedSurplus: it is one more than was asked for. It wasn't looked at.
	RefusedSurplus = "surplus"
)

const (
	// service is the protocol's name for the resource manager.
	service = "waku.rendezvous"
	// maxRecord is the length of the longest signed peer record, in bytes: one with
	// MaxAddrBytes of addresses and an RSA key of 2048 bits.
	maxRecord = 3 << 10
	// maxRequest is the length of the longest request read, in bytes. nwaku reads
	// half as much.
	maxRequest = 8 << 10
	// narrow is the longest request that everybody reads.
	narrow = 4 << 10
	// perPeer is more than a registration takes in an answer, in bytes.
	perPeer = maxRecord + MaxNamespace + 32
	// envelope is more than an answer has beside its registrations.
	envelope = 1 << 10
)
