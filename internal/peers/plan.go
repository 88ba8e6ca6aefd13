package peers

import (
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// provenWithin is how long a dialled peer that hasn't proven what it is counts
	// as one that might.
	provenWithin = 30 * time.Second
	// leftWithin is how long a dropped peer counts as gone.
	leftWithin = 30 * time.Second
	// triesForMore is how often those may have failed that are dialled for more
	// than what is needed at least.
	triesForMore = 4
	// perNet is how many peers of one network are dialled, trustedPerNet if
	// somebody trusted told of them, and perRelay behind one relay.
	perNet        = 2
	trustedPerNet = 8
	perRelay      = 4
)

var errUnanswered = errors.New("the dial took too long")

// state is how a need is met.
type state struct {
	*need
	have, out     int // connected and proven
	trusted       int // of have, those that somebody trusted told of
	trying        int // dialled, and not proven yet
	trustedTrying int
	candidates    []*entry // may be dialled now, networks allowing
	known         int
	resting       int
	exhausted     bool
	lopsided      bool // others may have to be heard
}

// wants reports whether e is to be dialled for s, if it may be.
func (p *planning) wants(s *state, h *mixture, e *entry) bool {
	return s.lack() > 0 || s.lackTrusted() > 0 && e.source.trusted() ||
		s.lopsided && len(p.dials.items) == 0 && s.owes(h, e)
}

// lack is how many more are to be dialled. While there are too few, only one dial in
// two is expected to lead anywhere.
func (s *state) lack() int {
	return max(s.Target-s.have, s.Outbound-s.out, 2*(s.Min-s.have)) - s.trying
}

// lackTrusted is the same for those that somebody trusted told of.
func (s *state) lackTrusted() int {
	quota := (s.Outbound + 1) / 2
	if quota == 0 && s.Target > 1 {
		quota = 1
	}
	return quota - s.trusted - s.trustedTrying
}

// short reports whether failures don't matter.
func (s *state) short() bool { return s.have < s.Min || s.out < s.Outbound }

func (s *state) met() bool { return s.have >= s.Target && s.out >= s.Outbound }

// planning is one Plan in the making.
type planning struct {
	*Manager
	Plan
	states []state
	nets   map[place]int // of peers dialled
	wides  map[place]int
	rested time.Time // when the first of those who rest may be dialled
}

// Plan decides what is to be done now.
func (m *Manager) Plan(now time.Time) Plan {
	m.enter(now)
	defer m.mu.Unlock()
	p := &planning{Manager: m}
	p.giveUp()
	p.survey()
	p.trim()
	p.even()
	p.recruit()
	for i := range p.states {
		if s := &p.states[i]; !s.met() {
			p.Missing = append(p.Missing, Missing{
				Need: s.Need, Have: s.have, Outbound: s.out, Trying: s.trying, Known: s.known, Resting: s.resting,
			})
		}
	}
	for _, e := range m.dials.items {
		p.due(e.expires)
	}
	for _, e := range m.conns.items {
		switch {
		case p.leaving(e):
			p.due(e.dropped.Add(leftWithin))
		case p.pending(e) && len(p.needs) > 0:
			p.due(e.since.Add(provenWithin))
		}
	}
	return p.Plan
}

// due notes that there will be something to do.
func (p *planning) due(at time.Time) {
	if p.Next.IsZero() || at.Before(p.Next) {
		p.Next = at
	}
}

// giveUp ends dials that nobody answered.
func (p *planning) giveUp() {
	for i := len(p.dials.items) - 1; i >= 0; i-- {
		if e := p.dials.items[i]; !p.now.Before(e.expires) {
			p.failed(e, errUnanswered)
		}
	}
}

func (m *Manager) leaving(e *entry) bool {
	return !e.dropped.IsZero() && m.now.Sub(e.dropped) < leftWithin
}

// pending reports whether a connected peer may still prove what it is.
func (m *Manager) pending(e *entry) bool {
	return !e.proven && !e.inbound && e.barred == notBarred && m.now.Sub(e.since) < provenWithin
}

// survey counts who serves which need.
func (p *planning) survey() {
	p.states = make([]state, len(p.needs))
	for i := range p.needs {
		p.states[i].need = &p.needs[i]
	}
	for _, e := range p.conns.items {
		if !p.leaving(e) {
			p.count(e, 1)
		}
	}
	for _, e := range p.dials.items {
		p.count(e, 1)
	}
}

// count adds a peer n times to the needs it serves.
func (p *planning) count(e *entry, n int) {
	trying := e.dialling() || p.pending(e)
	if !trying && !e.proven {
		return
	}
	for i := range p.states {
		s := &p.states[i]
		switch {
		case trying:
			if e.may(s.need) {
				s.trying += n
				if e.source.trusted() {
					s.trustedTrying += n
				}
			}
		case e.uses(s.need):
			s.have += n
			if !e.inbound {
				s.out += n
			}
			if e.source.trusted() {
				s.trusted += n
			}
		}
	}
}

// recruit dials those who are needed.
func (p *planning) recruit() {
	any := p.gather()
	if !any && p.rested.IsZero() {
		return
	}
	p.locateDialled()
	for {
		if len(p.dials.items) >= dialsAtOnce {
			return // an answer comes, or there is none in time
		}
		next := p.pace.next(len(p.conns.items) == 0)
		if any && next.After(p.now) {
			p.due(next)
			return
		}
		s, e, at := p.choose()
		if e == nil {
			if !p.rested.IsZero() { // nobody now, but then
				p.due(latest(p.rested, next))
			}
			return
		}
		if p.outbound() >= p.maxOutbound() {
			if len(p.dials.items) > 0 {
				return // some of those may fail
			}
			if !p.makeWay(s) && !p.rested.IsZero() { // others may need it more
				p.due(latest(p.rested, next))
			}
			return
		}
		p.begin(e, at)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rests notes until when somebody rests who might be dialled.
func (p *planning) rests(until time.Time) {
	if p.rested.IsZero() || until.Before(p.rested) {
		p.rested = until
	}
}

// gather finds out who might be dialled for which need, and whether there is
// anybody.
func (p *planning) gather() (any bool) {
	var open []*state
	held := map[*state]*mixture{}
	for i := range p.states {
		s := &p.states[i]
		h := p.dialledFor(s)
		held[s] = h
		if s.lopsided = len(p.dials.items) == 0 && h.lopsided(); !s.met() || s.lackTrusted() > 0 || s.lopsided {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		return false
	}
	for _, e := range p.all.items {
		if e.connected() || e.dialling() || !p.mayReach(e) {
			continue
		}
		var ready time.Time
		asked := false
		for _, s := range open {
			if !e.may(s.need) {
				continue
			}
			if !asked {
				ready, asked = p.ready(e), true
			}
			s.known++
			resting := ready.After(p.now)
			if resting {
				s.resting++
			}
			if !s.short() && e.failures >= triesForMore {
				continue
			}
			if !p.wants(s, held[s], e) {
				continue
			}
			if resting {
				p.rests(ready)
				continue
			}
			s.candidates = append(s.candidates, e)
			any = true
		}
	}
	return any
}

// mayReach reports whether a peer's time may come without anybody telling of it.
func (m *Manager) mayReach(e *entry) bool {
	return (e.barred == notBarred || e.source.ours()) && (m.mayUse(e.good) || slices.ContainsFunc(e.addrs, m.mayUse))
}

// mayUse reports whether an address is one that this node dials at all.
func (m *Manager) mayUse(a *addr) bool { return a != nil && (m.circuits || !a.circuit) }

// ready is when a peer, and one of its addresses at least, will have rested.
func (m *Manager) ready(e *entry) time.Time {
	if e.barred != notBarred && e.barUntil.After(e.until) {
		return e.barUntil
	}
	if e.good != nil || e.source.trusted() || !e.reached.IsZero() {
		return e.until
	}
	var first time.Time
	some := false
	for _, a := range e.addrs {
		if !m.mayUse(a) {
			continue
		}
		if until := m.hostRests(e, a); !some || until.Before(first) {
			first, some = until, true
		}
	}
	return latest(e.until, first)
}

// hostRests is until when an address rests for a peer; those that somebody trusted
// told of, or that were reached before, don't suffer from their neighbours.
func (m *Manager) hostRests(e *entry, a *addr) time.Time {
	if h := m.hosts[a.host]; h != nil && !a.local && !e.source.trusted() && e.reached.IsZero() {
		return h.until
	}
	return time.Time{}
}

// locateDialled counts how many peers are dialled in which network.
func (p *planning) locateDialled() {
	p.nets, p.wides = map[place]int{}, map[place]int{}
	for _, e := range p.conns.items {
		if !e.inbound {
			p.settled(e, []*addr{e.at})
			for _, a := range e.addrs {
				if a.named { // a name's owner is known by the name alone
					p.settled(e, []*addr{a})
				}
			}
		}
	}
	for _, e := range p.dials.items {
		p.settled(e, e.dialled)
	}
}

func (p *planning) settled(e *entry, at []*addr) {
	for i, a := range at {
		seen, seenWide := a.local, a.local
		for _, b := range at[:i] {
			seen, seenWide = seen || b.net == a.net, seenWide || b.wide == a.wide
		}
		if !seen {
			p.nets[a.net]++
		}
		if !seenWide {
			p.wides[a.wide]++
		}
	}
}

// outbound is how many outbound connections there are or may be soon.
func (p *planning) outbound() int {
	n := len(p.dials.items)
	for _, e := range p.conns.items {
		if !e.inbound {
			n++
		}
	}
	return n
}

// most is nine tenths of a limit, and one less than it at most.
func most(limit int) int { return max(1, limit-max(1, limit/10)) }

// maxOutbound is how many outbound connections there may be: what inbound ones can
// never take, and what they don't.
func (p *planning) maxOutbound() int {
	inbound := 0
	for _, e := range p.conns.items {
		if e.inbound {
			inbound++
		}
	}
	all, in := most(p.cfg.MaxConns), most(p.cfg.MaxInbound)
	return max(1, all-in, all-max(inbound, in/2))
}

// begin dials a peer.
func (p *planning) begin(e *entry, at []*addr) {
	p.pace.take(p.now)
	p.counts.dialled++
	e.expires, e.dialled = p.now.Add(DialTimeout), at
	p.dials.add(e)
	p.count(e, 1)
	p.settled(e, at)
	info := peer.AddrInfo{ID: e.id}
	for _, a := range at {
		info.Addrs = append(info.Addrs, a.ma)
	}
	p.Dial = append(p.Dial, info)
}

// drop parts from a peer.
func (p *planning) drop(e *entry, reason string) {
	p.count(e, -1)
	p.counts.dropped++
	e.dropped = p.now
	p.Drop = append(p.Drop, Drop{ID: e.id, Reason: reason})
}

// makeWay drops an outbound peer for the sake of one that is needed: one of no use,
// or while there are too few, one of those that are more than enough. It is false if
// there is none.
func (p *planning) makeWay(s *state) bool {
	var out *entry
	for _, e := range p.conns.items {
		if !e.inbound && p.leaving(e) {
			return true // there will be room
		}
	}
	for _, e := range p.conns.items {
		if e.inbound || p.kept[e.id] || !p.useless(e) {
			continue
		}
		if due := e.since.Add(uselessAfter); due.After(p.now) {
			p.due(due)
			continue
		}
		if out == nil || e.since.After(out.since) {
			out = e
		}
	}
	if out != nil {
		p.drop(out, "it carries no shard of ours, and room is needed")
		return true
	}
	if s.have >= s.Min {
		return false
	}
	for _, e := range p.conns.items {
		if e.inbound || p.kept[e.id] || !e.proven || !p.surplus(e) {
			continue
		}
		if out == nil || e.since.After(out.since) {
			out = e
		}
	}
	if out != nil {
		p.drop(out, "there are more than enough for its shards, and room is needed for others")
	}
	return out != nil
}
