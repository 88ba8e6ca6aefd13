package peers

import (
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxPerTeller is how many peers one teller's word is taken for, maxPerHost
	// how many are believed to live at one address, maxPerRelay how many behind
	// one relay, maxTellers how many are remembered who told of the same peer.
	maxPerTeller = 128
	maxTellers   = 4
	maxPerHost   = 8
	maxPerRelay  = 64
	// maxResting is how many addresses rest where nobody known lives.
	maxResting = 1024
	// samples is how many entries are looked at for one to be forgotten.
	samples = 8
	// staleAfter is how long after the last sighting a peer that was never tried
	// may be forgotten for another.
	staleAfter = time.Hour
	// pardonEvery is how often a newer record ends a rest, at most.
	pardonEvery = time.Hour
	maxFrom     = 256 // bytes
	maxRecord   = 512 // bytes; records have 300
)

// share is how much of the table a source may fill: a part of shares.
var share = [sources]int{Static: 4, Application: 2, DNS: 4, Saved: 2, Rendezvous: 2, Discv5: 4, Exchange: 4, Inbound: 2}

const shares = 8

// Why a sighting is refused, as [Stats] has it.
const (
	refusedSelf     = "own record"
	refusedInvalid  = "invalid"
	refusedCluster  = "other cluster"
	refusedAddress  = "no address to dial"
	refusedHost     = "too many at one address"
	refusedTeller   = "too many by one teller"
	refusedSource   = "too many by one source"
	refusedFull     = "table full"
	refusedBarred   = "dead, foreign or cut"
	refusedOutdated = "older record"
)

// Found takes note of what somebody tells of peers.
func (m *Manager) Found(now time.Time, sightings ...Sighting) {
	m.enter(now)
	defer m.mu.Unlock()
	for i := range sightings {
		if sightings[i].Ambiguous {
			m.counts.ambiguous++
		}
		if why := m.found(&sightings[i]); why != "" {
			m.refused[why]++
		}
	}
}

func (m *Manager) found(s *Sighting) (refused string) {
	switch {
	case s.Info.ID == m.cfg.Self:
		return refusedSelf
	case s.Source == 0 || s.Source >= sources || s.Info.ID.Validate() != nil || len(s.Info.ID) > maxID || len(s.Record) > maxRecord:
		return refusedInvalid
	case s.Shards.Len() > 0 && s.Shards.Cluster() != m.cfg.Cluster:
		return refusedCluster
	}
	e := m.known[s.Info.ID]
	if e != nil && e.record != nil && (s.Record == nil && !s.Source.ours() && !s.Signed || s.Record != nil && s.Seq < e.seq) {
		return refusedOutdated
	}
	addrs := m.dialable(s)
	if e != nil {
		return m.again(e, s, addrs)
	}
	if len(addrs) == 0 {
		return refusedAddress
	}
	if addrs = m.housed(nil, addrs, s.Source); len(addrs) == 0 {
		return refusedHost
	}
	e = m.newEntry(s.Info.ID, s.Source)
	e.services, e.record = s.Services, slices.Clone(s.Record)
	if s.Signed {
		e.signed = s.Seq
	} else {
		e.seq = s.Seq
	}
	e.carry(s.Shards)
	by := s.teller()
	if why := m.makeRoom(e, by); why != "" {
		return why
	}
	m.insert(e, by)
	m.settle(e, addrs)
	return ""
}

func (m *Manager) newEntry(id peer.ID, source Source) *entry {
	e := &entry{id: id, source: source, seen: m.now, silent: true}
	if until, ok := m.cuts[id]; ok && m.now.Before(until) {
		e.barred, e.barUntil = cut, until
	}
	return e
}

// again takes note of what is told of a known peer.
func (m *Manager) again(e *entry, s *Sighting, addrs []*addr) (refused string) {
	newer := s.Record != nil && (e.record == nil || s.Seq > e.seq)
	switch {
	case e.barred == notBarred:
	case !m.now.Before(e.barUntil):
		e.barred, e.failures, e.until = notBarred, 0, time.Time{}
	case newer && e.barred != cut && m.pardon(e):
	default:
		return refusedBarred
	}
	m.retell(e, s.teller())
	switch {
	case newer:
		if e.record != nil {
			m.pardon(e)
		}
		if moved := m.housed(e, addrs, e.source); len(moved) > 0 {
			if !slices.EqualFunc(moved, e.addrs, func(a, b *addr) bool { return a.ma.Equal(b.ma) }) {
				e.answers = time.Time{} // a record can point at anybody
			}
			m.settle(e, moved)
		}
		m.confirm(e)
		e.record, e.seq = slices.Clone(s.Record), s.Seq
		if !e.proven {
			e.carry(s.Shards)
			e.services = s.Services | e.services&PeerExchange
		}
	case s.Record == nil:
		more := slices.Clone(e.addrs)
		if s.Signed {
			if s.Seq < e.signed {
				return refusedOutdated
			}
			if s.Seq > e.signed {
				more = slices.DeleteFunc(more, func(a *addr) bool { return a.circuit })
				if !slices.EqualFunc(e.circuits(), addrs, sameAddr) {
					m.pardon(e)
				}
			}
			e.signed = s.Seq
		}
		for _, a := range addrs {
			if len(more) < maxAddrs && !slices.ContainsFunc(more, func(b *addr) bool { return b.ma.Equal(a.ma) }) {
				more = append(more, a)
			}
		}
		if more = m.housed(e, more, s.Source); len(more) > 0 {
			m.settle(e, more)
		}
		if e.silent && !e.proven {
			e.carry(s.Shards)
		}
		if e.services == 0 && !e.proven {
			e.services = s.Services
		}
	}
	e.seen = m.now
	return ""
}

func sameAddr(a, b *addr) bool { return a.ma.Equal(b.ma) }

// circuits are the addresses of a peer that lead through a relay.
func (e *entry) circuits() (out []*addr) {
	for _, a := range e.addrs {
		if a.circuit {
			out = append(out, a)
		}
	}
	return out
}

// pardon ends a rest for a newer record's sake, but not time and again: who
// publishes one every minute isn't dialled every minute.
func (m *Manager) pardon(e *entry) bool {
	if !e.pardoned.IsZero() && m.now.Sub(e.pardoned) < pardonEvery {
		return false
	}
	if e.barred != notBarred {
		e.barred, e.failures = notBarred, maxFailures-1
	}
	e.pardoned, e.until = m.now, time.Time{}
	return true
}

// dialable are the addresses of a sighting that the node may dial.
func (m *Manager) dialable(s *Sighting) (out []*addr) {
	hosts := 0
	for _, a := range s.Info.Addrs[:min(len(s.Info.Addrs), maxTold)] {
		x, ok := locate(a, s.Info.ID)
		if !ok || x.local && !m.mayBeLocal(s.Source) ||
			slices.ContainsFunc(out, func(b *addr) bool { return b.ma.Equal(x.ma) }) {
			continue
		}
		if !slices.ContainsFunc(out, func(b *addr) bool { return b.host == x.host }) {
			if hosts++; hosts > maxHosts {
				continue
			}
		}
		if out = append(out, x); len(out) == maxAddrs {
			break
		}
	}
	return out
}

func (m *Manager) mayBeLocal(s Source) bool { return m.cfg.AllowPrivate || s.ours() }

// housed leaves out addresses where too many live already, unless one of these has
// failed and can be forgotten.
func (m *Manager) housed(e *entry, addrs []*addr, source Source) []*addr {
	if source.trusted() || e != nil && !e.reached.IsZero() {
		return addrs
	}
	return slices.DeleteFunc(addrs, func(a *addr) bool {
		h := m.hosts[a.host]
		if a.local || h == nil || slices.Contains(h.members, e) {
			return false
		}
		limit := maxPerHost
		if a.circuit {
			limit = maxPerRelay
		}
		if len(h.members) < limit {
			return false
		}
		worst := m.worst(h.members)
		if m.worth(worst) >= worthUntried {
			return true
		}
		m.forget(worst)
		return false
	})
}

// What keeps an entry from being forgotten.
const (
	worthNothing = iota // dead, foreign or cut
	worthFailing        // and never reached
	worthStale          // nobody has told of it for long
	worthUntried
	worthGood // it was reached, or somebody trusted told of it
	worthAll
)

func (m *Manager) worth(e *entry) int {
	switch {
	case e.connected(), e.dialling(), e.source == Static:
		return worthAll
	case e.barred != notBarred:
		return worthNothing
	case e.failures >= 4 && !e.source.ours():
		return worthFailing
	case !e.reached.IsZero(), e.source.trusted():
		return worthGood
	case e.failures > 0:
		return worthFailing
	case m.now.Sub(e.seen) > staleAfter:
		return worthStale
	}
	return worthUntried
}

func (m *Manager) worst(of []*entry) (worst *entry) {
	least := worthAll + 1
	for _, e := range of {
		if w := m.worth(e); w < least {
			worst, least = e, w
		}
	}
	return worst
}

// makeRoom makes sure that e may be inserted, or tells why not.
func (m *Manager) makeRoom(e *entry, by teller) (refused string) {
	if !m.heeds(by) {
		return refusedTeller
	}
	if s := &m.bySource[e.source]; len(s.items) >= m.limit(e.source) && !m.squeeze(s, worthUntried) {
		return refusedSource
	}
	if len(m.all.items) < m.cfg.MaxKnown {
		return ""
	}
	if m.squeeze(&m.all, worthUntried) {
		return ""
	}
	// Those of whom there are many leave room to those of whom there are few.
	fullest := Static
	for s := Static; s < sources; s++ {
		if m.fullness(s) > m.fullness(fullest) {
			fullest = s
		}
	}
	if m.fullness(e.source) < m.fullness(fullest)/2 && m.squeeze(&m.bySource[fullest], worthGood) {
		return ""
	}
	return refusedFull
}

func (m *Manager) limit(s Source) int { return m.cfg.MaxKnown * share[s] / shares }

func (m *Manager) fullness(s Source) float64 {
	return float64(len(m.bySource[s].items)) / float64(m.limit(s))
}

// squeeze forgets an entry that is worth less than so much, if it meets one.
func (m *Manager) squeeze(l *list, less int) bool {
	worst := m.worst(l.some(m.rand, samples))
	if worst == nil || m.worth(worst) >= less {
		return false
	}
	m.forget(worst)
	return true
}

func (m *Manager) insert(e *entry, by teller) {
	m.known[e.id] = e
	m.all.add(e)
	m.bySource[e.source].add(e)
	m.claim(e, by)
}

func (s *Sighting) teller() teller {
	return teller{s.Source, strings.Clone(s.From[:min(len(s.From), maxFrom)])}
}

func (t teller) limited() bool { return t.from != "" && !t.source.trusted() }

// heeds reports whether a teller may tell of one more peer. One of those that led
// nowhere is held against nobody any more.
func (m *Manager) heeds(by teller) bool {
	told := m.tellers[by]
	if len(told) < maxPerTeller {
		return true
	}
	l := list{items: told}
	worst := m.worst(l.some(m.rand, samples))
	if m.worth(worst) >= worthUntried {
		return false
	}
	m.disclaim(worst, by)
	if len(worst.tellers) == 0 {
		m.forget(worst)
	}
	return true
}

// retell notes that a known peer was told of, if there is room. All tellers of the
// most trusted source count, or else a liar could make good peers his own by
// telling of them first.
func (m *Manager) retell(e *entry, by teller) {
	switch {
	case by.source > e.source, slices.Contains(e.tellers, by):
		return
	case by.source == e.source:
		if len(e.tellers) < maxTellers && m.heeds(by) {
			m.claim(e, by)
		}
		return
	}
	if s := &m.bySource[by.source]; len(s.items) >= m.limit(by.source) || !m.heeds(by) {
		return
	}
	for _, t := range e.tellers {
		m.disclaim(e, t)
	}
	m.bySource[e.source].remove(e)
	e.source = by.source
	m.bySource[e.source].add(e)
	m.claim(e, by)
}

func (m *Manager) claim(e *entry, by teller) {
	e.tellers = append(e.tellers, by)
	if by.source == DNS && len(m.lists) < maxLists {
		m.lists[by.from] = true
	}
	if by.limited() {
		m.tellers[by] = append(m.tellers[by], e)
	}
}

func (m *Manager) disclaim(e *entry, by teller) {
	e.tellers = slices.DeleteFunc(slices.Clone(e.tellers), func(t teller) bool { return t == by })
	told := slices.DeleteFunc(m.tellers[by], func(x *entry) bool { return x == e })
	if m.tellers[by] = told; len(told) == 0 {
		delete(m.tellers, by)
	}
}

// forget drops an entry that is neither connected nor being dialled.
func (m *Manager) forget(e *entry) {
	m.settle(e, nil)
	for _, t := range e.tellers {
		m.disclaim(e, t)
	}
	m.bySource[e.source].remove(e)
	m.all.remove(e)
	delete(m.known, e.id)
	m.counts.forgotten++
}

// settle sets where a peer lives.
func (m *Manager) settle(e *entry, addrs []*addr) {
	old := e.addrs
	e.addrs = slices.Clip(addrs)
	for _, a := range e.addrs {
		if a.local {
			continue
		}
		h := m.hosts[a.host]
		if h == nil {
			h = new(host)
			m.hosts[a.host] = h
		}
		if !slices.Contains(h.members, e) {
			h.members = append(h.members, e)
		}
	}
	for _, a := range old {
		h := m.hosts[a.host]
		if h == nil || slices.ContainsFunc(addrs, func(b *addr) bool { return b.host == a.host && !b.local }) {
			continue
		}
		i := slices.Index(h.members, e)
		if i < 0 {
			continue
		}
		if h.members = slices.Delete(h.members, i, i+1); len(h.members) == 0 {
			m.leave(a.host, h)
		}
	}
}

// leave is for a host where nobody known lives any more. If it rests, that is
// remembered: made-up identities cost nothing.
func (m *Manager) leave(p place, h *host) {
	switch {
	case h.queued:
	case !m.now.Before(h.until):
		delete(m.hosts, p)
	case len(m.resting) < maxResting:
		m.resting, h.queued = append(m.resting, p), true
	default:
		i := m.rand.IntN(maxResting)
		if other := m.hosts[m.resting[i]]; other != nil {
			if other.queued = false; len(other.members) == 0 {
				delete(m.hosts, m.resting[i])
			}
		}
		m.resting[i], h.queued = p, true
	}
}
