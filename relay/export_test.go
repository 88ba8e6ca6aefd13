package relay

import "github.com/libp2p/go-libp2p/core/peer"

// SetUncut switches off disconnecting for misbehaviour.
func (r *Relay) SetUncut(off bool) { r.uncut = off }

// SetLenient switches off the judgement of silent peers.
func (r *Relay) SetLenient(off bool) { r.lenient = off }

// AnnouncedBy is the number of shards remembered of a peer.
func (r *Relay) AnnouncedBy(p peer.ID) int {
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	if ps, ok := r.peers.peers[p]; ok {
		return len(ps.topics)
	}
	return 0
}
