package peers

import "slices"

// choose returns the peer to be dialled next, for which need, and where.
func (p *planning) choose() (*state, *entry, []addr) {
	for {
		var s *state
		for i := range p.states {
			x := &p.states[i]
			if len(x.candidates) == 0 || x.exhausted || x.lack() <= 0 && x.lackTrusted() <= 0 {
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

// candidate is who may be dialled, and where.
type candidate struct {
	*entry
	at []addr
}

// pick chooses among a need's candidates, so that those who serve it are shared
// between trusted sources and others, among sources, tellers and networks. Only
// peers that serve this need count for that: somebody who claims all shards must
// not appear everywhere as one of many.
func (p *planning) pick(s *state) (*entry, []addr) {
	var free []candidate
	trusted, others := false, false
	for _, e := range s.candidates {
		if e.dialling() || s.lack() <= 0 && !e.source.trusted() {
			continue
		}
		if at := p.open(e); len(at) > 0 {
			free = append(free, candidate{e, at})
			trusted, others = trusted || e.source.trusted(), others || !e.source.trusted()
		}
	}
	if len(free) == 0 {
		return nil, nil
	}
	byTrust, bySource, byTeller := p.dialledFor(s)
	if trusted && others {
		which := byTrust[true] <= byTrust[false]
		free = only(free, func(c candidate) bool { return c.source.trusted() == which })
	}
	if p.rand.IntN(4) > 0 { // some are tried that were never tried before
		free = prefer(free, func(c candidate) bool { return !c.reached.IsZero() && c.failures == 0 })
	}
	free = oneOf(p, free, func(c candidate) (Source, int) { return c.source, bySource[c.source] })
	free = p.byTeller(free, byTeller)
	free = oneOf(p, free, func(c candidate) (place, int) { return c.at[0].wide, p.wides[c.at[0].wide] })
	free = oneOf(p, free, func(c candidate) (int, int) { return c.failures, c.failures })
	free = oneOf(p, free, func(c candidate) (int, int) { n := p.covers(c.entry); return n, -n })
	c := free[p.rand.IntN(len(free))]
	return c.entry, c.at
}

// dialledFor counts who serves a need, or might, and was dialled.
func (p *planning) dialledFor(s *state) (byTrust map[bool]int, bySource map[Source]int, byTeller map[teller]int) {
	byTrust, bySource, byTeller = map[bool]int{}, map[Source]int{}, map[teller]int{}
	count := func(e *entry) {
		byTrust[e.source.trusted()]++
		bySource[e.source]++
		for _, t := range e.tellers {
			byTeller[t]++
		}
	}
	for _, e := range p.conns.items {
		if !e.inbound && !p.leaving(e) && (e.proven && e.uses(s.Need) || p.pending(e) && e.may(s.Need)) {
			count(e)
		}
	}
	for _, e := range p.dials.items {
		if e.may(s.Need) {
			count(e)
		}
	}
	return byTrust, bySource, byTeller
}

func only(in []candidate, is func(candidate) bool) (out []candidate) {
	for _, c := range in {
		if is(c) {
			out = append(out, c)
		}
	}
	return out
}

// prefer is only, unless there is none.
func prefer(in []candidate, is func(candidate) bool) []candidate {
	if out := only(in, is); len(out) > 0 {
		return out
	}
	return in
}

// oneOf returns one of the groups that in falls into: one of those that have least,
// whatever their sizes.
func oneOf[G comparable](p *planning, in []candidate, group func(candidate) (g G, has int)) []candidate {
	var groups []G
	seen := map[G]bool{}
	least := 0
	for i, c := range in {
		g, has := group(c)
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
	return only(in, func(c candidate) bool { g, _ := group(c); return g == chosen })
}

// byTeller returns those that one teller told of: one of those whose word led to
// the fewest connections.
func (p *planning) byTeller(in []candidate, has map[teller]int) []candidate {
	var groups []teller
	for _, c := range in {
		for _, t := range c.tellers {
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
	return only(in, func(c candidate) bool { return slices.Contains(c.tellers, chosen) })
}

// covers is how many needs that aren't met a peer might serve.
func (p *planning) covers(e *entry) (n int) {
	for i := range p.states {
		if s := &p.states[i]; s.lack() > 0 && e.may(s.Need) {
			n++
		}
	}
	return n
}

// open are the addresses at which a peer may be dialled now, the one first where it
// was reached last.
func (p *planning) open(e *entry) (out []addr) {
	if e.good != nil && p.admits(e, *e.good) {
		out = append(out, *e.good)
	}
	for _, a := range e.addrs {
		if (len(out) == 0 || !out[0].ma.Equal(a.ma)) && !p.hostRests(e, a).After(p.now) && p.admits(e, a) {
			out = append(out, a)
		}
	}
	return out
}

// admits tells whether one more may be dialled in an address's network.
func (p *planning) admits(e *entry, a addr) bool {
	limit := perNet
	switch {
	case e.source.trusted():
		limit = trustedPerNet
	case a.host.circuit:
		limit = perRelay
	}
	return a.local || p.nets[a.net] < limit
}
