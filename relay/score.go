package relay

import (
	"net/netip"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	gossipThreshold   = -100
	publishThreshold  = -1000
	graylistThreshold = -10000
	// invalidWeight is P4's: n invalid messages cost n² times this.
	invalidWeight = -100
	// crowdPenalty is what a peer costs that came late to a crowded address.
	// It is far from the gossip threshold: mesh slots are lost, gossip isn't.
	crowdPenalty = -20
	// silentPenalty is more than who worked until lately can have earned (P1 and P2),
	// on two shards if need be, and far from the gossip threshold.
	silentPenalty = -25
	// mutePenalty is what silence outside a besieged mesh costs: no gossip is wasted
	// on who does nothing with it. The first offer that the peer makes is heard all
	// the same and ends it.
	mutePenalty = gossipThreshold - 20
	// standing is what a working peer has and a silent one hasn't. Half of it
	// is the threshold of opportunistic grafting, so that this begins when
	// most of a mesh is idle and never on a quiet shard.
	standing = 1
	// showedFor is how long having shown something gives standing outside a mesh.
	showedFor = 30 * time.Second
	// creditFor is how long the router remembers who brought which message first. It
	// takes as much memory as all the rest of a busy node's router, and is used until
	// the message is judged.
	creditFor = 30 * time.Second

	inspectInterval = 5 * time.Second
)

func scoreThresholds() *pubsub.PeerScoreThresholds {
	return &pubsub.PeerScoreThresholds{
		GossipThreshold:             gossipThreshold,
		PublishThreshold:            publishThreshold,
		GraylistThreshold:           graylistThreshold,
		AcceptPXThreshold:           1e9, // nobody's PRUNE makes us dial
		OpportunisticGraftThreshold: standing / 2.0,
	}
}

func (r *Relay) scoreParams() *pubsub.PeerScoreParams {
	return &pubsub.PeerScoreParams{
		Topics:                    map[string]*pubsub.TopicScoreParams{},
		AppSpecificScore:          r.appScore,
		AppSpecificWeight:         1,
		BehaviourPenaltyWeight:    -10,
		BehaviourPenaltyThreshold: 6,
		BehaviourPenaltyDecay:     0.9,
		DecayInterval:             12 * time.Second,
		DecayToZero:               0.01,
		RetainScore:               10 * time.Minute,
		SeenMsgTTL:                creditFor,
	}
}

func topicScoreParams() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		SkipAtomicValidation:         true, // what isn't set is off
		TopicWeight:                  1,
		TimeInMeshWeight:             0.01,
		TimeInMeshQuantum:            time.Second,
		TimeInMeshCap:                10,
		FirstMessageDeliveriesWeight: 1,
		FirstMessageDeliveriesDecay:  0.5,
		FirstMessageDeliveriesCap:    10,
	}
}

// appScore is the part of a peer's score that the router can't know.
func (r *Relay) appScore(p peer.ID) float64 {
	b := r.peers
	b.mu.Lock()
	defer b.mu.Unlock()
	ps, ok := b.peers[p]
	if !ok {
		return 0
	}
	now := b.now()
	score := 0.0
	if n := ps.faults.count(now); n >= 0.1 {
		score += invalidWeight * n * n
	}
	if b.crowded(p, ps) {
		score += crowdPenalty
	}
	switch {
	case b.lenient():
		score += standing
	case b.mute(ps, now):
		score += mutePenalty
	case now.Before(ps.silentUntil):
		score += silentPenalty
	case ps.hasStanding(now):
		score += standing
	case b.newcomer(ps):
		score += silentPenalty
	}
	return score
}

// crowded tells whether p came to its address after the ones that fill it.
func (b *peerBook) crowded(p peer.ID, ps *peerState) bool {
	here := b.addrs[ps.addr]
	limit := b.relay.cfg.MaxPeersPerAddr
	if len(here) <= limit {
		return false
	}
	for _, q := range here[:limit] {
		if q == p {
			return false
		}
	}
	return true
}

// hasStanding is true for who showed something lately, and in a mesh also for
// who had no fair chance to.
func (ps *peerState) hasStanding(now time.Time) bool {
	if !ps.showedAt.IsZero() && now.Sub(ps.showedAt) < showedFor {
		return true
	}
	for _, l := range ps.links {
		if l.shows() {
			return true
		}
	}
	return false
}

// Score is p's score: negative for messages refused, a crowded address, silence
// and misbehaviour, positive for work done. Below zero a peer has no place in a
// mesh, below -100 no gossip, below -10000 no connection. The router's part of it
// (P1, P2 and P7 of GossipSub v1.1) is up to five seconds old.
func (r *Relay) Score(p peer.ID) float64 {
	score := r.appScore(p)
	if parts := r.scores.Load(); parts != nil {
		score += (*parts)[p]
	}
	return score
}

// fault holds a message against a peer that go-waku and nwaku would refuse too.
// It counts as the router's P4 would. That isn't told of rejections: it would
// blame whoever else sends the same bytes, on another shard too.
func (r *Relay) fault(p peer.ID, reason string) {
	if r.peers.addFaults(p, 1) {
		r.cut(p, reason)
	}
}

func (r *Relay) faultControl(p peer.ID) {
	if r.peers.addFaults(p, controlFaults) {
		r.cut(p, "more messages of a kind that costs and brings nothing than any use needs")
	}
}

// cutGraylisted is called by the router with all scores.
func (r *router) cutGraylisted(scores map[peer.ID]float64) {
	if r.ctx.Err() != nil {
		return
	}
	parts := make(map[peer.ID]float64, len(scores))
	for p, score := range scores {
		parts[p] = score - r.appScore(p)
	}
	r.scores.Store(&parts)
	for p, score := range scores {
		if score < graylistThreshold {
			r.cut(p, "score below the graylist threshold")
		}
	}
}

func (r *Relay) cut(p peer.ID, reason string) {
	if r.uncut || !r.peers.cut(p) {
		return
	}
	r.cuts.Add(1)
	r.log.Info("peer cut", "peer", p, "reason", reason)
	r.emit(Event{Kind: PeerCut, Peer: p, Reason: reason})
	r.disconnect(p)
}

// disconnect closes p's connections, off the event loop.
func (r *Relay) disconnect(p peer.ID) {
	r.cutters.run(func() { _ = r.host.Network().ClosePeer(p) })
}

// cutters runs disconnections and waits for them in the end.
type cutters struct {
	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

func (c *cutters) run(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.wg.Go(f)
	}
}

func (c *cutters) wait() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.wg.Wait()
}

// addrKey is what counts as one address: an IPv4 address or an IPv6 /64. It is
// empty for loopback and for what isn't an IP address.
func addrKey(a ma.Multiaddr) string {
	ip, err := manet.ToIP(a)
	if err != nil {
		return ""
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return ""
	}
	addr = addr.Unmap()
	if addr.IsLoopback() {
		return ""
	}
	if addr.Is6() {
		prefix, err := addr.Prefix(64)
		if err != nil {
			return ""
		}
		return prefix.String()
	}
	return addr.String()
}
