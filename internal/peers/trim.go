package peers

import (
	"cmp"
	"slices"
	"time"
)

const (
	// uselessAfter is how long an outbound peer of no use is left alone.
	uselessAfter = time.Minute
	// establishedAfter is how long an inbound peer must have been there not to be
	// displaced by newcomers.
	establishedAfter = 2 * time.Minute
	// household is how many newcomers from one address are nothing unusual.
	household = 4
)

// useless reports whether a peer says what it carries, and it is nothing of ours.
func (p *planning) useless(e *entry) bool {
	if !e.proven || e.silent || len(p.states) == 0 {
		return false
	}
	for i := range p.states {
		if e.carries(p.states[i].need) {
			return false
		}
	}
	return true
}

// spare reports whether each need keeps its least without e.
func (p *planning) spare(e *entry) bool {
	for i := range p.states {
		if s := &p.states[i]; e.proven && e.uses(s.need) && s.have <= s.Min {
			return false
		}
	}
	return true
}

// surplus reports whether nobody would have to be dialled in e's place.
func (p *planning) surplus(e *entry) bool {
	for i := range p.states {
		s := &p.states[i]
		if e.uses(s.need) && (s.have <= s.Target || !e.inbound && s.out <= s.Outbound) {
			return false
		}
	}
	return true
}

// trim drops what is above the limits.
func (p *planning) trim() {
	var in, out []*entry
	for _, e := range p.conns.items {
		switch {
		case p.leaving(e):
		case e.inbound:
			in = append(in, e)
		default:
			out = append(out, e)
		}
	}
	in = p.trimHosts(in)
	tooManyIn := len(in) - most(p.cfg.MaxInbound)
	tooMany := len(in) + len(out) - most(p.cfg.MaxConns)
	if tooManyIn <= 0 && tooMany <= 0 {
		return
	}
	ranked := p.ranked(in)
	for _, x := range ranked {
		if tooManyIn > 0 && p.spare(x.entry) {
			p.drop(x.entry, x.reason())
			tooManyIn, tooMany = tooManyIn-1, tooMany-1
		}
	}
	if tooMany <= 0 {
		return
	}
	// First who is of no use, then newcomers, then those dialled beyond what is
	// needed, and only then those who came long ago.
	slices.SortFunc(out, youngestFirst)
	for _, round := range []func(x surplusPeer) bool{
		func(x surplusPeer) bool { return x.useless },
		func(x surplusPeer) bool { return x.inbound && !x.established },
		func(x surplusPeer) bool { return !x.inbound && x.proven && p.surplus(x.entry) },
		func(x surplusPeer) bool { return x.inbound },
	} {
		for _, x := range ranked {
			if tooMany > 0 && !p.leaving(x.entry) && round(x) && p.spare(x.entry) {
				p.drop(x.entry, x.reason())
				tooMany--
			}
		}
		for _, e := range out {
			x := surplusPeer{entry: e, useless: p.useless(e)}
			if tooMany > 0 && !p.leaving(e) && !p.kept[e.id] && round(x) && p.spare(e) {
				p.drop(e, x.reason())
				tooMany--
			}
		}
	}
}

// trimHosts drops the youngest from addresses that have too many connections, and
// returns the others.
func (p *planning) trimHosts(in []*entry) []*entry {
	hosts := map[place]int{}
	crowded := false
	for _, e := range in {
		if !e.at.local {
			hosts[e.at.host]++
			crowded = crowded || hosts[e.at.host] > p.cfg.PerAddr
		}
	}
	if !crowded {
		return in
	}
	slices.SortFunc(in, youngestFirst)
	return slices.DeleteFunc(in, func(e *entry) bool {
		if e.at.local || hosts[e.at.host] <= p.cfg.PerAddr || p.kept[e.id] || !p.spare(e) {
			return false
		}
		hosts[e.at.host]--
		p.drop(e, "too many connections from its address")
		return true
	})
}

func youngestFirst(a, b *entry) int {
	return cmp.Or(b.since.Compare(a.since), cmp.Compare(a.id, b.id))
}

// ranked are inbound peers that may be dropped, those first who will be missed
// least.
func (p *planning) ranked(in []*entry) []surplusPeer {
	slices.SortFunc(in, func(a, b *entry) int { return youngestFirst(b, a) })
	out := make([]surplusPeer, 0, len(in))
	protectedHosts, protectedNets := map[place]int{}, map[place]int{}
	hosts, nets := map[place]int{}, map[place]int{}
	perHost := max(1, p.cfg.PerAddr*2/3)
	perNetwork := max(p.cfg.PerAddr, p.cfg.MaxInbound/4)
	for i, e := range in { // the oldest first
		if p.kept[e.id] {
			continue
		}
		x := surplusPeer{entry: e, useless: p.useless(e)}
		h, n := e.at.host, e.at.net
		stood := i < len(in)/2 || p.now.Sub(e.since) >= establishedAfter
		switch {
		case x.useless:
		case stood && (e.at.local || protectedHosts[h] < perHost && protectedNets[n] < perNetwork):
			x.established = true
			protectedHosts[h]++
			protectedNets[n]++
		case !e.at.local:
			hosts[h]++
			nets[n]++
			if x.crowd = max(hosts[h], nets[n]/4); x.crowd <= household {
				x.crowd = 0
			}
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b surplusPeer) int {
		return cmp.Or(
			-cmpBool(a.useless, b.useless),
			cmpBool(a.established, b.established),
			cmp.Compare(b.crowd, a.crowd),
			cmpBool(a.proven, b.proven),
			youngestFirst(a.entry, b.entry),
		)
	})
	return out
}

// surplusPeer is one of those of whom some must go.
type surplusPeer struct {
	*entry
	useless     bool
	established bool // for inbound ones
	crowd       int  // its number among newcomers from the same place
}

func (x surplusPeer) reason() string {
	switch {
	case x.useless:
		return "too many connections, and it carries no shard of ours"
	case x.crowd > 0:
		return "too many connections, and many from its address"
	}
	return "too many connections"
}

// cmpBool sorts false before true.
func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
