package peers

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/sharding"
)

const (
	// DialTimeout is how long a dial may take. One that isn't answered by then
	// counts as failed.
	DialTimeout = time.Minute
	// stableAfter is how long a connection must have stood to count as a success.
	stableAfter = 30 * time.Second
	// maxFailures in a row make a stranger dead, for deadFor.
	maxFailures = 8
	deadFor     = 2 * time.Hour
	foreignFor  = 6 * time.Hour
	// droppedFor is how long a peer rests that this node has parted from, and
	// lostFor one whose connection was lost after it had stood.
	droppedFor = 10 * time.Minute
	lostFor    = 2 * time.Second
	// The rest after the n-th failure is firstRest·2ⁿ⁻¹, at most longestRest, or
	// staticRest for static peers. While there is no connection at all it doesn't
	// grow beyond the third one's.
	firstRest   = 5 * time.Second
	longestRest = time.Hour
	staticRest  = 2 * time.Minute
	// The same for addresses.
	firstHostRest    = 2 * time.Second
	longestHostRest  = 2 * time.Minute
	isolatedHostRest = 30 * time.Second
	// longestCircuitRest is for a relay, as far as those behind it are concerned.
	longestCircuitRest = 8 * time.Second

	maxCuts  = 1024
	maxID    = 64  // bytes
	maxError = 200 // bytes
)

// about returns d, give or take a quarter.
func (m *Manager) about(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(m.rand.Int64N(int64(d/2)+1))
}

func (m *Manager) rest(first, longest time.Duration, failures int) time.Duration {
	return m.about(min(longest, first<<min(max(failures-1, 0), 20)))
}

// Connected takes note of a connection, its address as seen from here, and which
// side made it. A peer with connections of both kinds counts as dialled.
func (m *Manager) Connected(now time.Time, id peer.ID, at ma.Multiaddr, inbound bool) {
	m.enter(now)
	defer m.mu.Unlock()
	e := m.known[id]
	if e == nil {
		if len(m.all.items) >= m.cfg.MaxKnown {
			m.squeeze(&m.all, worthAll)
		}
		e = m.newEntry(id, Inbound)
		m.insert(e, teller{source: Inbound})
	}
	x, located := locate(at, id)
	x.local = x.local || !located
	m.dials.remove(e)
	m.pace.streak = 0
	if !e.connected() {
		m.conns.add(e)
		e.inbound, e.proven, e.since, e.rtt, e.dropped = inbound, false, m.now, 0, time.Time{}
		e.at = x
	}
	e.alive = m.now
	if inbound {
		return
	}
	e.inbound = false
	m.counts.reached++
	if !located {
		return
	}
	e.at = x
	if h := m.hosts[x.host]; h != nil {
		h.failures, h.until = 0, time.Time{}
	}
	if !x.local || m.mayBeLocal(e.source) {
		e.good = x
	}
}

// Borrowed takes note that the address of a peer's connection serves that connection
// alone, such as one that a hole was punched for: nobody is dialled there.
func (m *Manager) Borrowed(now time.Time, id peer.ID) {
	m.enter(now)
	defer m.mu.Unlock()
	if e := m.known[id]; e != nil {
		e.good = nil
	}
}

// Proven takes note that a connected peer belongs to the network, which shards it
// says it carries (none: it doesn't say) and which services it has. It is for the
// first time and whenever any of these change. A peer that is cut proves nothing.
func (m *Manager) Proven(now time.Time, id peer.ID, shards sharding.Set, services Service) {
	m.enter(now)
	defer m.mu.Unlock()
	e := m.known[id]
	if e == nil || !e.connected() || e.barred == cut && m.now.Before(e.barUntil) {
		return
	}
	if shards.Cluster() != m.cfg.Cluster {
		shards = sharding.Set{}
	}
	e.carry(shards)
	e.proven, e.services, e.alive = true, services, m.now
	e.barred = notBarred
	if !e.inbound {
		e.reached = m.now
	}
	m.confirm(e)
}

// Listens takes note of where a connected peer that came by itself says it listens.
// Only addresses of the host that it came from count: no stranger sends this node
// elsewhere. They serve the next run, see [Manager.Snapshot]; now it is connected.
func (m *Manager) Listens(now time.Time, id peer.ID, at []ma.Multiaddr) {
	m.enter(now)
	defer m.mu.Unlock()
	e := m.known[id]
	if e == nil || !e.connected() || !e.inbound || e.at == nil {
		return
	}
	e.says = nil
	for _, a := range m.dialable(&Sighting{Info: peer.AddrInfo{ID: id, Addrs: at}, Source: Inbound}) {
		if a.host == e.at.host && len(e.says) < maxAddrs {
			e.says = append(e.says, a)
		}
	}
}

// confirm notes that a record is right if it says what this node dialled.
func (m *Manager) confirm(e *entry) {
	if e.connected() && e.proven && !e.inbound && slices.ContainsFunc(e.addrs, func(a *addr) bool {
		return a.host == e.at.host || a.named // resolved by the dialler
	}) {
		e.answers = m.now
	}
}

// Alive takes note that a connected peer has answered, after rtt (0: unknown).
func (m *Manager) Alive(now time.Time, id peer.ID, rtt time.Duration) {
	m.enter(now)
	defer m.mu.Unlock()
	e := m.known[id]
	if e == nil || !e.connected() {
		return
	}
	e.alive = m.now
	if rtt > 0 && e.rtt > 0 {
		rtt = (3*e.rtt + rtt) / 4
	}
	if rtt > 0 {
		e.rtt = rtt
	}
}

// Reachable takes note that a peer was reached at an address of its record by other
// means than a dial of a Plan, say by asking it over discv5. Those that have made
// the connection themselves are handed to others by Sample only after that.
func (m *Manager) Reachable(now time.Time, id peer.ID) {
	m.enter(now)
	defer m.mu.Unlock()
	if e := m.known[id]; e != nil {
		e.answers = m.now
	}
}

// Lost takes note that the last connection with a peer is gone.
func (m *Manager) Lost(now time.Time, id peer.ID) {
	m.enter(now)
	defer m.mu.Unlock()
	e := m.known[id]
	if e == nil || !e.connected() {
		return
	}
	m.conns.remove(e)
	stood := m.now.Sub(e.since) >= stableAfter
	switch {
	case !e.dropped.IsZero():
		m.restUntil(e, m.about(droppedFor))
	case !e.inbound && !stood: // it took the connection only to end it
		e.failures = min(e.failures+1, maxFailures-1)
		m.restUntil(e, m.rest(firstRest, longestRest, e.failures))
	default:
		if !e.inbound {
			e.failures = 0
		}
		m.restUntil(e, m.about(lostFor))
	}
	e.proven, e.dropped = false, time.Time{}
	if len(e.addrs) == 0 && e.good == nil && e.barred == notBarred {
		m.forget(e)
	}
}

func (m *Manager) restUntil(e *entry, d time.Duration) {
	if until := m.now.Add(d); until.After(e.until) {
		e.until = until
	}
}

// Failed takes note that a dial led to no connection. One that was called off
// (context.Canceled) is nobody's fault.
func (m *Manager) Failed(now time.Time, id peer.ID, err error) {
	m.enter(now)
	defer m.mu.Unlock()
	if e := m.known[id]; e != nil && !e.connected() {
		m.failed(e, err)
	}
}

func (m *Manager) failed(e *entry, err error) {
	m.dials.remove(e)
	if errors.Is(err, context.Canceled) {
		m.restUntil(e, time.Second)
		return
	}
	if err != nil {
		e.lastErr = err.Error()
		e.lastErr = e.lastErr[:min(len(e.lastErr), maxError)]
	}
	m.counts.failed++
	m.pace.streak++
	e.failures++
	longest, longestHost := longestRest, longestHostRest
	if e.source == Static {
		longest = staticRest
	}
	if len(m.conns.items) == 0 { // that proves little
		e.failures = min(e.failures, triesForMore-1)
		longestHost = isolatedHostRest
	}
	m.restUntil(e, m.rest(firstRest, longest, e.failures))
	if e.failures >= 3 && len(e.addrs) > 0 {
		e.good = nil
	}
	if e.reached.IsZero() {
		for _, a := range e.addrs {
			if h := m.hosts[a.host]; h != nil && !a.local {
				h.failures++
				longest := longestHost
				if a.circuit { // more likely it is who lives behind it
					longest = longestCircuitRest
				}
				h.until = m.now.Add(m.rest(firstHostRest, longest, h.failures))
			}
		}
	}
	if e.failures < maxFailures {
		return
	}
	switch {
	case e.source <= DNS: // who trees and operators name is tried for ever
	default:
		m.bar(e, dead, m.now.Add(deadFor))
	}
}

// Foreign takes note that a peer doesn't belong to the network.
func (m *Manager) Foreign(now time.Time, id peer.ID, reason string) {
	m.enter(now)
	defer m.mu.Unlock()
	if e := m.known[id]; e != nil {
		e.lastErr = reason[:min(len(reason), maxError)]
		m.bar(e, foreign, m.now.Add(foreignFor))
	}
}

// Cut takes note that a peer misbehaved and is refused until then.
func (m *Manager) Cut(now time.Time, id peer.ID, until time.Time) {
	m.enter(now)
	defer m.mu.Unlock()
	m.remember(id, until)
	if e := m.known[id]; e != nil {
		m.bar(e, cut, until)
	}
}

// remember notes a cut, in place of another's if there are many.
func (m *Manager) remember(id peer.ID, until time.Time) {
	_, again := m.cuts[id]
	switch {
	case again:
	case len(m.cutIDs) < maxCuts:
		m.cutIDs = append(m.cutIDs, id)
	default:
		i := m.rand.IntN(maxCuts)
		delete(m.cuts, m.cutIDs[i])
		m.cutIDs[i] = id
	}
	m.cuts[id] = until
}

func (m *Manager) bar(e *entry, why bar, until time.Time) {
	if why < e.barred && m.now.Before(e.barUntil) {
		return
	}
	m.dials.remove(e)
	if why == e.barred && e.barUntil.After(until) {
		until = e.barUntil
	}
	e.barred, e.barUntil, e.proven = why, until, false
	e.reached, e.answers = time.Time{}, time.Time{}
}
