package relay

import (
	"slices"
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
const (
	// enoughToJudge is how many messages a link must have seen.
	enoughToJudge = 40
	// condemnEvery is how often one silent link of a mesh is given up.
	condemnEvery = 3 * time.Second
	// judgeAfter is how long a link must have stood.
	judgeAfter = 20 * time.Second
	// silentShare is the share of messages below which a link counts as silent.
	silentShare = 0.02
	// silentAllowed is how many silent links a mesh bears: a node whose clock is
	// wrong is silent too, and shall keep its place.
	silentAllowed = 1
	// siegeShare is the share of a topic's peers from which on silence isn't a few
	// nodes' misfortune any more. Then none is borne, inside the mesh or out.
	siegeShare = 0.2
	// silentFor is how long a silent peer stays out of the meshes unless it
	// shows something.
	silentFor = 10 * time.Minute
	// conductWindow is the number of messages after which the past counts half.
	conductWindow = 400
	// capableFor is how long having sent an IDONTWANT proves the ability.
	capableFor = 10 * time.Minute
	// suspectAfter is how many called-off messages without a sign make a suspect.
	suspectAfter = 20
	// probeEvery is the share of messages that suspects are tried with.
	probeEvery = 4
)

// conduct is the part of a peer's state that tells useful from silent.
type conduct struct {
	// outside counts, by topic, what a peer that isn't in the mesh could have
	// offered (IHAVE) and what it did. Who has news offers them to some of his
	// peers each heartbeat, so that nobody honest is mute for long.
	outside     map[string]*link
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
	besieged        bool
}

type link struct {
	since           time.Time
	expected, shown float64
	calledOff       float64 // messages that prove nothing
}

// shows is the benefit of the doubt, and what is left of it.
func (l *link) shows() bool {
	return l.expected < enoughToJudge || l.shown >= silentShare*l.expected
}

// ring remembers a few message keys.
type ring struct {
	keys []uint64
	next int
}

const ringSize = 64

func (r *ring) has(k uint64) bool { return slices.Contains(r.keys, k) }

func (r *ring) add(k uint64) {
	if len(r.keys) < ringSize {
		r.keys = append(r.keys, k)
		return
	}
	r.keys[r.next] = k
	r.next = (r.next + 1) % ringSize
}

func (r *ring) remove(k uint64) {
	for i, x := range r.keys {
		if x == k {
			r.keys[i] = 0
		}
	}
}

// fadingSet remembers the last few hundred keys and when they were added.
type fadingSet struct {
	keys []uint64
	at   []time.Time
	next int
}

const fadingSetSize = 256

func (c *fadingSet) add(k uint64, now time.Time) {
	if i := slices.Index(c.keys, k); i >= 0 {
		c.at[i] = now
		return
	}
	if len(c.keys) < fadingSetSize {
		c.keys, c.at = append(c.keys, k), append(c.at, now)
		return
	}
	c.keys[c.next], c.at[c.next] = k, now
	c.next = (c.next + 1) % fadingSetSize
}

func (c *fadingSet) has(k uint64, now time.Time, age time.Duration) bool {
	i := slices.Index(c.keys, k)
	return i >= 0 && now.Sub(c.at[i]) < age
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
	if m, ok := b.meshes[topic]; ok {
		for p := range m.links {
			if ps, ok := b.peers[p]; ok {
				delete(ps.links, topic)
			}
		}
		delete(b.meshes, topic)
	}
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
	m := b.meshOf(topic)
	if _, in := m.links[from]; in {
		m.inside++
	} else {
		m.outside++
	}
	if m.inside+m.outside >= conductWindow {
		m.inside, m.outside = m.inside/2, m.outside/2
	}
	calledOff := size >= b.relay.profile.IDontWantSize && !m.probes.has(key)
	m.suspects = false
	for p, l := range m.links {
		ps := b.state(p)
		switch {
		case p == from:
			l.expected++
			l.shown++
		case ps.dontWants.has(key):
			l.expected++
			l.shown++
			ps.showed(now)
		case !calledOff || now.Sub(ps.dontWantAt) < capableFor && !ps.dontWantAt.IsZero():
			l.expected++
		default:
			l.calledOff++
		}
		if l.expected+l.calledOff >= conductWindow {
			l.expected, l.shown, l.calledOff = l.expected/2, l.shown/2, l.calledOff/2
		}
		if l.calledOff >= suspectAfter && l.shown < silentShare*(l.expected+l.calledOff) {
			m.suspects = true
		}
	}
	b.outsiders(from, topic, m)
	b.condemn(topic, m, now)
}

// outsiders are expected to offer at least some of what others bring. It also looks
// how common silence is. mu is held.
func (b *peerBook) outsiders(from peer.ID, topic string, m *mesh) {
	st := b.relay.shards.get(topic)
	if st == nil {
		return
	}
	all, silent := 0, 0
	for p, ps := range b.peers {
		if _, announced := ps.topics[st.shard]; !announced || !ps.online {
			continue
		}
		l, inside := m.links[p]
		if !inside {
			l = ps.outsider(topic, b.now())
			if p != from {
				l.expected++
			}
			if l.expected >= conductWindow {
				l.expected, l.shown = l.expected/2, l.shown/2
			}
		}
		if all++; !l.shows() {
			silent++
		}
	}
	m.besieged = silent > silentAllowed && float64(silent) > siegeShare*float64(all)
}

func (c *conduct) outsider(topic string, now time.Time) *link {
	l := c.outside[topic]
	if l == nil {
		if c.outside == nil {
			c.outside = map[string]*link{}
		}
		l = &link{since: now}
		c.outside[topic] = l
	}
	return l
}

// mute tells whether a peer outside the meshes has had every chance to offer something
// and never did, on a topic where many do so while others work.
func (b *peerBook) mute(ps *peerState, now time.Time) bool {
	if b.lenient() {
		return false
	}
	for topic, l := range ps.outside {
		if l.shows() || now.Sub(l.since) < judgeAfter {
			continue
		}
		if m := b.meshes[topic]; m != nil && m.besieged && !b.ahead(m) && b.spare(topic, now) {
			return true
		}
	}
	return false
}

// condemn takes its standing from one silent link, if there is one and somebody
// could take its place. One at a time: its successor is to be given a chance.
func (b *peerBook) condemn(topic string, m *mesh, now time.Time) {
	if b.lenient() || len(m.links) < b.relay.profile.DLow || now.Sub(m.condemnedAt) < condemnEvery || b.ahead(m) {
		return
	}
	var silent []*peerState
	for p, l := range m.links {
		ps := b.state(p)
		if !l.shows() && now.Sub(l.since) >= judgeAfter && now.After(ps.silentUntil) {
			silent = append(silent, ps)
		}
	}
	if len(silent) == 0 || len(silent) <= silentAllowed && !m.besieged {
		return
	}
	if m.condemnedAt = now; b.spare(topic, now) {
		silent[0].silentUntil = now.Add(silentFor)
	}
}

// ahead tells whether this node hears things before its neighbours do: most of
// its mesh is silent, and yet it is the mesh that brings the news. Then silence
// says nothing about those who are silent.
func (b *peerBook) ahead(m *mesh) bool {
	shows := 0
	for _, l := range m.links {
		if l.shows() {
			shows++
		}
	}
	return 2*shows < len(m.links) && m.inside >= m.outside
}

// spare tells whether a peer outside the mesh works on the topic.
func (b *peerBook) spare(topic string, now time.Time) bool {
	st := b.relay.shards.get(topic)
	if st == nil {
		return false
	}
	for _, ps := range b.peers {
		if !ps.streamed || ps.links[topic] != nil || ps.showedAt.IsZero() || now.Sub(ps.showedAt) >= showedFor {
			continue
		}
		if _, announced := ps.topics[st.shard]; announced && !now.Before(ps.silentUntil) {
			return true
		}
	}
	return false
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
	if m.arrivals++; m.arrivals%probeEvery != 0 {
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
	ps.showed(b.now())
	if l, ok := m.links[from]; ok {
		l.shown++
	}
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
				ps.showed(now)
				if l := ps.outside[x.GetTopicID()]; l != nil {
					l.shown++
				}
				break
			}
		}
	}
}

func (c *conduct) showed(now time.Time) {
	c.showedAt = now
	c.silentUntil = time.Time{}
}
