// Package filter brings a node the messages of the content topics that it names,
// without having it relay anything (12/WAKU2-FILTER, version 2).
//
// A [Client] tells a service peer what it wants: [Client.Subscribe]. From then on
// that peer pushes, and [ClientConfig].OnPush takes. Whoever goes silent for five
// minutes is forgotten by his service peer, so [Client.Ping] now and then; the
// answer [ErrNotSubscribed] means: subscribe anew. The client picks no peers,
// repeats nothing by itself, and verifies no signatures. What it does is to keep
// what one peer is asked in order and below the rates that peers allow, and to let
// nothing through that wasn't asked for.
//
// A [Server] is the other side: it keeps who wants what, and [Server.Push] hands a
// message to everybody who wants it. Push never waits. Each subscriber has a
// bounded queue, and one that doesn't take what is his is forgotten.
//
// # On the wire
//
// Two protocols. On [SubscribeID] the client opens a stream for each request, and
// the server answers it; each is a protobuf message behind its length:
//
//	0a 01 31          field 1: request id "1"     0a 01 31      field 1: request id
//	10 01             field 2: subscribe          50 c8 01      field 10: status 200
//	52 10 2f77616b…   field 10: /waku/2/rs/16/32  5a 02 4f 4b   field 11: "OK"
//	5a 18 2f77616b…   field 11: a content topic
//
// Field 2 is 0 for ping, 1 subscribe, 2 unsubscribe, 3 unsubscribe from all. Status
// 200 is yes, 400 a request that makes no sense, 404 the answer to one who isn't
// subscribed, 429 to one who asks too often, 503 is no room.
//
// On [PushID] the server opens the stream, and nobody answers. A push is
//
//	0a 2b 0a056865…   field 1: the message, as package message encodes it
//	12 10 2f77616b…   field 2: /waku/2/rs/16/32, always there
//
// # Streams of pushes
//
// Implementations differ in how many pushes a stream carries. nwaku keeps one open
// and goes on; go-waku opens one for each. js-waku and nwaku read a stream to its
// end, go-waku reads one push and closes it: whatever comes behind is lost, and
// nothing tells. A Client here reads any number.
//
// A Server keeps a stream open, which spares a round trip and a stream for every
// message (js-waku never closes its end of one, and refuses more than a hundred).
// But it holds on to what it wrote for the first seconds. If the subscriber closes
// the stream in that time, as go-waku does at once, what followed the first push
// is sent again, and from then on each push has a stream of its own: at fewer than
// fifteen a second, which is what go-waku takes. So a subscriber may see a push
// twice, and must know messages by their hash, as it must with two service peers.
package filter

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/message"
)

// The protocols' names on the wire.
const (
	SubscribeID protocol.ID = "/vac/waku/filter-subscribe/2.0.0-beta1"
	PushID      protocol.ID = "/vac/waku/filter-push/2.0.0-beta1"
)

// Service is the protocols' name for the resource manager.
const Service = "waku.filter"

// Push is a message that a service peer brought.
type Push struct {
	// From is the service peer.
	From peer.ID
	// PubsubTopic is where the message was published, by what From says.
	PubsubTopic string
	// Message is decoded, valid and not too large. Nobody has verified more.
	Message *message.Message
	// Hash is the message's on PubsubTopic.
	Hash message.Hash
	// Data is the message as it was encoded. Message aliases it, nothing else does.
	Data []byte
}
