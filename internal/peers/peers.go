// Package peers decides which peers a node has: whom to dial, whom to part from,
// whom to ask. A [Manager] is told what happened and answers what to do. It has no
// goroutine, no clock and no network, and given the same events, times and
// [Config].Rand it decides the same.
//
//	Found                      somebody told of peers
//	Connected Proven Alive     a peer is there, belongs here, answers
//	Reachable                  a peer's record is right about where it is
//	Lost Failed                a connection ended, a dial failed
//	Foreign Cut                a peer doesn't belong here, or misbehaved
//	Want Keep NetworkChanged   what the node needs, and where it is, changed
//
// After events, and when [Plan].Next is due, [Manager.Plan] says what to do now. A
// node that has what it needs plans nothing, and its Next is zero.
//
// # What strangers can and can't do
//
// Whoever can make up identities can fill any table with records, so records count
// for little. The table is bounded in all, per source, per teller and per address;
// what was told first isn't displaced by what is told later, only what has failed
// is. Dials are bounded in rate whatever happens, and addresses at which nobody
// answers rest, whoever is said to live there.
//
// Among those who carry a shard, outbound slots are shared evenly: half for those
// told by who is trusted (the operator, signed trees, the past), half for the rest,
// that one evenly among sources, and each of them evenly among tellers; a network
// (IPv4 /24, IPv6 /48) gets two at most, and wider ones (/16, /32) take turns.
// Someone who controls nine of ten records has therefore no more slots than his
// tellers and networks have a right to. Nothing here helps a node that only a liar
// tells of peers.
//
// Inbound connections never take outbound slots. When there are too many, those go
// first that are of no use, then newcomers from where many come from; who has been
// there for a while isn't displaced, nor who is a shard's last.
package peers

import (
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/sharding"
)

// Service is a set of protocols that a peer serves, as bits.
type Service uint8

// The services. All but PeerExchange can be read from a record.
const (
	Relay Service = 1 << iota
	Store
	Filter
	LightPush
	PeerExchange
)

var serviceNames = [...]string{"relay", "store", "filter", "lightpush", "peerexchange"}

// Has reports whether all of other are in s.
func (s Service) Has(other Service) bool { return s&other == other }

// String returns the names joined by "+", "none" if there is none.
func (s Service) String() string {
	var names []string
	for i, name := range serviceNames {
		if s.Has(1 << i) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "+")
}

// Source is a way to learn of a peer. The zero Source is none.
type Source uint8

// The sources, the most trusted first.
const (
	Static      Source = 1 + iota // configured by the operator; never forgotten
	Application                   // told by the program at run time
	DNS                           // from a signed tree
	Saved                         // connected before a restart
	Rendezvous
	Discv5
	Exchange
	Inbound // it came by itself
	sources
)

var sourceNames = [sources]string{"none", "static", "application", "dns", "saved", "rendezvous", "discv5", "exchange", "inbound"}

// String returns the source's name.
func (s Source) String() string {
	if s < sources {
		return sourceNames[s]
	}
	return "source " + strconv.Itoa(int(s))
}

// trusted reports whether those that s tells of are chosen by somebody who means
// well, or have been good peers.
func (s Source) trusted() bool { return s <= Saved }

// ours reports whether the node's own user told of it.
func (s Source) ours() bool { return s <= Application }

// Sighting is what somebody tells of a peer.
type Sighting struct {
	// Info is who it is and where. Addresses that can't or mustn't be dialled are
	// left out; see [Config].AllowPrivate.
	Info peer.AddrInfo
	// Shards are those it carries; empty: nobody said.
	Shards sharding.Set
	// Services are those it has; 0: nobody said.
	Services Service
	// Record is the node record that says all this, RLP encoded, and Seq its
	// sequence number. The caller has verified it. nil: hearsay, which never
	// replaces what a record says.
	Record []byte
	Seq    uint64
	// Signed is true if there is no node record, but the peer itself has signed Info,
	// and numbered it with Seq. It adds to what a record says, and its circuit
	// addresses replace those of an older one.
	Signed bool
	// Ambiguous is true for a record with both lists of shards, which is counted.
	Ambiguous bool
	// Source is the way it came, and From who told: a peer exchange service's id,
	// a tree's URL. Tellers of one source are treated evenly, so those that may
	// well be one should be given one name.
	Source Source
	From   string
}

// FromRecord returns what a verified record says.
func FromRecord(r *enr.Record, source Source, from string) Sighting {
	shards, _ := r.Shards() // of no use: empty
	return Sighting{
		Info:     r.AddrInfo(),
		Shards:   shards,
		Services: services(r.Capabilities()),
		Record:   r.Bytes(),
		Seq:      r.Seq(),
		Source:   source,
		From:     from,

		Ambiguous: r.Ambiguous(),
	}
}

func services(c enr.Capabilities) (s Service) {
	for _, x := range [...]struct {
		c enr.Capabilities
		s Service
	}{{enr.Relay, Relay}, {enr.Store, Store}, {enr.Filter, Filter}, {enr.Lightpush, LightPush}} {
		if c.Has(x.c) {
			s |= x.s
		}
	}
	return s
}

// Need is how many peers a node wants for one shard and one service.
type Need struct {
	Shard   sharding.Shard
	Service Service // all of these; usually one
	// AnyShard is true if it doesn't matter what shards they carry.
	AnyShard bool
	// Min is how many must stay: no trimming goes below. With less, everybody is
	// tried, however often they failed.
	Min int
	// Target is how many are looked for.
	Target int
	// Outbound is how many of them must have been dialled by this node, whoever
	// else is connected. Half of these are for trusted sources while they know
	// any.
	Outbound int
}

// Plan is what is to be done now.
type Plan struct {
	// Dial are peers to connect to, at the addresses given and no others. Each
	// counts as begun: it has to be answered by Connected or Failed, within
	// [DialTimeout].
	Dial []peer.AddrInfo
	// Drop are peers to disconnect; Lost is expected for each.
	Drop []Drop
	// Missing are the needs that aren't met, in the order of Want.
	Missing []Missing
	// Next is when there will be something to do even if nothing happens. Zero:
	// never.
	Next time.Time
}

// Drop is a peer to part from.
type Drop struct {
	ID     peer.ID
	Reason string
}

// Missing is a need that isn't met.
type Missing struct {
	Need
	Have     int // connected and proven
	Outbound int // of these, dialled by this node
	Trying   int // being dialled, or connected and not proven yet
	Known    int // that might serve it and aren't connected
	Resting  int // of these, not to be dialled now, since they or their neighbours failed
}
