// Package model is the published analysis of Waku's scaling as code, every assumption
// a parameter, and what measuring taught beyond it.
//
// The analysis (vacp2p/research, waku_scalability) counts what an active node receives
// in an hour, in megabytes of 10^6 bytes; a relay sends as much as it receives. It was
// published in 2023, where gossip was counted once for each copy of a message, and
// corrected in 2025, where it is counted once for each message. [Params.Table] is its
// table. [Shard] is ours: what a member sends and receives, by the degree that the mesh
// settles at, the bytes as they are on the wire, and the profile's gossip.
package model

import (
	"fmt"
	"math"
)

// Params are the analysis's assumptions. Sizes are in megabytes of 10^6 bytes, as
// there.
type Params struct {
	MessageSize     float64 // A01
	MessagesPerHour float64 // A02: a node's
	Degree          float64 // A03: of a regular mesh; even

	GossipSize    float64 // A32: of an IHAVE or IWANT for one message
	DLazy         float64 // peers that are told of a message each time
	HistoryGossip float64 // times they are told
	ReplyRatio    float64 // A33: IHAVEs that are answered with an IWANT

	BigSize, SmallSize float64 // A37: those that are called off, and others
	BigShare           float64 // A35
	TooLate            float64 // A36: share of copies that calling off doesn't stop
	DontWantSize       float64 // A34

	NodesPerShard float64 // A09
	ShardsPerNode float64 // A10
	HopDelay      float64 // A42: seconds
}

// Published returns the values of the analysis.
func Published() Params {
	return Params{
		MessageSize: 0.002, MessagesPerHour: 5, Degree: 6,
		GossipSize: 0.00005, DLazy: 6, HistoryGossip: 3, ReplyRatio: 0.01,
		BigSize: 0.006, SmallSize: 0.001, BigShare: 0.2, TooLate: 0.6, DontWantSize: 0.00005,
		NodesPerShard: 10000, ShardsPerNode: 3, HopDelay: 0.1,
	}
}

// Load is what a node receives in an hour when so many are active, in megabytes.
type Load func(nodes float64) float64

// Unique is case 1: every message once. It is what a store takes, or a light node that
// asks for everything.
func (p Params) Unique(nodes float64) float64 { return p.MessageSize * p.MessagesPerHour * nodes }

// OncePerLink is case 2: a message passes each link of the mesh once (A05).
func (p Params) OncePerLink(nodes float64) float64 {
	return p.MessageSize * p.MessagesPerHour * (nodes * (p.Degree / 2))
}

// Flood is case 3: everybody sends a message on to all but one of his neighbours (A06).
func (p Params) Flood(nodes float64) float64 {
	return p.MessageSize * p.MessagesPerHour * (nodes*(p.Degree-1) + 1)
}

// Flood2023 is case 3 as first published.
func (p Params) Flood2023(nodes float64) float64 {
	return p.MessageSize * p.MessagesPerHour * nodes * (p.Degree - 1)
}

// Gossip is case 4: case 3 with IHAVE, and messages asked for by IWANT.
func (p Params) Gossip(nodes float64) float64 {
	received := p.MessagesPerHour * (nodes*(p.Degree-1) + 1)
	offers := p.MessagesPerHour * nodes * p.DLazy * p.HistoryGossip
	return p.MessageSize*received + (offers*p.GossipSize + offers*p.MessageSize*p.ReplyRatio)
}

// Gossip2023 is case 4 as first published, with offers for every copy: the origin of
// "4 Mbit/s".
func (p Params) Gossip2023(nodes float64) float64 {
	received := p.MessagesPerHour * nodes * (p.Degree - 1)
	offers := received * p.DLazy * p.HistoryGossip
	return p.MessageSize*received + (offers*p.GossipSize + (offers*(p.GossipSize+p.MessageSize))*p.ReplyRatio)
}

// CalledOff is case 5: case 3 with IDONTWANT for big messages.
func (p Params) CalledOff(nodes float64) float64 {
	relayed := (p.Degree - 1) / p.Degree
	small := p.MessagesPerHour * p.Degree * (1 - p.BigShare) * relayed
	big := p.MessagesPerHour * p.Degree * p.BigShare * relayed
	first := big / p.Degree
	after := big * (1 - 1/p.Degree) * p.TooLate
	return nodes*(p.BigSize*(first+after)+p.SmallSize*small) + nodes*first*p.DontWantSize
}

// inShards is the load of a node that is in several shards, which fill evenly (A11).
func (p Params) inShards(one Load, nodes float64) float64 {
	return p.ShardsPerNode * one(min(nodes/p.ShardsPerNode, p.NodesPerShard))
}

// Shards2023 is sharding case 1, of case 4 as first published.
func (p Params) Shards2023(nodes float64) float64 { return p.inShards(p.Gossip2023, nodes) }

// Chat2023 is sharding case 2: with a shard for chats of two, filled to the brim first
// (A12, A14).
func (p Params) Chat2023(nodes float64) float64 {
	return p.Shards2023(nodes) + p.Gossip2023(min(nodes, p.NodesPerShard))
}

// Shards is sharding case 1 as corrected.
func (p Params) Shards(nodes float64) float64 { return p.inShards(p.Gossip, nodes) }

// Chat is sharding case 2 as corrected.
func (p Params) Chat(nodes float64) float64 {
	return p.Shards(nodes) + p.Gossip(min(nodes, p.NodesPerShard))
}

// LightShards is sharding case 3: a light node that asks for everything.
func (p Params) LightShards(nodes float64) float64 { return p.inShards(p.Unique, nodes) }

// Latency is an upper bound of the mean time to everybody, in seconds (A41).
func (p Params) Latency(nodes float64) float64 {
	return math.Log(nodes) / math.Log(p.Degree) * p.HopDelay
}

// Row is one case of the table.
type Row struct {
	Name string
	Load Load // nil: a latency
	// Cells are what the analysis printed for 100, 10,000 and 1,000,000 nodes.
	Cells [3]string
}

// Sizes are the table's columns.
var Sizes = [3]float64{100, 10_000, 1_000_000}

// Table is the analysis's, computed: received megabytes an hour, and seconds.
func (p Params) Table() []Row {
	rows := []Row{
		{Name: "case 1: unique", Load: p.Unique},
		{Name: "case 2: once per link", Load: p.OncePerLink},
		{Name: "case 3: flood (2023)", Load: p.Flood2023},
		{Name: "case 4: with gossip (2023)", Load: p.Gossip2023},
		{Name: "sharding case 1 (2023)", Load: p.Shards2023},
		{Name: "sharding case 2: and chat (2023)", Load: p.Chat2023},
		{Name: "sharding case 3: light", Load: p.LightShards},
		{Name: "case 3: flood (2025)", Load: p.Flood},
		{Name: "case 4: with gossip (2025)", Load: p.Gossip},
		{Name: "case 5: called off (2025)", Load: p.CalledOff},
		{Name: "latency case 1"},
	}
	for i := range rows {
		for k, nodes := range Sizes {
			if rows[i].Load == nil {
				rows[i].Cells[k] = fmt.Sprintf("%.3f", p.Latency(nodes))
			} else {
				rows[i].Cells[k] = fmt.Sprintf("%.1f", rows[i].Load(nodes))
			}
		}
	}
	return rows
}

// Mbit turns megabytes received in an hour into Mbit/s received and sent.
func Mbit(megabytes float64) float64 { return 2 * megabytes * 8 / 3600 }
