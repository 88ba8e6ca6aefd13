package peers

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/sharding"
)

// reachableFor is how long a peer that connects to this node is believed to be
// within others' reach.
const reachableFor = time.Hour

// Best returns the connected peers that have all of the services and carry the
// shard, or don't say what they carry: the nearest first by classes of round trip
// time, within a class in random order.
func (m *Manager) Best(shard sharding.Shard, service Service) []peer.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []*entry
	for _, e := range m.conns.items {
		if e.proven && !m.leaving(e) && e.services.Has(service) && (e.silent || e.shards.Contains(shard)) {
			found = append(found, e)
		}
	}
	m.rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	slices.SortStableFunc(found, func(a, b *entry) int { return distance(a.rtt) - distance(b.rtt) })
	return ids(found)
}

// distance is the class of a round trip time: who isn't known is taken for average.
func distance(rtt time.Duration) int {
	switch {
	case rtt == 0:
		return 2
	case rtt < 50*time.Millisecond:
		return 0
	case rtt < 150*time.Millisecond:
		return 1
	case rtt < 400*time.Millisecond:
		return 2
	}
	return 3
}

func ids(of []*entry) []peer.ID {
	out := make([]peer.ID, len(of))
	for i, e := range of {
		out[i] = e.id
	}
	return out
}

// Sample returns the records of up to n peers for somebody who asks for peers: of
// such that are connected, belong to the network, have answered within maxAge and
// can be reached by others, as this node or [Manager.Reachable] knows. The choice
// is random, no more than two from one network.
func (m *Manager) Sample(now time.Time, from peer.ID, n int, maxAge time.Duration) [][]byte {
	m.enter(now)
	defer m.mu.Unlock()
	var live []*entry
	for _, e := range m.conns.items {
		if e.at.local && !m.cfg.AllowPrivate {
			continue // nobody else's business
		}
		if e.proven && len(e.record) > 0 && e.id != from && e.barred == notBarred && !m.leaving(e) &&
			m.now.Sub(e.alive) <= maxAge && !e.answers.IsZero() && (!e.inbound || m.now.Sub(e.answers) <= reachableFor) {
			live = append(live, e)
		}
	}
	m.rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	var out [][]byte
	nets := map[place]int{}
	for _, e := range live {
		if len(out) >= n {
			break
		}
		if nets[e.at.net] >= perNet && !e.at.local {
			continue
		}
		nets[e.at.net]++
		out = append(out, slices.Clone(e.record))
	}
	return out
}

// MayDial is for a connection gater, which sees what names resolve to, and what peers
// say of themselves: it is false if the address can't be anybody's, or is one of a LAN
// or of this machine, unless one of ours has placed the peer there.
func (m *Manager) MayDial(id peer.ID, at ma.Multiaddr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.AllowPrivate {
		return true
	}
	x, ok := locate(at, id)
	if !ok || !x.local {
		return ok
	}
	e := m.known[id]
	return e != nil && e.source.ours() && slices.ContainsFunc(e.addrs, func(a *addr) bool {
		return a.named || a.host == x.host
	})
}

// Peer is what is known of a peer.
type Peer struct {
	Info      peer.AddrInfo
	Source    Source
	From      string
	Shards    sharding.Set
	Services  Service
	Seq       uint64
	Connected bool
	Inbound   bool
	Proven    bool
	Since     time.Time // of the connection
	Alive     time.Time // its last answer
	RTT       time.Duration
	Reached   time.Time // when it was last proven on a connection that this node made
	Failures  int       // dials in a row
	NextTry   time.Time // zero: now, or never, see Barred
	Barred    string    // dead, foreign or cut: not dialled before BarredTo
	BarredTo  time.Time
	LastError string
}

// from is who told of a peer.
func (e *entry) from() string {
	if len(e.tellers) == 0 {
		return ""
	}
	return e.tellers[0].from
}

// Known returns what is known of a peer.
func (m *Manager) Known(id peer.ID) (Peer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.known[id]
	if e == nil {
		return Peer{}, false
	}
	p := Peer{
		Info: peer.AddrInfo{ID: id}, Source: e.source, From: e.from(), Shards: e.shards, Services: e.services,
		Seq: e.seq, Connected: e.connected(), Alive: e.alive, RTT: e.rtt, Reached: e.reached,
		Failures: e.failures, Barred: e.barred.String(), LastError: e.lastErr,
	}
	if p.Connected {
		p.Inbound, p.Proven, p.Since = e.inbound, e.proven, e.since
	}
	if e.barred != notBarred {
		p.BarredTo = e.barUntil
	}
	if ready := m.ready(e); ready.After(m.now) && m.mayReach(e) && !p.Connected {
		p.NextTry = ready
	}
	if e.good != nil {
		p.Info.Addrs = append(p.Info.Addrs, e.good.ma)
	}
	for _, a := range e.addrs {
		if e.good == nil || !e.good.ma.Equal(a.ma) {
			p.Info.Addrs = append(p.Info.Addrs, a.ma)
		}
	}
	return p, true
}

// Stats is the manager's state in numbers.
type Stats struct {
	Known    int
	BySource map[Source]int
	Inbound  int
	Outbound int
	Dialling int
	Resting  int // not connected, and not to be dialled now
	Barred   int // dead, foreign or cut
	Foreign  int // of these, of another network
	Failing  int // not connected, and not reached when last dialled
	Shards   map[sharding.Shard]ShardStats
	// Refused counts sightings by why they were refused.
	Refused map[string]uint64
	// Dialled, Reached and Failed count dials, Dropped connections ended by a
	// Plan, Forgotten peers that made room for others.
	Dialled, Reached, Failed, Dropped, Forgotten uint64
	// Ambiguous counts records with both lists of shards, rs and rsv.
	Ambiguous uint64
}

// ShardStats counts peers of a shard that something is needed for.
type ShardStats struct {
	Known     int
	Connected int
	Outbound  int
}

// Stats returns the state in numbers.
func (m *Manager) Stats(now time.Time) Stats {
	m.enter(now)
	defer m.mu.Unlock()
	st := Stats{
		Known: len(m.all.items), BySource: map[Source]int{}, Dialling: len(m.dials.items),
		Shards: map[sharding.Shard]ShardStats{}, Refused: map[string]uint64{},
		Dialled: m.counts.dialled, Reached: m.counts.reached, Failed: m.counts.failed,
		Dropped: m.counts.dropped, Forgotten: m.counts.forgotten,
		Ambiguous: m.counts.ambiguous,
	}
	for why, n := range m.refused {
		st.Refused[why] = n
	}
	for i := range m.needs {
		st.Shards[m.needs[i].Shard] = ShardStats{}
	}
	for _, e := range m.all.items {
		st.BySource[e.source]++
		if e.barred == foreign {
			st.Foreign++
		}
		if !e.connected() && e.failures > 0 {
			st.Failing++
		}
		switch {
		case e.connected() && e.inbound:
			st.Inbound++
		case e.connected():
			st.Outbound++
		case e.barred != notBarred:
			st.Barred++
		case m.ready(e).After(m.now):
			st.Resting++
		}
	}
	for shard, n := range st.Shards {
		for _, e := range m.all.items {
			if !e.shards.Contains(shard) {
				continue
			}
			n.Known++
			if e.connected() && e.proven {
				n.Connected++
				if !e.inbound {
					n.Outbound++
				}
			}
		}
		st.Shards[shard] = n
	}
	return st
}
