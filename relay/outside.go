package relay

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Who has news offers them to some of his peers outside the mesh at each heartbeat
// (IHAVE). So a peer outside our mesh that never offers anything, while others do, has
// nothing or gives nothing. One such peer is nothing unusual: a clock may be wrong, and
// a node with a thousand peers comes round to us once in minutes. But where many
// are like that, somebody wants the mesh for himself.
const (
	// lookEvery is how often the peers outside a mesh are looked at.
	lookEvery = time.Second
	// siegeShare is the share of peers outside a mesh, as far as they can be judged,
	// from which on silence isn't a few nodes' misfortune any more. Then none is
	// borne, inside the mesh or out.
	siegeShare = 0.2
	// lapseAfter is how long somebody must have been silent who worked before.
	lapseAfter = 10 * time.Second
	// patience is how often its usual time between two offers a peer may take.
	patience = 4
)

// chance is what a peer outside a mesh had to offer something.
type chance struct {
	at   time.Time     // of its last offer, or since when it might have made one
	from int           // messages accepted by then
	gap  time.Duration // its usual time between offers; 0: it never made one
}

// offered notes a sign of work.
func (c *chance) offered(now time.Time, accepted int) {
	if d := now.Sub(c.at); c.gap == 0 {
		c.gap = max(d, 1)
	} else if accepted > c.from {
		c.gap = max(c.gap+(d-c.gap)/4, 1)
	}
	c.at, c.from = now, accepted
}

// missed tells whether it has had every chance since, and took none.
func (c *chance) missed(now time.Time, accepted int) bool {
	if c.gap > 0 { // it can
		return accepted-c.from >= enoughToJudge/2 && now.Sub(c.at) >= max(lapseAfter, min(patience*c.gap, silentFor))
	}
	return accepted-c.from >= enoughToJudge && now.Sub(c.at) >= judgeAfter
}

// look judges, now and then, how common silence is outside the mesh of a topic, and
// whether anybody could take a mesh peer's place. mu is held.
func (b *peerBook) look(topic string, m *mesh, now time.Time) {
	if d := now.Sub(m.lookedAt); d >= 0 && d < lookEvery {
		return
	}
	st := b.relay.shards.get(topic)
	if st == nil {
		return
	}
	m.lookedAt, m.spare, m.works = now, false, false
	judged, silent := 0, 0
	for p, ps := range b.peers {
		if _, announced := ps.topics[st.shard]; !announced || !ps.streamed {
			continue
		}
		works := !ps.showedAt.IsZero() && now.Sub(ps.showedAt) < showedFor && !now.Before(ps.silentUntil)
		m.works = m.works || works
		if _, inside := m.links[p]; inside {
			continue
		}
		m.spare = m.spare || works
		c := ps.outside[topic]
		switch {
		case c == nil:
			if ps.outside == nil {
				ps.outside = map[string]*chance{}
			}
			ps.outside[topic] = &chance{at: now, from: m.accepted}
		case c.missed(now, m.accepted):
			judged++
			silent++
		case c.gap > 0:
			judged++
		}
	}
	m.besieged = silent > silentAllowed && float64(silent) > siegeShare*float64(judged)
}

// mute tells whether a peer outside the meshes has had every chance to offer something
// and never did, on a topic where many do so while others work. Who works for us on
// another topic is excused.
func (b *peerBook) mute(ps *peerState, now time.Time) bool {
	for _, l := range ps.links {
		if l.shown > 0 && l.shows() && now.Sub(l.shownAt) < showedFor {
			return false
		}
	}
	for topic, c := range ps.outside {
		if m := b.meshes[topic]; m != nil && m.besieged && m.works && c.missed(now, m.accepted) {
			return true
		}
	}
	return false
}

// newcomer tells whether a peer outside a besieged mesh has yet to offer its first
// message. It hears what is new meanwhile, and has no place in the mesh before.
func (b *peerBook) newcomer(ps *peerState) bool {
	for topic, m := range b.meshes {
		if !m.besieged || !m.works || ps.links[topic] != nil {
			continue
		}
		if c := ps.outside[topic]; c != nil && c.gap > 0 {
			continue
		}
		if st := b.relay.shards.get(topic); st != nil {
			if _, announced := ps.topics[st.shard]; announced {
				return true
			}
		}
	}
	return false
}

// Leech tells whether p takes and gives nothing although many of its kind do the same
// and others work: another peer would be more use. A node that chose p itself had
// better choose somebody else. A single silent peer is no leech, nor is anybody where
// little is said.
func (r *Relay) Leech(p peer.ID) bool {
	b := r.peers
	b.mu.Lock()
	defer b.mu.Unlock()
	ps, ok := b.peers[p]
	return ok && !b.lenient() && b.mute(ps, b.now())
}

// offers credits a peer outside the mesh with something that it has. mu is held.
func (b *peerBook) offers(ps *peerState, topic string, m *mesh, now time.Time) {
	ps.showed(now)
	if c := ps.outside[topic]; c != nil {
		c.offered(now, m.accepted)
	}
}
