package relay

import (
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
)

// Profile is a set of GossipSub parameters (29/WAKU2-CONFIG). All profiles
// speak the same wire and mix in one mesh. Start from Default or Fleet and
// change fields.
type Profile struct {
	// Name labels the profile in logs.
	Name string
	// D is the mesh degree aimed for; below DLow peers are grafted, at DHigh
	// they are pruned, keeping the DScore best and at least DOut that this
	// node dialled. DOut must be less than DLow and less than D/2 (whole
	// numbers).
	D, DLow, DHigh, DScore, DOut int
	// DLazy is the least number of peers gossiped to at each heartbeat.
	DLazy int
	// GossipFactor is the share of non-mesh peers gossiped to, if that is more
	// than DLazy.
	GossipFactor float64
	// HistoryLength and HistoryGossip count heartbeats: how long messages are
	// kept for IWANT, and how far back IHAVE reaches.
	HistoryLength, HistoryGossip int
	// Heartbeat is the time between two rounds of mesh upkeep.
	Heartbeat time.Duration
	// FloodPublish sends own messages to every peer of the shard rather than
	// to the mesh alone.
	FloodPublish bool
	// IDontWantSize is the size in bytes from which a message is called off
	// at the other mesh peers as soon as it arrived.
	IDontWantSize int
	// ForwardDelay is how long a message of IDontWantSize or more is kept after it
	// was delivered here and before it goes on, so that peers who have it by then
	// can call it off. Own messages are never kept, nor young ones: see EagerShare.
	ForwardDelay time.Duration
	// EagerShare is the share of messages that go on at once all the same: those
	// that were youngest when they came, by their authors' clocks. In the first
	// hops there is much time to win and little to save; most copies are made in
	// the last ones. 0 to 1.
	EagerShare float64
	// KeepSilent leaves peers in the mesh that never bring a message. It is for
	// nodes that are there to serve others.
	KeepSilent bool
}

// Classic is what go-waku and nwaku nodes run with: D 6 (4–8), flood publish.
func Classic() Profile {
	return Profile{
		Name: "classic",
		D:    6, DLow: 4, DHigh: 8, DScore: 4, DOut: 2,
		DLazy: 6, GossipFactor: 0.25,
		HistoryLength: 6, HistoryGossip: 3,
		Heartbeat:     time.Second,
		FloodPublish:  true,
		IDontWantSize: 1024,
	}
}

// Default is Classic at less than half the price, chosen by measurement
// (docs/scale.md). Copies cost, and how many come is decided by the degree that a mesh
// settles at: here 3 to 4, with one link at least that this node dialled. What is lost
// in breadth, gossip makes good. Old enough messages wait for a moment, so that peers
// who have them can say so.
func Default() Profile {
	p := Classic()
	p.Name = "default"
	p.D, p.DLow, p.DHigh, p.DScore, p.DOut = 4, 2, 4, 3, 1
	p.DLazy, p.HistoryLength, p.HistoryGossip = 5, 5, 2
	p.ForwardDelay, p.EagerShare = 150*time.Millisecond, 0.3
	return p
}

// LowBandwidth is for those who pay by the megabyte and have a second to spare: a mesh
// of 2 to 3 and longer waits. GossipSub then has no room to keep links for peers that
// this node dialled (DOut).
func LowBandwidth() Profile {
	p := Default()
	p.Name = "low-bandwidth"
	p.D, p.DLow, p.DHigh, p.DScore, p.DOut = 3, 2, 4, 2, 0
	p.DLazy, p.HistoryGossip = 4, 1
	p.ForwardDelay, p.EagerShare = 250*time.Millisecond, 0.2
	return p
}

// FleetAssisted is for members with connections to three or more fleet nodes that run
// FleetServing and carry the upload. One or two of them are its mesh, the others offer
// each heartbeat what they have.
func FleetAssisted() Profile {
	p := Default()
	p.Name = "fleet-assisted"
	p.D, p.DLow, p.DHigh, p.DScore, p.DOut = 2, 1, 3, 2, 0
	p.DLazy = 3
	p.ForwardDelay, p.EagerShare = 300*time.Millisecond, 0
	return p
}

// FleetServing is Fleet(24) for nodes behind which so many members run FleetAssisted: it
// takes them all into its mesh, and offers what it has to those who are in another's.
func FleetServing(members int) Profile {
	p := Fleet(24)
	p.Name = fmt.Sprintf("serving-%d", members)
	p.DLow, p.DOut, p.DHigh = 8, 4, p.DHigh+2*max(0, members)
	p.GossipFactor = 1
	return p
}

// Fleet is for infrastructure nodes, which take a larger share of the mesh than
// members do: degree d (at least 6), between two thirds and four thirds
// of it. It keeps silent peers: members behind it have nothing new to bring.
func Fleet(d int) Profile {
	p := Classic()
	p.Name = fmt.Sprintf("fleet-%d", d)
	p.D, p.DLow, p.DHigh = d, d*2/3, d+(d+2)/3
	p.DScore = d * 2 / 3
	p.DOut = min(d/2-1, d/4)
	p.KeepSilent = true
	return p
}

// maxForwardDelay keeps a delay below the heartbeat, after which gossip would go round it.
const maxForwardDelay = 500 * time.Millisecond

func (p Profile) validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("relay: profile %q: %s", p.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case p.D < 1:
		return fail("D is %d, want at least 1", p.D)
	case p.DLow < 1 || p.DLow > p.D || p.D > p.DHigh:
		return fail("want 1 <= DLow <= D <= DHigh, have %d, %d, %d", p.DLow, p.D, p.DHigh)
	case p.DScore < 0 || p.DScore > p.D:
		return fail("DScore is %d, want 0 to D (%d)", p.DScore, p.D)
	case p.DOut < 0 || p.DOut >= p.DLow || p.DOut >= p.D/2:
		return fail("DOut is %d, want less than DLow (%d) and less than D/2 (%d)", p.DOut, p.DLow, p.D/2)
	case p.DLazy < 0 || p.GossipFactor < 0 || p.GossipFactor > 1:
		return fail("want DLazy >= 0 and GossipFactor from 0 to 1, have %d and %g", p.DLazy, p.GossipFactor)
	case p.HistoryGossip < 1 || p.HistoryGossip > p.HistoryLength:
		return fail("want 1 <= HistoryGossip <= HistoryLength, have %d, %d", p.HistoryGossip, p.HistoryLength)
	case p.Heartbeat <= 0:
		return fail("Heartbeat is %v, want a positive duration", p.Heartbeat)
	case p.IDontWantSize < 1:
		return fail("IDontWantSize is %d, want at least 1 byte", p.IDontWantSize)
	case p.ForwardDelay < 0 || p.ForwardDelay > maxForwardDelay:
		return fail("ForwardDelay is %v, want 0 to %v", p.ForwardDelay, maxForwardDelay)
	case p.EagerShare < 0 || p.EagerShare > 1:
		return fail("EagerShare is %g, want 0 to 1", p.EagerShare)
	}
	return nil
}

func (p Profile) params() pubsub.GossipSubParams {
	g := pubsub.DefaultGossipSubParams()
	g.D, g.Dlo, g.Dhi, g.Dscore, g.Dout = p.D, p.DLow, p.DHigh, p.DScore, p.DOut
	g.Dlazy, g.GossipFactor = p.DLazy, p.GossipFactor
	g.HistoryLength, g.HistoryGossip = p.HistoryLength, p.HistoryGossip
	g.HeartbeatInterval = p.Heartbeat
	g.IDontWantMessageThreshold = p.IDontWantSize
	g.UnsubscribeBackoff = 5 * time.Second
	// No peer exchange on PRUNE is sent or followed, and no direct peers are
	// configured: nothing for connectors to do.
	g.Connectors = 0
	g.SlowHeartbeatWarning = 0
	return g
}
