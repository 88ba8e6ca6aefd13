package waku

import "time"

// moment is a time by two clocks: the system's monotonic one, and the node's. The
// first stands while the machine sleeps, the second may be set.
type moment struct{ mono, wall time.Time }

func (n *Node) moment() moment { return moment{time.Now(), n.cfg.now().Round(0)} }

// before is a moment so long before.
func (m moment) before(d time.Duration) moment { return moment{m.mono.Add(-d), m.wall.Add(-d)} }

// momentOf is a past moment by what the monotonic clock said.
func (n *Node) momentOf(mono time.Time) moment {
	return moment{mono, n.cfg.now().Add(-time.Since(mono)).Round(0)}
}

// momentAt is a past moment by what the node's clock said, as in an earlier run.
func (n *Node) momentAt(wall time.Time) moment {
	return moment{time.Now().Add(-n.cfg.now().Sub(wall)), wall.Round(0)}
}

// earliest is when a moment was at the earliest, by the node's clock now.
func (n *Node) earliest(m moment) time.Time {
	if t := n.cfg.now().Add(-time.Since(m.mono)); t.Before(m.wall) {
		return t
	}
	return m.wall
}

// latest is when a moment was at the latest, by the node's clock now.
func (n *Node) latest(m moment) time.Time {
	if t := n.cfg.now().Add(-time.Since(m.mono)); t.After(m.wall) {
		return t
	}
	return m.wall
}
