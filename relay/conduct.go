package relay

import (
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A mesh peer that takes and never brings is worth less than one that works.
// Saying so takes care: most honest silence has a reason. What counts here is
// what a peer showed of the messages that it could have shown: a first copy, a
// later copy, or "I have it" (IHAVE) and "I don't want it" (IDONTWANT), which
// come from a peer that got the message by itself. A message that we called off
// at a peer which never sends IDONTWANT proves nothing and isn't counted; nor is
// silence where nothing was said, where nobody could take the peer's place, or
// where this node hears everything before its neighbours do.
// While a link has shown nothing but was always called off, every fourth message
// is not called off, so that an honest peer gets its chance.
// Under siege (see outside.go) all this goes faster, and what a link showed long ago
// counts no more. Who is condemned wrongly clears himself with the first message that
// he offers us.
const (
	// enoughToJudge is how many messages a link must have seen, half of it under siege.
	enoughToJudge = 40
	// condemnEvery is how often one silent link of a mesh is given up, and
	// condemnSoon how often that is under siege.
	condemnEvery = 3 * time.Second
	condemnSoon  = time.Second
	// judgeAfter is how long a link must have stood.
	judgeAfter = 20 * time.Second
	// silentShare is the share of messages below which a link counts as silent.
	silentShare = 0.02
	// silentAllowed is how many silent links a mesh bears: a node whose clock is
	// wrong is silent too, and shall keep its place.
	silentAllowed = 1
	// silentFor is how long a silent peer stays out of the meshes unless it
	// shows something.
	silentFor = 10 * time.Minute
	// conductWindow is the number of messages after which the past counts half.
	conductWindow = 400
	// capableFor is how long having sent an IDONTWANT proves the ability.
	capableFor = 10 * time.Minute
	// suspectAfter is how many called-off messages without a sign make a suspect, and
	// suspectSoon how many do under siege.
	suspectAfter = 20
	suspectSoon  = 5
	// probeEvery is the share of messages that suspects are tried with. It is half of
	// them under siege.
	probeEvery = 4
)

// conduct is the part of a peer's state that tells useful from silent.
type conduct struct {
	outside     map[string]*chance // by topic, while the peer isn't in the mesh
	silentUntil time.Time
	dontWantAt  time.Time
	dontWants   ring
	showedAt    time.Time
}

// mesh mirrors the router's mesh of one topic.
type mesh struct {
	links  map[peer.ID]*link
	recent ring      // messages at or past the gate
	copies fadingSet // the same, to tell copies of them cheaply
	// probes are messages not called off because of suspects.
	probes   ring
	suspects bool
	arrivals int
	// inside and outside count who brings first copies: mesh peers or others.
	inside, outside float64
	condemnedAt     time.Time
	// What look saw last: whether silence is common, whether a peer works outside the
	// mesh, and whether one works anywhere.
	accepted               int
	lookedAt               time.Time
	besieged, spare, works bool
}

type link struct {
	since           time.Time
	expected, shown float64
	calledOff       float64 // messages that prove nothing
	missed          float64 // expected since it showed something
	shownAt         time.Time
}

// shows is the benefit of the doubt, and what is left of it.
func (l *link) shows() bool {
	return l.expected < enoughToJudge || l.shown >= silentShare*l.expected
}

// silent tells whether a link of a mesh has earned to be given up.
func (m *mesh) silent(l *link, now time.Time) bool {
	if now.Sub(l.since) < judgeAfter {
		return false
	}
	return !l.shows() || m.besieged && l.missed >= enoughToJudge/2 && now.Sub(l.shownAt) >= lapseAfter
}

func (l *link) show(now time.Time) {
	l.shown++
	l.missed, l.shownAt = 0, now
}

// meshOf returns the mesh of a topic, made if need be. mu is held.
func (b *peerBook) meshOf(topic string) *mesh {
	m, ok := b.meshes[topic]
	if !ok {
		m = &mesh{links: map[peer.ID]*link{}}
		b.meshes[topic] = m
	}
	return m
}

func (b *peerBook) mesh(topic string) []peer.ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []peer.ID
	if m, ok := b.meshes[topic]; ok {
		for p := range m.links {
			out = append(out, p)
		}
	}
	return out
}

// grafted returns the mesh's size now.
func (b *peerBook) grafted(p peer.ID, topic string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ps := b.meshOf(topic), b.state(p)
	l := &link{since: b.now()}
	m.links[p] = l
	if ps.links == nil {
		ps.links = map[string]*link{}
	}
	ps.links[topic] = l
	delete(ps.outside, topic)
	return len(m.links)
}

// pruned returns the mesh's size now, and whether p was in it.
func (b *peerBook) pruned(p peer.ID, topic string) (size int, was bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.meshes[topic]
	if !ok {
		return 0, false
	}
	_, was = m.links[p]
	delete(m.links, p)
	if ps, ok := b.peers[p]; ok {
		delete(ps.links, topic)
	}
	return len(m.links), was
}

func (b *peerBook) left(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ps := range b.peers {
		delete(ps.links, topic)
		delete(ps.outside, topic)
	}
	delete(b.meshes, topic)
}

// arriving notes that a message reached the gate.
func (b *peerBook) arriving(topic string, key, sum uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.meshOf(topic)
	m.recent.add(key)
	m.copies.add(sum, b.now())
}

// isCopy tells whether the same bytes reached the gate lately.
func (b *peerBook) isCopy(topic string, sum uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.meshes[topic]
	return ok && m.copies.has(sum, b.now(), seenTTL)
}

// refused takes a message back: copies of it show nothing.
func (b *peerBook) refused(topic string, key uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meshOf(topic).recent.remove(key)
}

// accepted credits the bringer and expects of the rest of the mesh what it
// could have shown.
func (b *peerBook) accepted(from peer.ID, topic string, key uint64, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	bringer := b.state(from)
	bringer.unproven.give(1)
	bringer.proven = min(provenMax, bringer.proven+1)
	bringer.showed(now)
	if b.lenient() {
		return
	}
	m := b.meshOf(topic)
	m.accepted++
	if _, in := m.links[from]; in {
		m.inside++
	} else {
		m.outside++
		b.offers(bringer, topic, m, now)
	}
	if m.inside+m.outside >= conductWindow {
		m.inside, m.outside = m.inside/2, m.outside/2
	}
	b.look(topic, m, now)
	calledOff := size >= b.relay.profile.IDontWantSize && !m.probes.has(key)
	m.suspects = false
	suspect := float64(suspectAfter)
	if m.besieged {
		suspect = suspectSoon
	}
	for p, l := range m.links {
		ps := b.state(p)
		switch {
		case p == from:
			l.expected++
			l.show(now)
		case ps.dontWants.has(key):
			l.expected++
			l.show(now)
			ps.showed(now)
		case !calledOff || now.Sub(ps.dontWantAt) < capableFor && !ps.dontWantAt.IsZero():
			l.expected++
			l.missed++
		default:
			l.calledOff++
		}
		if l.expected+l.calledOff >= conductWindow {
			l.expected, l.shown, l.calledOff = l.expected/2, l.shown/2, l.calledOff/2
		}
		if l.calledOff >= suspect && l.shown < silentShare*(l.expected+l.calledOff) {
			m.suspects = true
		}
	}
	b.condemn(topic, m, now)
}

// condemn takes its standing from one silent link, if there is one and somebody
// could take its place. One at a time: its successor is to be given a chance. Under
// siege it is enough that somebody works: a small mesh is better than one of leeches.
func (b *peerBook) condemn(topic string, m *mesh, now time.Time) {
	every, allowed := condemnEvery, silentAllowed
	switch {
	case m.besieged && m.works:
		every, allowed = condemnSoon, 0
	case !m.spare || len(m.links) < b.relay.profile.DLow || b.ahead(m):
		return
	}
	if now.Sub(m.condemnedAt) < every {
		return
	}
	var silent []*peerState
	for p, l := range m.links {
		if ps := b.state(p); m.silent(l, now) && now.After(ps.silentUntil) {
			silent = append(silent, ps)
		}
	}
	if len(silent) > allowed {
		m.condemnedAt = now
		silent[0].silentUntil = now.Add(silentFor)
	}
}

// ahead tells whether this node hears things before its neighbours do: most of
// its mesh is silent, and yet it is the mesh that brings the news. Then silence
// says nothing about those who are silent. A node whose mesh one honest peer shares
// with many leeches looks the same; it is the peers outside that tell the two apart.
func (b *peerBook) ahead(m *mesh) bool {
	shows := 0
	for _, l := range m.links {
		if l.shows() {
			shows++
		}
	}
	return 2*shows < len(m.links) && m.inside >= m.outside
}

func (b *peerBook) lenient() bool { return b.relay.lenient || b.relay.profile.KeepSilent }

// probe decides, before a message is called off, that it shan't be.
func (b *peerBook) probe(topic string, data []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.meshes[topic]
	if !ok || !m.suspects || b.lenient() {
		return false
	}
	every := probeEvery
	if m.besieged {
		every /= 2
	}
	if m.arrivals++; m.arrivals%every != 0 {
		return false
	}
	m.probes.add(messageKey(dataID(data)))
	return true
}

// duplicate credits a later copy.
func (b *peerBook) duplicate(from peer.ID, topic string, key uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps := b.state(from)
	ps.unproven.give(1)
	m := b.meshOf(topic)
	if !m.recent.has(key) {
		return
	}
	now := b.now()
	if l, ok := m.links[from]; ok {
		ps.showed(now)
		l.show(now)
		return
	}
	b.offers(ps, topic, m, now)
}

// overheard credits what a peer says it has.
func (b *peerBook) overheard(from peer.ID, c *pb.ControlMessage) {
	if len(c.Idontwant) == 0 && len(c.Ihave) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	ps := b.state(from)
	for _, x := range c.Idontwant {
		for _, id := range x.MessageIDs[:min(len(x.MessageIDs), ringSize)] {
			ps.dontWantAt = now
			ps.dontWants.add(messageKey(id))
		}
	}
	for _, x := range c.Ihave {
		m, ok := b.meshes[x.GetTopicID()]
		if !ok {
			continue
		}
		for _, id := range x.MessageIDs[:min(len(x.MessageIDs), ringSize)] {
			if m.recent.has(messageKey(id)) {
				b.offers(ps, x.GetTopicID(), m, now)
				break
			}
		}
	}
}

func (c *conduct) showed(now time.Time) {
	c.showedAt = now
	c.silentUntil = time.Time{}
}
