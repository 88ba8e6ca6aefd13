package waku

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

// Unfilled has a node read no gap back, and saves nothing of what is missing.
func Unfilled() Option { return func(c *config) { c.unfilled = true } }

// NodeOf is the node that a membership belongs to.
func NodeOf(m *Membership) *Node { return m.shard.node }

// RelayOf is the node's relay.
func RelayOf(n *Node) *relay.Relay { return n.relay }

// SeeAnew ends a connection as a node does that dials a relayer anew.
func SeeAnew(n *Node, p peer.ID) { n.drop(p, errSeenAnew.Error()) }

// ClockWatch is a node's judgement of its clock.
type ClockWatch struct{ *clockWatch }

// ClockOf lets tests bear witness.
func ClockOf(n *Node) ClockWatch { return ClockWatch{n.clock} }

// Outside is a signed message outside the window.
func (w ClockWatch) Outside(offset time.Duration, from string) { w.outside(offset, from) }

// Tick does a round of keep-alive as if the last one was so long ago.
func Tick(n *Node, ago time.Duration) {
	k := &keeper{node: n, last: time.Now().Add(-ago)}
	k.tick(n.tasks.ctx, time.Now())
}

// NewResources is what a node's host is bounded by, NewServiceResources that of one
// with a filter service.
func NewResources(t testing.TB, conns, perIP int) network.ResourceManager {
	return resourcesOf(t, &config{maxConns: conns, maxConnsPerIP: perIP})
}

func NewServiceResources(t testing.TB, conns int) network.ResourceManager {
	return resourcesOf(t, &config{maxConns: conns, maxConnsPerIP: conns, filterService: new(filter.ServerConfig)})
}

func resourcesOf(t testing.TB, c *config) network.ResourceManager {
	m, err := newResources(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Gater is what refuses peers that were cut.
type Gater struct{ *gater }

// NewGater returns one without a node.
func NewGater() Gater { return Gater{newGater()} }

// Cut refuses p for ten minutes.
func (g Gater) Cut(p peer.ID) { g.cut(p, "test") }

// Len is the number of peers in the book.
func (g Gater) Len() int { return len(g.cuts) }

// HostOf is the node's host.
func HostOf(n *Node) host.Host { return n.host }

// Mute makes a node's filter service push nothing more.
func Mute(n *Node) {
	for _, s := range n.shards.all() {
		s.mu.Lock()
		s.endFilter()
		s.mu.Unlock()
	}
}

// PushForged has a node's filter service push what nobody signed.
func PushForged(n *Node, s sharding.Shard, contentTopic string, payload []byte) {
	n.filterServer.Push(s.PubsubTopic(), &message.Message{
		ContentTopic: contentTopic, Payload: payload, Timestamp: time.Now().UnixNano(), Meta: make([]byte, 64),
	})
}

// PushAgain has a node's filter service push a message, be it again.
func PushAgain(n *Node, s sharding.Shard, m *message.Message) {
	n.filterServer.Push(s.PubsubTopic(), m)
}

// DelayFilter has a node's filter service push late from now on.
func DelayFilter(n *Node, late time.Duration) {
	for _, s := range n.shards.joined() {
		sub, err := n.relay.Subscribe(s.shard, relay.SubscribeConfig{Passive: true, Service: true})
		if err != nil {
			panic(err)
		}
		s.mu.Lock()
		s.endFilter()
		s.feed = &filterFeed{sub}
		s.mu.Unlock()
		n.tasks.start(func(ctx context.Context) {
			for env, err := range sub.All(ctx) {
				if err != nil {
					return
				}
				pause(ctx, late-time.Since(env.ReceivedAt), nil)
				n.filterServer.Push(s.topic, env.Message)
			}
		})
	}
}

// HoldsOf is how many memberships hold a shard's mesh.
func HoldsOf(n *Node, id sharding.Shard) int {
	s := n.shards.get(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds
}

// FoundByDiscv5 has a node find what a walk has come across.
func FoundByDiscv5(n *Node, raw []byte) {
	d := n.discovery
	switch r, err := enr.Decode(raw); {
	case err != nil:
		d.refuse("malformed", 1)
	case !d.keeps(r):
		d.refuse(refusedForeign, 1)
	default:
		d.found(peers.Discv5, "", r)
		d.changed()
	}
}

// Knows tells whether a peer is in a node's book.
func Knows(n *Node, p peer.ID) bool {
	_, yes := n.discovery.book.Known(p)
	return yes
}

// NATOn is WithNAT on a host of the test's, who says by SetReachability what AutoNAT
// would find out.
func NATOn(h host.Host) Option {
	return func(c *config) { c.once("WithHost"); c.host, c.nat = h, true }
}

// WhereKnown are the addresses of a peer in a node's book.
func WhereKnown(n *Node, p peer.ID) []ma.Multiaddr {
	known, _ := n.discovery.book.Known(p)
	return known.Info.Addrs
}

// MeetingsOf is with how many peers only circuits stand.
func MeetingsOf(n *Node) int {
	n.nat.punches.mu.Lock()
	defer n.nat.punches.mu.Unlock()
	return len(n.nat.punches.m)
}

// Doorstep is where strangers wait.
type Doorstep struct{ d *doorstep }

// NewDoorstep is that of a node that takes so many connections.
func NewDoorstep(t testing.TB, conns, perIP int) *Doorstep {
	r, err := newResources(&config{maxConns: conns, maxConnsPerIP: perIP})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &Doorstep{newDoorstep(r, newGater())}
}

// Gate is what TCP listens with.
func (d Doorstep) Gate(l manet.Listener) transport.GatedMaListener {
	return (&doorUpgrader{door: d.d, free: greeting}).GateMaListener(l)
}

// Known is told of a handshake's end.
func (d *Doorstep) Known(at ma.Multiaddr) { d.d.known(at) }

// Len is how many wait.
func (d *Doorstep) Len() (n int) {
	d.d.mu.Lock()
	defer d.d.mu.Unlock()
	for _, all := range d.d.here {
		n += len(all)
	}
	return n
}

// StreamsRefused and Openers are what a node has refused, and whom it tells apart.
func StreamsRefused(m network.ResourceManager) uint64 { return m.(*resources).intake.refused.Load() }

func Openers(m network.ResourceManager) int {
	i := m.(*resources).intake
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.peers)
}

// CarrierOf is the membership that sends such a message.
func CarrierOf(m *Membership, contentTopic string, opts ...SendOption) (*Membership, error) {
	cfg := sendConfig{message: &message.Message{}}
	for _, opt := range opts {
		opt(&cfg)
	}
	return m.carrier(contentTopic, &cfg)
}

// ContentTopicOf is what telemetry reads.
func ContentTopicOf(data []byte) string { return contentTopicOf(data) }

// Counting is a node's telemetry alone.
type Counting struct{ t *telemetry }

// NewTelemetry counts by a clock.
func NewTelemetry(now func() time.Time) Counting { return Counting{newTelemetry(now)} }

// Count counts a message from a store.
func (c Counting) Count(s sharding.Shard, m *message.Message) { c.t.message(s, WayStore, m, false, 1) }

// Snapshot is what was counted.
func (c Counting) Snapshot() Telemetry { return c.t.snapshot() }

// RestoreDeliveries has a node take on what a state store has, and forget it again.
func RestoreDeliveries(n *Node, state []byte) (count int) {
	n.restoreAll(state)
	for _, s := range n.shards.all() {
		s.outbox.mu.Lock()
		for d := range s.outbox.all {
			s.outbox.end(d, errLeft)
			count++
		}
		s.outbox.mu.Unlock()
	}
	return count
}
