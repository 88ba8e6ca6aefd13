package waku

import "github.com/libp2p/go-libp2p/core/peer"

// linksTo calls f for each link to a peer that hasn't ended, with its shard's mu held.
func (n *Node) linksTo(p peer.ID, f func(*lightLink)) {
	for _, s := range n.shards.all() {
		s.light.mu.Lock()
		if k := s.light.links[p]; k != nil && k.err == nil {
			f(k)
		}
		s.light.mu.Unlock()
	}
}
