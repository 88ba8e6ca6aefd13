package peers

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Candidate is a peer that others may like to know.
type Candidate struct {
	Info   peer.AddrInfo
	Record []byte // RLP encoded
}

// Candidates returns up to n peers with records for somebody who asks for peers, and
// where to see whether they can be reached: of those that aren't known to be dead or
// foreign, first such as were, or are, connected, otherwise at random; no more than two
// from one network.
func (m *Manager) Candidates(now time.Time, n int) []Candidate {
	m.enter(now)
	defer m.mu.Unlock()
	var live []*entry
	for _, e := range m.all.items {
		if len(e.record) > 0 && len(e.addrs) > 0 && e.barred == notBarred && e.failures == 0 && !m.leaving(e) {
			live = append(live, e)
		}
	}
	m.rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	rank := func(e *entry) int {
		switch {
		case e.connected() && e.proven && !e.inbound:
			return 0
		case e.connected() && e.proven, !e.reached.IsZero():
			return 1
		}
		return 2
	}
	slices.SortStableFunc(live, func(a, b *entry) int { return rank(a) - rank(b) })
	var out []Candidate
	nets := map[place]int{}
	for _, e := range live {
		if len(out) >= n {
			break
		}
		at := e.addrs[0]
		if nets[at.net] >= perNet && !at.local {
			continue
		}
		nets[at.net]++
		c := Candidate{Info: peer.AddrInfo{ID: e.id}, Record: slices.Clone(e.record)}
		for _, a := range e.addrs {
			c.Info.Addrs = append(c.Info.Addrs, a.ma)
		}
		out = append(out, c)
	}
	return out
}
