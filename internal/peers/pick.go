package peers

import "slices"

// choose returns the peer to be dialled next, for which need, and where.
func (p *planning) choose() (*state, *entry, []*addr) {
	for {
		var s *state
		for i := range p.states {
			x := &p.states[i]
			if len(x.candidates) == 0 || x.exhausted || x.lack() <= 0 && x.lackTrusted() <= 0 && !x.lopsided {
				continue
			}
			if s == nil || x.urgency() > s.urgency() {
				s = x
			}
		}
		if s == nil {
			return nil, nil, nil
		}
		if e, at := p.pick(s); e != nil {
			return s, e, at
		}
		s.exhausted = true
	}
}

// urgency is more for those with less, and most while there are too few.
func (s *state) urgency() float64 {
	u := 1 - float64(s.have+s.trying)/float64(s.Target+1)
	if s.have+s.trying < s.Min {
		u += 2
	}
	if s.out+s.trying < s.Outbound {
		u++
	}
	return u
}

const lastChoice = 1 << 30

// pick chooses among a need's candidates, so that those who serve it are shared
// between trusted sources and others, among sources, tellers and networks. Only
// peers that serve this need count for that: somebody who claims all shards must
// not appear everywhere as one of many.
func (p *planning) pick(s *state) (*entry, []*addr) {
	var free []*entry
	trusted, others := false, false
	h := p.dialledFor(s)
	for _, e := range s.candidates {
		if e.dialling() || !p.wants(s, h, e) {
			continue
		}
		if e.chosen = p.first(e); e.chosen == nil {
			continue
		}
		free = append(free, e)
		trusted, others = trusted || e.source.trusted(), others || !e.source.trusted()
	}
	if len(free) == 0 {
		return nil, nil
	}
	if trusted && others {
		which := h.byTrust[true] <= h.byTrust[false]
		free = only(free, func(e *entry) bool { return e.source.trusted() == which })
	}
	free = oneOf(p, free, func(e *entry) (Source, int) {
		if e.source == Inbound { // who comes by himself is nobody's choice
			return e.source, lastChoice
		}
		return e.source, h.bySource[e.source]
	})
	free = p.byTeller(free, h.byTeller)
	free = prefer(free, func(e *entry) bool { return e.uses(s.need) }) // as far as somebody said
	if p.rand.IntN(4) > 0 {                                            // some are tried that were never tried before
		free = prefer(free, func(e *entry) bool { return !e.reached.IsZero() && e.failures == 0 })
	}
	free = oneOf(p, free, func(e *entry) (place, int) { return e.chosen.wide, p.wides[e.chosen.wide] })
	free = oneOf(p, free, func(e *entry) (int, int) { return e.failures, e.failures })
	free = oneOf(p, free, func(e *entry) (int, int) { n := p.covers(e); return n, -n })
	e := free[p.rand.IntN(len(free))]
	return e, p.open(e)
}

// dialledFor counts who serves a need, or might, and was dialled.
func (p *planning) dialledFor(s *state) *mixture {
	h := &mixture{lists: len(p.lists) > 1, byTrust: map[bool]int{}, bySource: map[Source]int{}, byTeller: map[teller]int{}}
	count := func(e *entry) {
		h.all++
		h.byTrust[e.source.trusted()]++
		h.bySource[e.source]++
		for _, t := range e.tellers {
			h.byTeller[t]++
		}
	}
	for _, e := range p.conns.items {
		if !e.inbound && !p.leaving(e) && (e.proven && e.uses(s.need) || p.pending(e) && e.may(s.need)) {
			count(e)
		}
	}
	for _, e := range p.dials.items {
		if e.may(s.need) {
			count(e)
		}
	}
	return h
}

func only(in []*entry, is func(*entry) bool) (out []*entry) {
	for _, e := range in {
		if is(e) {
			out = append(out, e)
		}
	}
	return out
}

// prefer is only, unless there is none.
func prefer(in []*entry, is func(*entry) bool) []*entry {
	if out := only(in, is); len(out) > 0 {
		return out
	}
	return in
}

// oneOf returns one of the groups that in falls into: one of those that have least,
// whatever their sizes.
func oneOf[G comparable](p *planning, in []*entry, group func(*entry) (g G, has int)) []*entry {
	var groups []G
	seen := map[G]bool{}
	least := 0
	for i, e := range in {
		g, has := group(e)
		if seen[g] {
			continue
		}
		seen[g] = true
		if i == 0 || has < least {
			least, groups = has, groups[:0]
		}
		if has == least {
			groups = append(groups, g)
		}
	}
	if len(seen) == 1 {
		return in
	}
	chosen := groups[p.rand.IntN(len(groups))]
	return only(in, func(e *entry) bool { g, _ := group(e); return g == chosen })
}

// byTeller returns those that one teller told of: one of those whose word led to
// the fewest connections.
func (p *planning) byTeller(in []*entry, has map[teller]int) []*entry {
	var groups []teller
	for _, e := range in {
		for _, t := range e.tellers {
			if len(groups) > 0 && has[t] < has[groups[0]] {
				groups = groups[:0]
			}
			if (len(groups) == 0 || has[t] == has[groups[0]]) && !slices.Contains(groups, t) {
				groups = append(groups, t)
			}
		}
	}
	if len(groups) == 0 {
		return in
	}
	chosen := groups[p.rand.IntN(len(groups))]
	return only(in, func(e *entry) bool { return slices.Contains(e.tellers, chosen) })
}

// covers is how many needs that aren't met a peer might serve.
func (p *planning) covers(e *entry) (n int) {
	for i := range p.states {
		if s := &p.states[i]; s.lack() > 0 && e.may(s.need) {
			n++
		}
	}
	return n
}

// open are the addresses at which a peer may be dialled now, the one first where it
// was reached last.
func (p *planning) open(e *entry) (out []*addr) {
	if p.mayUse(e.good) && p.admits(e, e.good) {
		out = append(out, e.good)
	}
	for _, a := range e.addrs {
		if p.mayUse(a) && (len(out) == 0 || !out[0].ma.Equal(a.ma)) && !p.hostRests(e, a).After(p.now) && p.admits(e, a) {
			out = append(out, a)
		}
	}
	return out
}

// first is the first of open, nil if there is none.
func (p *planning) first(e *entry) *addr {
	if p.mayUse(e.good) && p.admits(e, e.good) {
		return e.good
	}
	for _, a := range e.addrs {
		if p.mayUse(a) && p.admits(e, a) {
			if !p.hostRests(e, a).After(p.now) {
				return a
			}
			p.rests(p.hostRests(e, a))
		}
	}
	return nil
}

// admits tells whether one more may be dialled in an address's network.
func (p *planning) admits(e *entry, a *addr) bool {
	limit := perNet
	switch {
	case e.source.trusted():
		limit = trustedPerNet
	case a.circuit:
		limit = perRelay
	}
	return a.local || p.nets[a.net] < limit
}
