package waku

import "time"

// moment is a time by two clocks: the system's monotonic one, and the node's. The
// first stands while the machine sleeps, the second may be set: jumps is how often it had
// been.
type moment struct {
	mono, wall time.Time
	jumps      int
}

func (n *Node) moment() moment {
	return moment{time.Now(), n.cfg.now().Round(0), n.clock.jumpCount()}
}

// before is a moment so long before.
func (m moment) before(d time.Duration) moment {
	m.mono, m.wall = m.mono.Add(-d), m.wall.Add(-d)
	return m
}

// momentOf is a past moment by what the monotonic clock said.
func (n *Node) momentOf(mono time.Time) moment {
	now := n.moment()
	return now.before(now.mono.Sub(mono))
}

// momentAt is a past moment by what the node's clock said, as in an earlier run.
func (n *Node) momentAt(wall time.Time) moment {
	now := n.moment()
	return now.before(now.wall.Sub(wall))
}

// earliest is when a moment was at the earliest, by the node's clock now. One that was
// ahead then and has been set right makes it earlier than it said.
func (n *Node) earliest(m moment) time.Time {
	wall := m.wall.Add(-n.clock.ahead(m.jumps))
	if t := n.cfg.now().Add(-time.Since(m.mono)); t.Before(wall) {
		return t
	}
	return wall
}

// latest is when a moment was at the latest, by the node's clock now.
func (n *Node) latest(m moment) time.Time {
	if t := n.cfg.now().Add(-time.Since(m.mono)); t.After(m.wall) {
		return t
	}
	return m.wall
}
