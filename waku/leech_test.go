package waku_test

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/waku"
)

// A member that dialled mostly leeches gives them up one by one, and nobody who works.
// Leeches that came by themselves may stay.
func TestLeechesAreGivenUp(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		var nodes, leeches []*waku.Node
		var members []*waku.Membership
		for i, h := range p2ptest.Hosts(t, 19) {
			o := start(t, waku.WithHost(h), waku.WithoutDiscv5())
			m := join(t, o, waku.Community{Shard: town})
			if i < 9 {
				nodes, members = append(nodes, o), append(members, m)
				continue
			}
			waku.RelayOf(o).SetRules(town, relay.Rules{Screen: func(*message.Received) message.Verdict { return message.Ignore }})
			leeches = append(leeches, o)
		}
		n := nodes[0]
		for i, o := range nodes[1:] {
			connect(t, o, nodes[2+i:]...)
		}
		connect(t, n, nodes[1:]...)
		connect(t, n, leeches[1:]...)
		connect(t, leeches[0], n)
		talk(t, members, 4*time.Minute)
		left := map[peer.ID]bool{}
		for _, p := range n.Peers() {
			left[p.ID] = true
		}
		for i, o := range nodes[1:] {
			require.True(t, left[o.PeerID()], "honest %d", i)
		}
		require.True(t, left[leeches[0].PeerID()], "it came by itself")
		for i, o := range leeches[1:] {
			require.False(t, left[o.PeerID()], "leech %d", i)
		}
		require.Len(t, n.Health().Disconnects, len(leeches)-1)
	})
}
