// Package lightpush hands messages to a peer that relays them, and relays those
// that peers hand over (19/WAKU2-LIGHTPUSH, version 3, and 2.0.0-beta1 for those
// who speak nothing newer).
//
// Three names are enough to begin with: [Client], which pushes a message to a peer
// that the caller names; [Server], which takes pushes; and [Relayer], the function
// that a Server hands messages to. Neither picks peers, tries again, or knows what
// a relay is.
//
// A push that succeeds says that the peer handed the message to so many relay
// peers. It says nothing about where it got to: two services, and a look into a
// store, say more. A push that fails with anything but a [StatusError] may have
// been relayed all the same. Pushing it again is safe: relays know its bytes for two
// minutes and let them pass once.
//
// # On the wire
//
// One stream carries one request and one response, each a protobuf message behind
// its length. Version 3, for a message on shard 16/32, relayed to five peers:
//
//	0a 01 31           field 1: request id "1"      0a 01 31      field 1: request id
//	a2 01 10 2f7761…   field 20: /waku/2/rs/16/32   50 c8 01      field 10: status 200
//	aa 01 2b 0a0568…   field 21: the message        5a 02 4f 4b   field 11: "OK"
//	                                                60 05         field 12: five peers
//
// Version 2 wraps both in one type and has no status codes. What isn't a success is
// written all the same, since not everybody takes an absent field for false:
//
//	0a 01 31           field 1: request id "1"      0a 01 31        field 1: request id
//	12 3f              field 2: request, 63 bytes   1a 06           field 3: response
//	   0a 10 2f7761…   its field 1: pubsub topic       08 01        its field 1: success
//	   12 2b 0a0568…   its field 2: message            12 02 4f 4b  its field 2: "OK"
//
// # Refusals
//
//	400  the request can't be read, or its pubsub topic is empty         final
//	413  the message is too large                                        final
//	420  no relay would forward the message, or it names no topic        final
//	421  the service isn't on that shard                                 somebody else
//	429  too many requests                                               later
//	500  something broke                                                 somebody else, or later
//	503  busy                                                            somebody else, or later
//	504  the service can't prove its rate to the network                 somebody else
//	505  there is nobody to relay to                                     somebody else
//
// The numbers are nwaku's. Our words begin with the code's name, in version 2 as
// well, and end in "retry after 250ms", or so, where waiting helps. Others' words
// in version 2 are free text; a [StatusError] has the code that they amount to.
package lightpush

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// The protocol's names on the wire.
const (
	// ID is version 3's.
	ID protocol.ID = "/vac/waku/lightpush/3.0.0"
	// LegacyID is version 2's, the only one that go-waku speaks.
	LegacyID protocol.ID = "/vac/waku/lightpush/2.0.0-beta1"
)

// Relayer is what a [Server] hands a message to, which is well-formed, belongs to
// shard s and came from a peer. It judges the message as it would one from the mesh,
// relays it, and says to how many peers; none is answered with
// StatusNoPeersToRelay. A message that was relayed before is no failure: senders
// push to several services, and again when in doubt.
//
// The error is one that [Refuse] made, in which case the peer is told; or any other,
// in which case it is told that something broke, and OnFailure is told what. A panic
// is contained. ctx ends when the peer is no longer waiting; the Relayer must return
// soon after, since Close waits for it.
//
// It may keep m, which nobody changes.
type Relayer func(ctx context.Context, from peer.ID, s sharding.Shard, m *message.Message) (peers int, err error)

// Receipt says who took a message.
type Receipt struct {
	// Peer is the service.
	Peer peer.ID
	// RelayPeers is how many peers it handed the message to, at least 1. -1: it
	// doesn't say, as nobody does in version 2.
	RelayPeers int
	// Version is the protocol's that was spoken, 2 or 3.
	Version int
}

// service is the protocol's name for the resource manager.
const service = "waku.lightpush"

const (
	// notRead is the request id of an answer to a request that wasn't read, and by
	// custom of every StatusTooManyRequests.
	notRead = "N/A"
	// maxID is the length of the longest request id read, in bytes. The longest
	// in use has 64.
	maxID = 256
	// maxAnswer is the length of the longest answer read, in bytes.
	maxAnswer = 16 << 10
	// envelope is more than a request has beside its message: an id, a pubsub
	// topic, tags and lengths, in bytes.
	envelope = 1 << 10
)
