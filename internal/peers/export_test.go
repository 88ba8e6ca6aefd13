package peers

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Where tells the host, the network and the wider network of an address, and
// whether it is local.
func Where(a ma.Multiaddr, id peer.ID) (host, net, wide string, local, ok bool) {
	x, ok := locate(a, id)
	return string(x.host), string(x.net), string(x.wide), x.local, ok
}

// Hosts is how many addresses are known.
func (m *Manager) Hosts() int { return len(m.hosts) }

// Check returns what is wrong with the manager's books.
func (m *Manager) Check() (wrong []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	expect := func(ok bool, what string) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	expect(len(m.known) == len(m.all.items), "all and known differ")
	bySource, told, live := 0, 0, 0
	for s := range m.bySource {
		bySource += len(m.bySource[s].items)
		for i, e := range m.bySource[s].items {
			expect(e.source == Source(s) && e.pos[slotSource] == i+1, "source's list")
		}
	}
	expect(bySource == len(m.known), "sources don't add up")
	for t, of := range m.tellers {
		expect(len(of) > 0 && len(of) <= maxPerTeller && t.limited(), "a teller's list")
		for _, e := range of {
			told++
			expect(slices.Contains(e.tellers, t), "a teller that isn't one")
		}
	}
	for i, e := range m.all.items {
		expect(m.known[e.id] == e && e.pos[slotAll] == i+1, "the list of all")
		expect(len(e.addrs) <= maxAddrs && len(e.tellers) > 0 && len(e.tellers) <= maxTellers, "an entry's size")
		expect(!e.connected() || !e.dialling(), "connected and dialling")
		for _, t := range e.tellers {
			expect(t.source == e.source, "a teller of another source")
			if t.limited() {
				told--
			}
		}
		if e.connected() {
			live++
		}
		for _, a := range e.addrs {
			h := m.hosts[a.host]
			expect(a.local || h != nil && slices.Contains(h.members, e), "lives nowhere")
		}
	}
	expect(told == 0, "tellers don't add up")
	expect(live == len(m.conns.items), "connections don't add up")
	expect(len(m.cuts) == len(m.cutIDs) && len(m.cuts) <= maxCuts, "cuts don't add up")
	queued := 0
	for p, h := range m.hosts {
		expect(len(h.members) > 0 || h.queued, "an empty host")
		if h.queued {
			queued++
		}
		for _, e := range h.members {
			expect(m.known[e.id] == e && slices.ContainsFunc(e.addrs, func(a *addr) bool { return a.host == p }), "a stranger in the house")
		}
	}
	expect(queued == len(m.resting) && queued <= maxResting, "resting hosts don't add up")
	return wrong
}
