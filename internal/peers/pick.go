package peers

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

// pick chooses among a need's candidates, so that those who serve it are shared
// between trusted sources and others, among sources, tellers and networks. Only
// peers that serve this need count for that: somebody who claims all shards must
// not appear everywhere as one of many.
func (p *planning) pick(s *state) (*entry, []addr) {
	var free []*entry
	trusted, others := false, false
	for _, e := range s.candidates {
		if e.dialling() || len(p.open(e)) == 0 || s.lack() <= 0 && !e.source.trusted() {
			continue
		}
		free = append(free, e)
		trusted, others = trusted || e.source.trusted(), others || !e.source.trusted()
	}
	if len(free) == 0 {
		return nil, nil
	}
	var byTrust [2]int
	var bySource [sources]int
	byTeller := map[teller]int{}
	for _, l := range []*list{&p.conns, &p.dials} {
		for _, e := range l.items {
			if e.connected() && (e.inbound || p.leaving(e) || e.proven && !e.uses(s.Need)) || !e.may(s.Need) {
				continue
			}
			byTrust[trust(e)]++
			bySource[e.source]++
			byTeller[e.teller]++
		}
	}
	if trusted && others {
		which := byTrust[1] <= byTrust[0]
		free = only(free, func(e *entry) bool { return e.source.trusted() == which })
	}
	if p.rand.IntN(4) > 0 { // some are tried that were never tried before
		free = prefer(free, func(e *entry) bool { return !e.reached.IsZero() && e.failures == 0 })
	}
	free = least(free, func(e *entry) int { return bySource[e.source] })
	free = p.oneOf(free, func(a, b *entry) bool { return a.source == b.source })
	free = least(free, func(e *entry) int { return byTeller[e.teller] })
	free = p.oneOf(free, func(a, b *entry) bool { return a.teller == b.teller })
	free = least(free, func(e *entry) int { return p.wides[p.open(e)[0].wide] })
	free = p.oneOf(free, func(a, b *entry) bool { return p.open(a)[0].wide == p.open(b)[0].wide })
	free = least(free, func(e *entry) int { return e.failures })
	free = least(free, func(e *entry) int { return -p.covers(e) })
	e := free[p.rand.IntN(len(free))]
	return e, p.open(e)
}

func trust(e *entry) int {
	if e.source.trusted() {
		return 1
	}
	return 0
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

// least returns those of which there is least.
func least(in []*entry, of func(*entry) int) (out []*entry) {
	best := 0
	for i, e := range in {
		n := of(e)
		if i == 0 || n < best {
			best, out = n, out[:0]
		}
		if n == best {
			out = append(out, e)
		}
	}
	return out
}

// oneOf returns one of the groups that in falls into, whatever their sizes.
func (p *planning) oneOf(in []*entry, same func(a, b *entry) bool) []*entry {
	var firsts []*entry
	for _, e := range in {
		seen := false
		for _, f := range firsts {
			if seen = same(e, f); seen {
				break
			}
		}
		if !seen {
			firsts = append(firsts, e)
		}
	}
	if len(firsts) == 1 {
		return in
	}
	f := firsts[p.rand.IntN(len(firsts))]
	return only(in, func(e *entry) bool { return same(e, f) })
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
