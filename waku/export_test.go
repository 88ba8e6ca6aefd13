package waku

import (
	"time"

	"github.com/status-im/shoal/relay"
)

// NodeOf is the node that a membership belongs to.
func NodeOf(m *Membership) *Node { return m.shard.node }

// RelayOf is the node's relay.
func RelayOf(n *Node) *relay.Relay { return n.relay }

// ClockWatch is a node's judgement of its clock.
type ClockWatch struct{ *clockWatch }

// ClockOf lets tests bear witness.
func ClockOf(n *Node) ClockWatch { return ClockWatch{n.clock} }

// Outside is a signed message outside the window.
func (w ClockWatch) Outside(offset time.Duration, from string) { w.outside(offset, from) }
