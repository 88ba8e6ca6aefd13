package model

import "math"

// Shard is what a member pays, as measured: the analysis's case 4 and 5 with the bytes
// as they are on the wire.
type Shard struct {
	// Rate is the shard's messages a second, Size an encoded message's bytes.
	Rate, Size float64
	// Degree is what the mesh settles at, which isn't the D aimed for: peers are
	// grafted up to DHigh-1 and only pruned from DHigh on.
	Degree float64
	// DLazy and HistoryGossip are the profile's. A heartbeat is a second.
	DLazy, HistoryGossip float64
	// CallOff says that messages are called off (IDONTWANT), and Stopped which
	// share of the copies after the first that stops: next to none without a
	// forward delay, about half with one of a link's latency.
	CallOff bool
	Stopped float64
	// FleetShare is the share of a member's links that end at fleet nodes, who
	// send and are seldom sent anything.
	FleetShare float64
	// Asked is the share of messages that come by IWANT.
	Asked float64
	// Cost is what a write of so many bytes costs on the wire, those bytes and
	// acknowledgements included. Nil: TCPCost.
	Cost func(bytes float64) float64
}

const (
	// A publish entry on a static shard: data's tag and length, the topic (a tag,
	// a length and some 18 bytes), and the entry's own tag and length; then the
	// frame's length.
	publishFrame = 3 + 20 + 3 + 2
	// An id in an IHAVE or IWANT is 32 bytes, its tag and its length.
	idSize = 34
	// What is around the ids of an IHAVE: the topic, three tags and lengths.
	ihaveFrame = 20 + 2 + 3 + 3
	dontWant   = idSize + 2 + 2 + 1
)

// TCPCost is a write in a yamux frame of 12 bytes, encrypted with 18 more, in packets of
// 1448 bytes with headers of 52, every second of them acknowledged.
func TCPCost(bytes float64) float64 {
	framed := bytes + 30
	packets := math.Ceil(framed / 1448)
	return framed + 52*packets + 52*math.Ceil(packets/2)
}

// Cost is what a member sends and receives, in Mbit/s.
type Cost struct{ Payload, Gossip, CalledOff float64 }

// Sum is everything.
func (c Cost) Sum() float64 { return c.Payload + c.Gossip + c.CalledOff }

// Copies is how often a member receives each message.
func (s Shard) Copies() float64 {
	return 1 + max(0, s.Degree-2)*(1-s.Stopped) + s.Asked
}

// Member is what a member pays.
func (s Shard) Member() (c Cost) {
	cost := s.Cost
	if cost == nil {
		cost = TCPCost
	}
	mbit := func(bytes float64) float64 { return bytes * 8 / 1e6 }
	// What is received is sent by somebody, the fleet's part by the fleet.
	both := 2 - s.FleetShare
	c.Payload = mbit(both * s.Rate * s.Copies() * cost(s.Size+publishFrame))
	// Each heartbeat, whoever has news offers them to DLazy peers, and is offered as
	// much. One RPC holds all ids.
	ids := s.Rate * s.HistoryGossip
	if ids > 0 {
		c.Gossip = mbit(2 * s.DLazy * min(1, ids) * cost(ids/min(1, ids)*idSize+ihaveFrame))
	}
	c.Gossip += mbit(2 * s.Rate * s.Asked * cost(idSize+6))
	if s.CallOff {
		c.CalledOff = mbit(2 * s.Rate * max(0, s.Degree-1) * cost(dontWant))
	}
	return c
}

// Floor is the least that a message to all can cost a member: received once and, where
// all peers are equal, sent once.
func (s Shard) Floor(equals bool) float64 {
	cost := s.Cost
	if cost == nil {
		cost = TCPCost
	}
	times := 1.0
	if equals {
		times = 2
	}
	return times * s.Rate * cost(s.Size+publishFrame) * 8 / 1e6
}
