// Package enr builds, signs and reads Ethereum node records (EIP-778) as Waku
// nodes use them (31/WAKU2-ENR): a signed list of keys and values, at most
// 300 bytes, that says who a node is, where it is and what it serves.
//
//	key                       value
//	id                        "v4", the identity scheme
//	secp256k1                 compressed public key; the peer id follows from it
//	ip tcp udp                IPv4 address, libp2p's TCP port, discv5's UDP port
//	ip6 tcp6 udp6             the same for IPv6
//	waku2                     capabilities, one byte
//	rs or rsv                 the shards served, as a list or a bit vector
//	multiaddrs                further addresses: u16 length ‖ multiaddr, repeated
//
// Build makes a record, Parse and Decode read one; a *Record is immutable.
//
// A record is a claim by its owner about itself: everything here is signed, and
// nothing is verified beyond that. Whether an address is fit to be dialled is
// for the caller to judge.
//
// # Circuit addresses
//
// A node behind a relay writes <relay address>/p2p/<relay id> without
// /p2p-circuit, as go-waku does, and a reader who finds somebody else's peer id
// at the end of an address puts /p2p-circuit after it. Fields and Addrs speak
// of whole circuit addresses; only the record holds the short form.
package enr

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"

	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/sharding"
)

// MaxSize is the length in bytes of the longest record, RLP encoded.
const MaxSize = gethenr.SizeLimit

// Errors of Parse, Decode and Build; match them with errors.Is.
var (
	ErrMalformed = errors.New("enr: malformed record")
	ErrSignature = errors.New("enr: invalid signature")
	ErrTooLarge  = errors.New("enr: record exceeds 300 bytes")
	ErrKey       = errors.New("enr: not a secp256k1 key")
	ErrAddress   = errors.New("enr: address can't be put into a record")
)

// Capabilities is the waku2 bit field: what a node offers to others. Bits not
// named here are kept out of it.
type Capabilities uint8

// The capabilities, each one bit.
const (
	Relay Capabilities = 1 << iota
	Store
	Filter
	Lightpush
	Sync
	Mix

	knownCapabilities = Mix<<1 - 1
)

var capabilityNames = []string{"relay", "store", "filter", "lightpush", "sync", "mix"}

// Has reports whether all of other are in c.
func (c Capabilities) Has(other Capabilities) bool { return c&other == other }

// Names returns the capabilities' names, in the order of their bits.
func (c Capabilities) Names() []string {
	var names []string
	for i, name := range capabilityNames {
		if c.Has(1 << i) {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names joined by "+", "none" if there is none.
func (c Capabilities) String() string {
	if c == 0 {
		return "none"
	}
	return strings.Join(c.Names(), "+")
}

// Fields are what a record says besides who signed it. Zero means that the
// record doesn't say.
type Fields struct {
	// Seq grows with every change: of two records of one node, the one with
	// the higher number counts.
	Seq uint64

	IP4      netip.Addr
	TCP, UDP uint16 // libp2p and discv5, beside IP4
	IP6      netip.Addr
	TCP6     uint16 // beside IP6; zero: TCP holds for both
	UDP6     uint16
	// Multiaddrs are further addresses, the best first, as libp2p has them,
	// with or without the node's own /p2p/… at the end.
	Multiaddrs []ma.Multiaddr

	Capabilities Capabilities
	// Shards is the zero Set when the record names none.
	Shards sharding.Set
}

// Record is a signed record.
type Record struct {
	raw       []byte
	keys      []string
	publicKey [33]byte // compressed
	nodeID    [32]byte
	peerID    peer.ID
	fields    Fields
	shardsErr error
}

// String returns the record's text form, "enr:" and base64.
func (r *Record) String() string { return prefix + base64.RawURLEncoding.EncodeToString(r.raw) }

// Bytes returns the record's RLP encoding.
func (r *Record) Bytes() []byte { return slices.Clone(r.raw) }

// Keys returns the record's keys in their order, those unknown here included.
func (r *Record) Keys() []string { return slices.Clone(r.keys) }

// Seq returns the record's sequence number.
func (r *Record) Seq() uint64 { return r.fields.Seq }

// PeerID returns the libp2p identity of the record's owner.
func (r *Record) PeerID() peer.ID { return r.peerID }

// PublicKey returns the owner's compressed secp256k1 key, 33 bytes.
func (r *Record) PublicKey() []byte { return slices.Clone(r.publicKey[:]) }

// NodeID returns the owner's place in discv5's address space: the keccak256 of
// the public key's coordinates.
func (r *Record) NodeID() [32]byte { return r.nodeID }

// Fields returns what the record says. To change one's own record, change this
// and Build again with a higher Seq.
func (r *Record) Fields() Fields {
	f := r.fields
	f.Multiaddrs = slices.Clone(f.Multiaddrs)
	return f
}

// Capabilities returns what the owner offers.
func (r *Record) Capabilities() Capabilities { return r.fields.Capabilities }

// Shards returns the shards the owner serves; none if the record doesn't say.
// The error says why the record's list can't be believed (see
// sharding.ReadRecord); the set is then empty, which matches nothing.
func (r *Record) Shards() (sharding.Set, error) { return r.fields.Shards, r.shardsErr }

// Ambiguous reports whether the record has both lists of shards, rs and rsv. Then rs
// counts, as in every implementation.
func (r *Record) Ambiguous() bool {
	return slices.Contains(r.keys, sharding.KeyRS) && slices.Contains(r.keys, sharding.KeyRSV)
}

// Addrs returns where the owner can be dialled, without its own /p2p/… at the
// end, each once: ip and tcp first, then ip6, then the multiaddrs.
func (r *Record) Addrs() []ma.Multiaddr {
	var addrs []ma.Multiaddr
	f := r.fields
	addrs = appendTCP(addrs, f.IP4, f.TCP)
	if f.TCP6 != 0 {
		addrs = appendTCP(addrs, f.IP6, f.TCP6)
	} else {
		addrs = appendTCP(addrs, f.IP6, f.TCP)
	}
	for _, a := range f.Multiaddrs {
		if !ma.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// AddrInfo returns PeerID and Addrs as libp2p takes them.
func (r *Record) AddrInfo() peer.AddrInfo { return peer.AddrInfo{ID: r.peerID, Addrs: r.Addrs()} }
