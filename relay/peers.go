package relay

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

const (
	// A peer's faults (messages that go-waku and nwaku refuse too) are forgotten
	// by half in each faultHalfLife. At cutAfter it is disconnected.
	faultHalfLife = 12 * time.Second
	cutAfter      = 10
	cutFor        = 10 * time.Minute
	// Each message on its way to the gate costs a peer a token, given back
	// unless the message has to be rejected.
	unprovenBurst = 256
	unprovenRate  = 64 // per second
	// Control items (ids, subscriptions, grafts) a peer may send.
	controlBurst = 20_000
	controlRate  = 2_000 // per second
	// controlFaults is how many faults an RPC over that budget counts for.
	controlFaults = 0.5
	// maxTopics is the number of shards one peer may announce: a cluster's.
	maxTopics = sharding.MaxIndex + 1
	// maxPeers bounds the book: what has gone is forgotten, oldest first.
	maxPeers = 8192
)

// peerBook is what the relay knows of its peers, beyond what the router knows.
type peerBook struct {
	relay *Relay

	mu     sync.Mutex
	peers  map[peer.ID]*peerState
	meshes map[string]*mesh
	topics map[string]int // announced shards: how many connected peers
	addrs  map[string][]peer.ID
	// down holds messages that the inspector ignored. The router hasn't seen
	// them and would ask for them whenever a peer offers them.
	down ring
}

type peerState struct {
	connected bool
	goneAt    time.Time
	addr      string

	faults   decaying // all that is held against it
	unscored decaying // the part that the router's P4 doesn't know
	cutUntil time.Time

	unproven bucket
	control  bucket
	topics   map[sharding.Shard]struct{}

	conduct
}

// bucket is a token bucket whose zero value is full.
type bucket struct {
	spent float64
	at    time.Time
}

func (b *bucket) take(n, burst, rate float64, now time.Time) bool {
	b.spent = max(0, b.spent-rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.spent+n > burst {
		return false
	}
	b.spent += n
	return true
}

func (b *bucket) give(n float64) { b.spent = max(0, b.spent-n) }

func newPeerBook(r *Relay) *peerBook {
	return &peerBook{
		relay:  r,
		peers:  map[peer.ID]*peerState{},
		meshes: map[string]*mesh{},
		topics: map[string]int{},
		addrs:  map[string][]peer.ID{},
	}
}

// notifiee drops what is known of a peer that disconnected without ever having
// had a stream from us, and sends away those that were cut.
func (b *peerBook) notifiee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			if p := c.RemotePeer(); b.isCut(p) {
				b.relay.disconnect(p)
			}
		},
		DisconnectedF: func(n network.Network, c network.Conn) {
			if p := c.RemotePeer(); n.Connectedness(p) != network.Connected {
				b.relay.gone(p)
			}
		},
	}
}

func (b *peerBook) now() time.Time { return b.relay.cfg.Now() }

// state returns the entry of p, made if need be. mu is held.
func (b *peerBook) state(p peer.ID) *peerState {
	ps, ok := b.peers[p]
	if !ok {
		if len(b.peers) >= maxPeers {
			b.forget()
		}
		ps = &peerState{goneAt: b.now()}
		b.peers[p] = ps
	}
	return ps
}

// forget drops disconnected peers: those with nothing held against them, then
// the one that left first. mu is held.
func (b *peerBook) forget() {
	now := b.now()
	var oldest peer.ID
	for p, ps := range b.peers {
		switch {
		case ps.connected:
		case now.After(ps.cutUntil) && ps.faults.count(now) < 1:
			delete(b.peers, p)
		case oldest == "" || ps.goneAt.Before(b.peers[oldest].goneAt):
			oldest = p
		}
	}
	if len(b.peers) >= maxPeers && oldest != "" {
		delete(b.peers, oldest)
	}
}

func (b *peerBook) connected(p peer.ID, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps := b.state(p)
	b.leaveAddr(p, ps)
	ps.connected = true
	if ps.addr = addr; addr != "" {
		b.addrs[addr] = append(b.addrs[addr], p)
	}
}

// disconnected returns the meshes that p left with it, and their sizes now.
func (b *peerBook) disconnected(p peer.ID) map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps, ok := b.peers[p]
	if !ok {
		return nil
	}
	b.leaveAddr(p, ps)
	for s := range ps.topics {
		b.announced(s, -1)
	}
	left := map[string]int{}
	for topic, m := range b.meshes {
		if _, in := m.links[p]; in {
			delete(m.links, p)
			left[topic] = len(m.links)
		}
	}
	ps.topics = nil
	ps.connected = false
	ps.goneAt = b.now()
	if ps.faults.count(ps.goneAt) < 1 && ps.goneAt.After(ps.cutUntil) && ps.goneAt.After(ps.silentUntil) {
		delete(b.peers, p)
	}
	return left
}

func (b *peerBook) leaveAddr(p peer.ID, ps *peerState) {
	if ps.addr == "" {
		return
	}
	here := b.addrs[ps.addr]
	for i, q := range here {
		if q == p {
			here = append(here[:i:i], here[i+1:]...)
			break
		}
	}
	if b.addrs[ps.addr] = here; len(here) == 0 {
		delete(b.addrs, ps.addr)
	}
	ps.addr = ""
}

type admission uint8

const (
	admitAll admission = iota
	admitCut
	admitFlood
)

// admit charges an RPC's control items to its sender.
func (b *peerBook) admit(p peer.ID, items int) admission {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	ps := b.state(p)
	if now.Before(ps.cutUntil) {
		return admitCut
	}
	if !ps.control.take(float64(items), controlBurst, controlRate, now) {
		return admitFlood
	}
	return admitAll
}

// spend takes a token for a message of unknown worth.
func (b *peerBook) spend(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state(p).unproven.take(1, unprovenBurst, unprovenRate, b.now())
}

// refund gives the token of one message back.
func (b *peerBook) refund(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state(p).unproven.give(1)
}

func (b *peerBook) isCut(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps, ok := b.peers[p]
	return ok && b.now().Before(ps.cutUntil)
}

// subscribed notes that p announced or left a shard and tells whether the
// router should know.
func (b *peerBook) subscribed(p peer.ID, s sharding.Shard, on bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps := b.state(p)
	_, known := ps.topics[s]
	switch {
	case on && known:
	case on && len(ps.topics) >= maxTopics:
		return false
	case on:
		if ps.topics == nil {
			ps.topics = map[sharding.Shard]struct{}{}
		}
		ps.topics[s] = struct{}{}
		b.announced(s, 1)
	case known:
		delete(ps.topics, s)
		b.announced(s, -1)
	}
	return true
}

func (b *peerBook) announced(s sharding.Shard, by int) {
	topic := s.PubsubTopic()
	if b.topics[topic] += by; b.topics[topic] <= 0 {
		delete(b.topics, topic)
	}
}

func (b *peerBook) turnDown(key uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.down.has(key) {
		b.down.add(key)
	}
}

// dontAskAgain takes offers of messages turned down out of an RPC.
func (b *peerBook) dontAskAgain(c *pb.ControlMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.down.keys) == 0 {
		return
	}
	for _, x := range c.Ihave {
		x.MessageIDs = slices.DeleteFunc(x.MessageIDs, func(id string) bool { return b.down.has(messageKey(id)) })
	}
}

// decaying is a count that halves in each faultHalfLife.
type decaying struct {
	n  float64
	at time.Time
}

func (d *decaying) count(now time.Time) float64 {
	if d.n == 0 {
		return 0
	}
	return d.n * math.Exp2(-now.Sub(d.at).Seconds()/faultHalfLife.Seconds())
}

func (d *decaying) add(n float64, now time.Time) {
	d.n, d.at = d.count(now)+n, now
}

// addFaults returns whether the peer has to go. scored faults are in the
// router's own score already.
func (b *peerBook) addFaults(p peer.ID, n float64, scored bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	ps := b.state(p)
	ps.faults.add(n, now)
	if !scored {
		ps.unscored.add(n, now)
	}
	return ps.faults.n >= cutAfter && now.After(ps.cutUntil)
}

// cut marks p as cut, once.
func (b *peerBook) cut(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	ps := b.state(p)
	if now.Before(ps.cutUntil) {
		return false
	}
	ps.cutUntil = now.Add(cutFor)
	return true
}

// messageKey shortens a gossip message id for the relay's own books.
func messageKey(id string) uint64 {
	var k [8]byte
	copy(k[:], id)
	return binary.BigEndian.Uint64(k[:])
}
