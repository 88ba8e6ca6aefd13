package waku

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
)

const (
	// gapSettle is how long after a gap's end stores are asked: what was published
	// last has to get there.
	gapSettle = 3 * time.Second
	// gapPause is the pause after a store failed, doubled up to longestRest.
	gapPause = time.Second
	// gapPatience is how long after a gap's end the application is told that it isn't
	// filled.
	gapPatience = time.Minute
	// maxGaps is how many gaps are kept apart. Further ones are added to the last.
	maxGaps = 64
	// meshSettle is how long a mesh must have stood to be relied on, and meshProof for
	// how long an answer to a ping says that its peers are there.
	meshSettle = 2 * time.Second
	meshProof  = 45 * time.Second
	// openPeriod is how often stores are asked about a topic that the mesh doesn't cover,
	// doubled up to longestOpen while that brings nothing: who finds no place in a mesh
	// mustn't wait for one.
	openPeriod  = time.Minute
	longestOpen = 8 * openPeriod
	// allTopics stands for all content topics: no message has an empty one.
	allTopics = ""
)

// gapBook knows in which times messages of a shard may not have come, by the mesh or by
// service peers, and has them read back from stores. Per content topic that is read it
// knows up to when everything is there.
type gapBook struct {
	shard *shard
	wake  chan struct{} // for run
	again chan struct{} // for fill

	running atomic.Bool

	// mu comes after the lightShard's, and before the shard's and those of its members.
	mu      sync.Mutex
	topics  map[string]*meshTopic // those that come by the mesh
	read    map[string]bool       // those that were read at the last look, anyhow
	gaps    []*gap
	filling bool
	failure string    // why a gap couldn't be filled
	givenUp time.Time // nothing older is read back: it was too much
	// proof is when the mesh was last known to be good, and suspect since when the clock
	// may be wrong; zero: it isn't.
	proof, suspect moment
	// lightOpen is set while a light member's topic isn't pushed by anybody.
	lightOpen bool
	saved     savedShard        // what an earlier run knew
	resumed   map[string]moment // since when topics are wanted that an earlier run read
	recalled  bool
	closed    map[string]int64 // up to when topics were complete that nobody reads any more
	stats     StoreTraffic
	losses    []loss
	restoring bool
	checking
}

// meshTopic is a content topic that readers want and that comes by the mesh.
type meshTopic struct {
	covered bool
	asked   moment // since when it is wanted
	open    moment // from when on messages may be missing, while it isn't covered
	why     string
	looks   openLooks
}

// openLooks are the questions to stores about a topic that isn't covered: when the last
// was, or the topic was open first, how many messages had come from stores by then, and
// the pause after it.
type openLooks struct {
	last    time.Time // monotonic
	brought uint64
	pause   time.Duration
}

// gap is a time in which messages may not have come.
type gap struct {
	// topics are those concerned, each with the time since when it is wanted, if that
	// isn't long before from: what is older wasn't asked for. Messages published before
	// from may have been on their way.
	topics   map[string]moment
	from, to moment
	why      string
	joining  bool // the time until the mesh stood, or service peers pushed
	// done is up to which timestamp it is filled.
	done  time.Time
	bytes int64
	since time.Time // monotonic
	told  bool
}

// Gap is a time of which a shard's messages may be missing.
type Gap struct {
	// Topics are the content topics concerned; none: all.
	Topics []string
	// From and To bound the time, by the node's clock.
	From, To time.Time
	// Reason says why messages may be missing, and Failure why they couldn't be read
	// back yet; empty: that is under way.
	Reason, Failure string
}

func newGapBook(s *shard) *gapBook {
	return &gapBook{
		shard: s, wake: make(chan struct{}, 1), again: make(chan struct{}, 1),
		topics: map[string]*meshTopic{}, read: map[string]bool{}, closed: map[string]int64{}, resumed: map[string]moment{},
		checking: newChecking(),
	}
}

// start watches until the node ends.
func (b *gapBook) start() {
	if b.running.CompareAndSwap(false, true) {
		b.shard.node.tasks.start(b.run)
	}
}

// changed says that members, readers, meshes or the clock have changed. It doesn't wait
// and may be called with any lock held.
func (b *gapBook) changed() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *gapBook) run(ctx context.Context) {
	gate := b.shard.node.gate
	b.recall()
	for {
		run, ok := gate.pass(ctx)
		if !ok {
			return
		}
		var due <-chan time.Time
		if wait := b.tend(); wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-b.wake:
		case <-run.Done():
			b.tend()
		case <-ctx.Done():
			return
		}
	}
}

// tend finds out which topics come by the mesh, and where messages may be missing. It
// returns when to look again; zero: when something has changed.
func (b *gapBook) tend() (wait time.Duration) {
	n, s := b.shard.node, b.shard
	now := n.moment()
	served := s.light.coveredTopics()
	b.mu.Lock()
	defer b.mu.Unlock()
	all := s.read()
	wanted := map[string]moment{}
	if s.node.relays(s.shard) {
		wanted = all
	}
	b.watchClock(now, all)
	stands, why, look := b.meshStands(now)
	wait = look
	for name, t := range b.topics {
		if _, ok := wanted[name]; ok {
			continue
		}
		delete(b.topics, name)
		if _, ok := all[name]; ok && !t.covered { // service peers push it now
			b.add(&gap{topics: b.topic(name, t.asked, t.open), from: t.open, to: now, why: t.why, joining: t.joining()})
		}
	}
	for name, asked := range wanted {
		t := b.topics[name]
		if t == nil {
			t = &meshTopic{asked: asked, open: asked, why: joiningWords, looks: b.noLooks(now)}
			if b.read[name] { // until now it came by service peers
				t.open = now
			}
			if mark, ok := b.resume(name); ok {
				t.open, t.asked, t.why = mark, mark.before(2*n.cfg.window), "the node was away"
			} else if stands && !b.read[name] && !time.Now().After(asked.mono.Add(meshSettle)) {
				t.covered = true
			}
			b.topics[name] = t
		}
		covered := stands || served[name]
		switch {
		case covered && !t.covered:
			b.add(&gap{topics: b.topic(name, t.asked, t.open), from: t.open, to: now, why: t.why, joining: t.joining()})
			t.covered = true
		case !covered && t.covered:
			t.covered, t.open, t.why, t.looks = false, b.proof, why, b.noLooks(now)
		case !covered && b.lookDue(&t.looks, now):
			b.add(&gap{topics: b.topic(name, t.asked, t.open), from: t.open, to: now, why: t.why, joining: t.joining()})
			t.open, t.why = now, why
		}
	}
	b.noteRead(all, now)
	b.remember()
	b.beginFilling()
	return sooner(wait, b.beginChecking(b.wanted(all)))
}

// noLooks is for a topic that isn't covered from now on. mu is held.
func (b *gapBook) noLooks(now moment) openLooks {
	return openLooks{now.mono, b.stats.Messages, openPeriod}
}

// lookDue tells whether stores are to be asked now about a topic that isn't covered, if
// one is there, and notes that they are. mu is held.
func (b *gapBook) lookDue(l *openLooks, now moment) bool {
	n := b.shard.node
	since, news := now.mono.Sub(l.last), b.stats.Messages > l.brought
	if since < openPeriod || !news && since < l.pause || b.filling || !n.gate.isOpen() || n.cfg.unfilled {
		return false
	}
	if len(n.readyStores(b.shard.shard)) == 0 {
		return false
	}
	if news {
		l.pause = openPeriod
	}
	*l = openLooks{now.mono, b.stats.Messages, min(2*l.pause, longestOpen)}
	return true
}

// noteRead notes which topics are read, and how far those are complete that aren't any
// more. mu is held.
func (b *gapBook) noteRead(read map[string]moment, now moment) {
	for name := range b.read {
		if _, ok := read[name]; !ok && len(b.closed) < maxSavedTopics {
			b.closed[name] = b.until(name, now).UnixNano()
		}
	}
	maps.DeleteFunc(b.resumed, func(name string, _ moment) bool { _, ok := read[name]; return !ok && b.read[name] })
	b.read = map[string]bool{}
	for name := range read {
		b.read[name] = true
		delete(b.closed, name)
	}
}

// wanted are the topics that are read, with the time since when they are wanted, be it by
// an earlier run. mu is held.
func (b *gapBook) wanted(read map[string]moment) map[string]moment {
	out := maps.Clone(read)
	for name, asked := range b.resumed {
		if _, ok := out[name]; ok {
			out[name] = asked
		}
	}
	return out
}

// joiningWords are why messages may be missing that were published while a reader's
// topics weren't covered yet.
const joiningWords = "the shard had only been joined"

func (t *meshTopic) joining() bool { return t.why == joiningWords }

// topic is one topic of a gap. mu is held.
func (b *gapBook) topic(name string, asked, at moment) map[string]moment {
	if at.mono.Sub(asked.mono) >= b.shard.node.cfg.window {
		asked = moment{}
	}
	return map[string]moment{name: asked}
}

// meshStands tells whether the mesh can be relied on, and if not why; and when to look
// again. mu is held.
func (b *gapBook) meshStands(now moment) (stands bool, why string, look time.Duration) {
	s := b.shard
	up := s.meshSince()
	switch {
	case !s.node.gate.isOpen():
		return false, "the node was paused", 0
	case up == nil:
		return false, "no peer was in the shard's mesh", 0
	case !stood(up, meshSettle):
		return false, "no peer was in the shard's mesh", max(meshSettle-time.Since(*up), time.Millisecond)
	case b.proof.mono.Before(*up):
		b.proof = now
	}
	left := meshProof - now.mono.Sub(b.proof.mono)
	if left <= 0 {
		return false, "the peers in the shard's mesh didn't answer", 0
	}
	return true, "", left
}

// prove notes that a peer in the mesh has answered what it was asked at a time.
func (b *gapBook) prove(at moment) {
	b.mu.Lock()
	stale := at.mono.Sub(b.proof.mono) >= meshProof
	if at.mono.After(b.proof.mono) {
		b.proof = at
	}
	b.mu.Unlock()
	if stale {
		b.changed()
	}
}

// meshAnswered proves the meshes that a peer is in.
func (n *Node) meshAnswered(p peer.ID, at moment) { n.meshesOf(p, func(b *gapBook) { b.prove(at) }) }

// meshDoubted says that a peer didn't answer a ping. What it should have passed on since it
// last did may not have come.
func (n *Node) meshDoubted(p peer.ID, at moment) {
	n.meshesOf(p, func(b *gapBook) { b.doubt(at.before(pingPeriod + pingTimeout)) })
}

// meshesOf calls f for the meshes that a peer is in, if anybody reads there.
func (n *Node) meshesOf(p peer.ID, f func(*gapBook)) {
	for _, s := range n.shards.joined() {
		if s.gaps.running.Load() && slices.Contains(n.relay.Mesh(s.shard), p) {
			f(s.gaps)
		}
	}
}

// watchClock notes the time in which the clock was wrong: what came meanwhile was taken
// for too old, or too new. mu is held.
func (b *gapBook) watchClock(now moment, read map[string]moment) {
	n := b.shard.node
	wrong := b.shard.protected.Load() && n.clock.health().Suspect
	switch {
	case wrong && b.suspect.mono.IsZero():
		b.suspect = b.proof
		if from := n.clock.doubtful(); !from.IsZero() && (from.Before(b.suspect.mono) || b.suspect.mono.IsZero()) {
			b.suspect = n.momentOf(from)
		}
	case !wrong && !b.suspect.mono.IsZero():
		if len(read) > 0 {
			g := &gap{topics: map[string]moment{}, from: b.suspect, to: now, why: "the clock was wrong"}
			for name, asked := range read {
				maps.Copy(g.topics, b.topic(name, asked, b.suspect))
			}
			b.add(g)
		}
		b.suspect = moment{}
	}
}

// slept says that the clock has moved on by so much since it was seen last: the machine
// slept, or somebody set it.
func (b *gapBook) slept(by time.Duration, seen time.Time) {
	read := b.shard.read()
	now := b.shard.node.moment()
	from := now.before(now.mono.Sub(seen))
	from.wall = from.wall.Add(-by)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(read) == 0 || !b.running.Load() {
		return
	}
	g := &gap{topics: map[string]moment{}, from: from, to: now, why: "the machine slept, or its clock was set"}
	for name, asked := range read {
		maps.Copy(g.topics, b.topic(name, asked, from))
	}
	b.add(g)
	b.changed()
}

// add notes that messages may be missing. mu is held.
func (b *gapBook) add(g *gap) {
	g.since = time.Now()
	b.changed()
	for i, x := range b.gaps {
		if i == 0 && b.filling || len(b.gaps) < maxGaps && !b.near(x, g) {
			continue
		}
		b.gaps[i] = b.merged(x, g)
		return
	}
	if len(b.gaps) < maxGaps {
		b.gaps = append(b.gaps, g)
		return
	}
	b.gaps[maxGaps-1] = b.merged(b.gaps[maxGaps-1], g)
}

// near tells whether two gaps are best filled together.
func (b *gapBook) near(x, y *gap) bool {
	n, slack := b.shard.node, b.shard.node.cfg.window
	return x.done.IsZero() && n.earliest(x.from).Sub(n.earliest(y.from)).Abs() <= slack && n.latest(x.to).Sub(n.latest(y.to)).Abs() <= slack
}

// merged is a gap for two.
func (b *gapBook) merged(x, y *gap) *gap {
	m := *x
	m.topics = maps.Clone(x.topics)
	for name, asked := range y.topics {
		if have, ok := m.topics[name]; !ok || !have.mono.IsZero() && asked.mono.Before(have.mono) {
			m.topics[name] = asked
		}
	}
	n := b.shard.node
	if n.earliest(y.from).Before(n.earliest(x.from)) {
		m.from = y.from
	}
	if n.latest(y.to).After(n.latest(x.to)) {
		m.to, m.since = y.to, y.since
	}
	if !y.done.IsZero() && y.done.Before(m.done) || y.done.IsZero() {
		m.done = time.Time{}
	}
	m.joining = x.joining && y.joining
	if x.joining {
		m.why = y.why
	}
	m.told = x.told && y.told
	return &m
}

// addLight is add for the light members' part.
func (b *gapBook) addLight(topics []string, from, to, asked moment, why string, joining bool) {
	g := &gap{topics: map[string]moment{}, from: from, to: to, why: why, joining: joining}
	for _, name := range topics {
		g.topics[name] = asked
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(g)
	b.remember()
	b.beginFilling()
}

// lightCovers notes whether all of the light members' topics are pushed.
func (b *gapBook) lightCovers(all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lightOpen = !all
	b.remember()
}

// remember keeps what was delivered from being forgotten while a store may still
// bring it again. mu is held.
func (b *gapBook) remember() {
	on := len(b.gaps) > 0 || b.lightOpen || !b.suspect.mono.IsZero() || b.looksBack()
	for _, t := range b.topics {
		on = on || !t.covered
	}
	b.shard.node.relay.Remember(b.shard.shard, on)
}

// public is a gap for the application.
func (b *gapBook) public(g *gap) Gap {
	out := Gap{From: g.from.wall, To: g.to.wall, Reason: g.why}
	if g.done.After(out.From) {
		out.From = g.done
	}
	if _, all := g.topics[allTopics]; !all {
		out.Topics = slices.Sorted(maps.Keys(g.topics))
	}
	return out
}

// missing are the gaps, the oldest first. The first is the one that couldn't be filled,
// if one couldn't. mu is held.
func (b *gapBook) missing() []Gap {
	var out []Gap
	for i, g := range b.gaps {
		p := b.public(g)
		if i == 0 {
			p.Failure = b.failure
		}
		out = append(out, p)
	}
	slices.SortStableFunc(out, func(x, y Gap) int { return x.From.Compare(y.From) })
	return out
}

// health writes a shard's gaps.
func (b *gapBook) health(h *ShardHealth) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.Gaps = b.missing()
	h.FromStores = b.stats
	if h.Light != nil {
		h.Light.Gaps = len(b.gaps)
		if b.failure != "" && len(b.gaps) > 0 {
			h.Light.GapFailure = b.words() + ": " + b.failure
		}
	}
}

// words says what the gaps are. mu is held.
func (b *gapBook) words() string {
	from, to := b.gaps[0].from.wall, b.gaps[0].to.wall
	for _, g := range b.gaps {
		if g.from.wall.Before(from) {
			from = g.from.wall
		}
		if g.to.wall.After(to) {
			to = g.to.wall
		}
	}
	return fmt.Sprintf("of what was said from %s to %s UTC messages may be missing (%d gaps)",
		from.UTC().Format(time.TimeOnly), to.UTC().Format(time.TimeOnly), len(b.gaps))
}

// StoreTraffic counts what was asked of store nodes for a shard's readers.
type StoreTraffic struct {
	// Filled counts gaps that were filled, Messages what that brought and readers
	// hadn't had, and Bytes what it cost: hashes named and messages taken.
	Filled, Messages, Bytes uint64
	// Samples counts the looks whether a store has what didn't come here, Disagreed
	// those that found something, and SampleBytes what they cost.
	Samples, Disagreed, SampleBytes uint64
}

// until is up to when a topic is complete. mu is held.
func (b *gapBook) until(name string, now moment) time.Time {
	n := b.shard.node
	out := n.earliest(now).Add(-gapSettle)
	sooner := func(t time.Time) {
		if t.Before(out) {
			out = t
		}
	}
	for _, g := range b.gaps {
		_, one := g.topics[name]
		_, all := g.topics[allTopics]
		if one || all {
			sooner(b.since(g, n.earliest(g.from)))
		}
	}
	for _, key := range []string{name, allTopics} {
		if t := b.topics[key]; t != nil && !t.covered {
			sooner(n.earliest(t.open))
		}
	}
	if !b.suspect.mono.IsZero() {
		sooner(n.earliest(b.suspect))
	}
	return out
}

// since is from when on a gap has still to be filled.
func (b *gapBook) since(g *gap, from time.Time) time.Time {
	if g.done.After(from) {
		return g.done
	}
	return from
}

// Complete returns up to when all messages of a content topic, or of all that are read
// if it is empty, have been delivered that could be had, by the node's clock. It doesn't
// go back unless it turns out that something was missing. Zero: nobody reads the topic.
func (m *Membership) Complete(contentTopic string) time.Time {
	read := m.shard.read()
	if contentTopic != "" {
		asked, ok := read[contentTopic]
		if !ok {
			if asked, ok = read[allTopics]; !ok {
				return time.Time{}
			}
		}
		read = map[string]moment{contentTopic: asked}
	}
	var out time.Time
	now := m.shard.node.moment()
	light := m.shard.light.openSince()
	b := m.shard.gaps
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range read {
		t := b.until(name, now)
		if open, ok := light[name]; ok && open.Before(t) {
			t = open
		}
		if out.IsZero() || t.Before(out) {
			out = t
		}
	}
	return out
}

// GapError tells a reader that messages may be missing and couldn't be read back so far.
// It doesn't end the reader; if they are found later, they come.
type GapError struct {
	Gap
	// Final is true when they aren't looked for any more.
	Final bool
}

// Error implements error.
func (e *GapError) Error() string {
	what := "messages"
	if len(e.Topics) > 0 {
		what += " on " + strings.Join(e.Topics, ", ")
	}
	return fmt.Sprintf("waku: %s from %s to %s may be missing: %s; %s", what,
		e.From.UTC().Format(time.RFC3339), e.To.UTC().Format(time.RFC3339), e.Reason, e.Failure)
}

// hashSet remembers some hashes, the latest.
type hashSet struct {
	in   map[message.Hash]struct{}
	ring []message.Hash
	next int
}

func (s *hashSet) has(h message.Hash) bool { _, ok := s.in[h]; return ok }

func (s *hashSet) add(h message.Hash, most int) {
	if s.in == nil {
		s.in = map[message.Hash]struct{}{}
	}
	if s.has(h) {
		return
	}
	s.in[h] = struct{}{}
	if len(s.ring) < most {
		s.ring = append(s.ring, h)
		return
	}
	delete(s.in, s.ring[s.next])
	s.ring[s.next] = h
	s.next = (s.next + 1) % most
}
