package waku

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

// maxAgent is how much is shown of what a peer calls itself, in bytes.
const maxAgent = 64

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

// shardList names a few shards.
func shardList(shards []sharding.Shard) string {
	var words []string
	for i, s := range shards {
		if i == 8 {
			words = append(words, "…")
			break
		}
		words = append(words, s.String())
	}
	return strings.Join(words, ", ")
}

// Peers returns the connected peers that proved to belong to the network, in no
// order.
func (n *Node) Peers() []Peer {
	announced, mesh := map[peer.ID][]sharding.Shard{}, map[peer.ID][]sharding.Shard{}
	for _, s := range n.shards.joined() {
		for _, p := range n.relay.Peers(s.shard) {
			announced[p] = append(announced[p], s.shard)
		}
		for _, p := range n.relay.Mesh(s.shard) {
			mesh[p] = append(mesh[p], s.shard)
		}
	}
	n.peers.mu.Lock()
	var out []Peer
	for p, r := range n.peers.m {
		if r.proven {
			out = append(out, Peer{
				ID: p, Addr: r.addr, Inbound: r.inbound, Since: r.since, RTT: r.rtt,
				Shards: append(slices.Clone(r.shards), announced[p]...), Mesh: mesh[p],
			})
		}
	}
	n.peers.mu.Unlock()
	for i := range out {
		p := &out[i]
		slices.SortFunc(p.Shards, compareShards)
		p.Shards = slices.Compact(p.Shards)
		p.Static = n.isStatic(p.ID)
		if agent, err := n.host.Peerstore().Get(p.ID, "AgentVersion"); err == nil {
			p.Agent = printable(fmt.Sprint(agent))
		}
	}
	return out
}

// printable makes a stranger's text safe to show.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), maxAgent)], "")
}
