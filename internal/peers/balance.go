package peers

import "slices"

// Who speaks first may fill all slots before anybody else is heard. So a need that is
// met is given more peers while those dialled for it are of one kind: up to half as many
// again. Then some of the kind that there are too many of are dropped.

const (
	// apart is by how many peers one kind must be ahead of another.
	apart = 2
	// maxLists is how many signed trees are told apart by Manager.lists.
	maxLists = 16
)

// mixture is how many of those who serve a need, or might, were dialled: in all, by
// whether somebody trusted told of them, by source and by teller.
type mixture struct {
	all      int
	byTrust  map[bool]int
	bySource map[Source]int
	byTeller map[teller]int
	lists    bool // there are several signed trees
}

// lopsided reports whether others may have to be heard.
func (h *mixture) lopsided() bool {
	return h.all >= apart && (h.strangers() || h.lists && h.bySource[DNS] > 0)
}

// strangers reports whether most are such that nobody trusted told of.
func (h *mixture) strangers() bool { return h.byTrust[false] > h.byTrust[true] }

// most is the source that most of the strangers are of, or else the signed trees; and
// its teller with most.
func (h *mixture) most() (s Source, t teller) {
	s = DNS
	if h.strangers() {
		for x, n := range h.bySource {
			if !x.trusted() && (n > h.bySource[s] || s.trusted() || n == h.bySource[s] && x < s) {
				s = x
			}
		}
	}
	for x, n := range h.byTeller {
		if x.source == s && (n > h.byTeller[t] || n == h.byTeller[t] && x.from < t.from) {
			t = x
		}
	}
	return s, t
}

// behind reports whether e is of a kind that there are few of.
func (h *mixture) behind(e *entry) bool {
	s, t := h.most()
	switch {
	case e.source == Inbound: // who comes by himself is nobody's choice
		return false
	case h.strangers() && e.source.trusted():
		return h.byTrust[true]+apart <= h.byTrust[false]
	case h.strangers() && e.source != s:
		return h.bySource[e.source]+apart <= h.bySource[s]
	case e.source != s:
		return false
	}
	return slices.ContainsFunc(e.tellers, func(by teller) bool { return h.byTeller[by]+apart <= h.byTeller[t] })
}

// ahead reports whether e is of the kind that there are most of, and not all.
func (h *mixture) ahead(e *entry) bool {
	s, t := h.most()
	switch {
	case e.source != s:
		return false
	case h.strangers() && h.bySource[s] < h.all:
		return true
	}
	return h.byTeller[t] < h.bySource[s] && !slices.ContainsFunc(e.tellers, func(by teller) bool { return by != t })
}

// owes reports whether e is to be dialled though the need is met.
func (s *state) owes(h *mixture, e *entry) bool {
	return h.all < s.Target+s.Target/2 && h.lopsided() && h.behind(e)
}

// even drops one of those who are more than enough, if they are of a kind that there are
// too many of.
func (p *planning) even() {
	if len(p.Drop) > 0 || slices.ContainsFunc(p.conns.items, p.leaving) {
		return // one thing after the other
	}
	for i := range p.states {
		s := &p.states[i]
		if s.out <= s.Target {
			continue
		}
		h := p.dialledFor(s)
		if !h.lopsided() {
			continue
		}
		var out *entry
		for _, e := range p.conns.items {
			if e.inbound || p.kept[e.id] || !e.proven || !e.uses(s.need) || !h.ahead(e) || !p.surplus(e) {
				continue
			}
			if due := e.since.Add(stableAfter); due.After(p.now) {
				p.due(due)
				continue
			}
			if out == nil || e.since.After(out.since) {
				out = e
			}
		}
		if out != nil {
			p.drop(out, "more than enough for its shards were named by the same")
			return
		}
	}
}
