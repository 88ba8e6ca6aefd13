package waku

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

// Peer is what the node knows of a connected peer.
type Peer struct {
	ID peer.ID
	// Addr is the remote multiaddr of the oldest connection, without /p2p.
	Addr string
	// Inbound is true when the peer dialled.
	Inbound bool
	// Since is when it connected.
	Since time.Time
	// Agent is the user agent the peer claims, cut to 64 bytes.
	Agent string
	// Shards are what the peer reported (66/WAKU2-METADATA) or announced to
	// relay, in order.
	Shards []sharding.Shard
	// Mesh are the shards whose mesh the peer shares with this node, in order.
	Mesh []sharding.Shard
	// Static is true for one of [WithStaticPeers].
	Static bool
	// RTT is the round trip of the last ping; 0: none yet.
	RTT time.Duration
}
