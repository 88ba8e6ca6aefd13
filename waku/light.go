package waku

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/filter"
)

const (
	// defaultFilterPing is how often a service peer is asked whether it still
	// knows what it has to push.
	defaultFilterPing = time.Minute
	maxFilterPing     = 4 * time.Minute // servers forget after five
	// lightPause is how long it takes until is looked again for what is missing,
	// doubled up to longestLightPause while nothing changes.
	lightPause        = time.Second
	longestLightPause = 15 * time.Second
)

// lightShard takes part in a shard by service peers, for its light members.
type lightShard struct {
	shard *shard
	wake  chan struct{} // for run

	running atomic.Bool
	own     ownMessages

	// mu comes before the shard's, and before those of its members.
	mu     sync.Mutex
	links  map[peer.ID]*lightLink
	topics map[string]*lightTopic
	probes probes
	left   map[peer.ID]*leftPeer
	// whole is since when every topic is pushed by somebody; nil: it isn't so.
	whole *time.Time
	// relayed is set while a member relays the shard.
	relayed bool
	// failure is why a link failed last, and refused counts messages that weren't genuine.
	failure string
	refused uint64
	state   State
}

// lightTopic is a content topic that readers want.
type lightTopic struct {
	covered bool
	// asked is since when it is wanted, and open from when on messages may be
	// missing, while the topic isn't covered.
	asked, open moment
	// proof is until when the topic was pushed for sure by links that are no more.
	proof moment
}

func newLightShard(s *shard) *lightShard {
	return &lightShard{
		shard: s, wake: make(chan struct{}, 1),
		links: map[peer.ID]*lightLink{}, topics: map[string]*lightTopic{}, left: map[peer.ID]*leftPeer{},
	}
}

// start keeps the shard's links until the node ends.
func (l *lightShard) start() {
	if l.running.CompareAndSwap(false, true) {
		l.shard.node.tasks.start(l.run)
	}
}

// changed says that members, readers, peers or links have changed. It doesn't wait and may
// be called with any lock held.
func (l *lightShard) changed() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// lightsChanged is changed for all shards, because of peers: stores may be among them.
// The table of peers may be locked.
func (n *Node) lightsChanged() {
	for _, s := range n.shards.all() {
		s.outbox.peersChanged()
		s.light.changed()
		s.gaps.changed()
		select {
		case s.gaps.again <- struct{}{}:
		default:
		}
	}
}

// wanted are the content topics that light members read, with the time since when,
// and what the shard is to its members: relayed by one of them, or light for all.
func (s *shard) wanted() (topics map[string]moment, relayed, light bool) {
	standsIn := s.standsIn.Load()
	s.mu.Lock()
	var members []*Membership
	for m := range s.members {
		if m.mode == ModeRelay && !m.goingLight {
			relayed = true
			if !standsIn {
				continue
			}
		}
		members = append(members, m)
	}
	s.mu.Unlock()
	topics = readBy(members, true)
	delete(topics, allTopics) // of one that stands in
	return topics, relayed, len(members) > 0 && !relayed
}

// read are the content topics that anybody reads who doesn't look for what is missing
// himself.
func (s *shard) read() map[string]moment {
	s.mu.Lock()
	members := slices.Collect(maps.Keys(s.members))
	s.mu.Unlock()
	return readBy(members, false)
}

func readBy(members []*Membership, apart bool) map[string]moment {
	topics := map[string]moment{}
	for _, m := range members {
		m.mu.Lock()
		for r := range m.readers {
			if apart || !r.apart {
				r.earliest(topics)
			}
		}
		m.mu.Unlock()
	}
	return topics
}

// toPush are the content topics that service peers are to push: none when the shard is
// relayed, as soon as its mesh has stood. mu is held.
func (l *lightShard) toPush() (topics map[string]moment, light bool) {
	topics, relayed, light := l.shard.wanted()
	if relayed && (len(l.topics) == 0 && !l.shard.standsIn.Load() || stood(l.shard.meshSince(), switchSettle)) {
		return nil, false
	}
	return topics, light
}

func (l *lightShard) run(ctx context.Context) {
	l.shard.gaps.recall()
	for rest := lightPause; ; {
		run, ok := l.shard.node.gate.pass(ctx)
		if !ok {
			return
		}
		var due <-chan time.Time // never, if nothing is missing
		if wait := l.tend(ctx, rest); wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-due:
			rest = min(2*rest, longestLightPause)
		case <-l.wake:
			rest = lightPause
		case <-run.Done():
			l.suspend()
			rest = lightPause
		case <-ctx.Done():
			return
		}
	}
}

// tend makes of the links what they should be and returns when to look again: after
// rest, if something is missing, or zero: when something has changed.
func (l *lightShard) tend(ctx context.Context, rest time.Duration) (wait time.Duration) {
	n := l.shard.node
	servers := n.servers(l.shard.shard, filter.SubscribeID)
	liars := l.rests().sorted(slices.DeleteFunc(slices.Clone(servers), func(p peer.ID) bool { return !l.rests().isLiar(p) }))
	ready := l.rests().ready(servers)

	l.mu.Lock()
	defer l.mu.Unlock()
	now := n.moment()
	topics, light := l.toPush()
	l.want(topics, now)
	next := sooner(l.relent(), l.prune())
	l.probe(now)
	if len(l.topics) > 0 {
		l.recruit(ctx, ready, liars)
	}
	for _, k := range l.byAge() {
		k.want(topics)
	}
	l.cover(now)
	l.tell(light)
	if len(l.topics) > 0 && (l.good() < lightPeers || l.whole == nil || !light) {
		wait = rest
	}
	if due, ok := l.probes.due(); ok {
		wait = sooner(wait, max(due.Sub(now.mono), probeEvery))
	}
	return sooner(wait, next)
}

// sooner is the shorter of two waits; zero is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// want brings the topics up to date. mu is held.
func (l *lightShard) want(topics map[string]moment, now moment) {
	var read map[string]moment
	for name, t := range l.topics {
		if _, wanted := topics[name]; wanted {
			continue
		}
		delete(l.topics, name)
		if read == nil {
			read = l.shard.read()
		}
		if _, ok := read[name]; ok && !t.covered { // it comes by the mesh now
			l.shard.gaps.addLight([]string{name}, t.open, now, t.asked, unpushedWords, t.open == t.asked)
		}
	}
	_, relayed, _ := l.shard.wanted()
	for name, asked := range topics {
		if l.topics[name] == nil {
			t := &lightTopic{asked: asked, open: asked}
			if l.relayed { // until now it came by the mesh
				t.open = now
			} else if mark, ok := l.shard.gaps.resumeLight(name); ok {
				t.open, t.asked = mark, mark.before(2*l.shard.node.cfg.window)
			}
			l.topics[name] = t
		}
	}
	l.relayed = relayed
}

// cover finds out which topics are pushed by somebody, and where messages may be
// missing. mu is held.
func (l *lightShard) cover(now moment) {
	whole, all := len(l.topics) > 0, true
	gap := map[gapKey][]string{}
	for name, t := range l.topics {
		covered, proof := false, t.proof
		for _, k := range l.links {
			if _, ok := k.have[name]; !ok || k.err != nil {
				continue
			}
			covered = covered || k.reliable()
			if k.proof.mono.After(proof.mono) {
				proof = k.proof
			}
		}
		switch {
		case covered && !t.covered:
			key := gapKey{t.open, l.askedLately(t, t.open)}
			gap[key] = append(gap[key], name)
			t.covered = true
		case !covered && t.covered:
			t.covered, t.open = false, proof
		}
		whole, all = whole && covered, all && t.covered
	}
	for key, names := range gap {
		slices.Sort(names)
		l.shard.gaps.addLight(names, key.from, now, key.asked, unpushedWords, key.from == key.asked)
	}
	l.shard.gaps.lightCovers(all)
	switch {
	case !whole:
		l.whole = nil
	case l.whole == nil:
		l.whole = &now.mono
	}
}

// askedLately is since when a topic is wanted, if that isn't long before.
func (l *lightShard) askedLately(t *lightTopic, at moment) (asked moment) {
	if at.mono.Sub(t.asked.mono) < l.shard.node.cfg.window {
		asked = t.asked
	}
	return asked
}

type gapKey struct{ from, asked moment }

// unpushedWords are why messages may be missing that nobody pushed.
const unpushedWords = "no service peer pushed them"

// coveredTopics are the topics that service peers push.
func (l *lightShard) coveredTopics() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]bool{}
	for name, t := range l.topics {
		out[name] = t.covered
	}
	return out
}

// openSince is for each topic that service peers push, or should, up to when it was
// pushed for sure.
func (l *lightShard) openSince() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.shard.node
	out := map[string]time.Time{}
	for name, t := range l.topics {
		proof := t.proof
		for _, k := range l.links {
			if _, ok := k.have[name]; ok && k.err == nil && k.reliable() && k.proof.mono.After(proof.mono) {
				proof = k.proof
			}
		}
		if !t.covered {
			proof = t.open
		}
		out[name] = n.earliest(proof)
	}
	return out
}

// proven returns nil when somebody has pushed everything for so long, and else what
// is missing.
func (l *lightShard) proven(settle time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	topics, _ := l.toPush()
	for t := range topics {
		if l.topics[t] == nil {
			return errors.New("service peers haven't been asked yet")
		}
	}
	switch {
	case len(topics) == 0:
		return nil // nobody reads
	case l.whole == nil:
		return fmt.Errorf("%w: %s", ErrNoServicePeer, l.reason())
	case time.Since(*l.whole) < settle:
		return errors.New("service peers are new")
	}
	return nil
}

// lightState is the state that so many good links make.
func lightState(good int) State {
	switch {
	case good == 0:
		return Unhealthy
	case good < lightPeers:
		return Minimal
	}
	return Sufficient
}

// tell emits a change of state. mu is held.
func (l *lightShard) tell(light bool) {
	if !light {
		l.state = Unhealthy
		return
	}
	state := lightState(l.good())
	if len(l.topics) == 0 {
		return
	}
	if state != l.state {
		l.state = state
		l.shard.node.emit(Event{Kind: ShardHealthChanged, Shard: l.shard.shard, State: state, Count: l.good()})
	}
}

// liveSince is since when messages come as they are published: by the shard's mesh,
// or by service peers. nil: they don't. The same stretch has the same pointer.
func (s *shard) liveSince() *time.Time {
	if !s.isLight() && !s.isServed() {
		return s.meshSince()
	}
	s.light.mu.Lock()
	defer s.light.mu.Unlock()
	return s.light.whole
}

// isLight tells whether all of the shard's memberships are light.
func (s *shard) isLight() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.members {
		if m.mode == ModeRelay {
			return false
		}
	}
	return len(s.members) > 0
}

// health writes the light part of a shard's health.
func (l *lightShard) health(h *ShardHealth) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted, _, _ := l.shard.wanted()
	light := &LightHealth{Topics: len(wanted), Refused: l.refused, Failure: l.failure}
	for _, t := range l.topics {
		if t.covered {
			light.Covered++
		}
	}
	for _, k := range l.byAge() {
		light.ServicePeers = append(light.ServicePeers, ServicePeer{
			Peer: k.peer, Topics: len(k.have), Pushed: k.pushed, Suspect: !k.reliable(), Proof: k.proof.wall,
		})
	}
	h.Light = light
	h.State = lightState(l.good())
	for t := range wanted {
		if l.topics[t] == nil { // asked for a moment ago
			h.State = Unhealthy
		}
	}
	if len(wanted) == 0 { // nobody reads: all that matters is somebody to send by
		h.State = lightState(len(l.shard.node.pushServers(l.shard)))
	}
}

// reason says why the state isn't Sufficient. mu is held.
func (l *lightShard) reason() string {
	light := LightHealth{Topics: len(l.topics), Failure: l.failure}
	for _, k := range l.byAge() {
		light.ServicePeers = append(light.ServicePeers, ServicePeer{Suspect: !k.reliable(), Topics: len(k.have)})
	}
	return light.reason()
}

func (h *LightHealth) reason() string {
	why := ""
	if h.Failure != "" {
		why = "; last: " + h.Failure
	}
	doubtful := 0
	for _, p := range h.ServicePeers {
		if p.Suspect {
			doubtful++
		}
	}
	good := 0
	for _, p := range h.ServicePeers {
		if !p.Suspect && p.Topics >= h.Topics {
			good++
		}
	}
	switch n := len(h.ServicePeers); {
	case h.Topics == 0:
		return "too few connected peers publish for light members"
	case n == 0:
		return "no connected peer serves light members" + why
	case doubtful > 0:
		return fmt.Sprintf("%d of %d service peers don't answer, or don't push what others do%s", doubtful, n, why)
	case h.Covered < h.Topics:
		return fmt.Sprintf("service peers have confirmed %d of %d content topics%s", h.Covered, h.Topics, why)
	}
	return fmt.Sprintf("%d of %d service peers%s", good, lightPeers, why)
}
