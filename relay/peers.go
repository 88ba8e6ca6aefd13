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
	// Each message on its way to the gate costs a peer a token, given back when
	// the message turns out to be good or known. The rest is bounded, because
	// each large one makes us say so to the mesh, and the mesh has its own limits.
	// Who brought good ones may have as many more on their way at once.
	unprovenBurst = 512
	unprovenRate  = 256 // per second
	provenMax     = 512
	// Control items (ids, subscriptions, grafts) a peer may send.
	controlBurst = 20_000
	controlRate  = 4_000 // per second
	// controlFaults is how many faults an RPC over that budget counts for.
	controlFaults = 0.5
	// downFor is how long a message that was ignored isn't asked for.
	downFor = 30 * time.Second
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
	addrs  map[string][]peer.ID
	// down holds messages that the inspector ignored for what they are. The
	// router hasn't seen them and would ask for them whenever a peer offers them.
	down fadingSet
}

// peerState lasts as long as the peer is connected, and longer if something is
// held against it.
type peerState struct {
	online   bool // connected
	streamed bool // we have a stream to it: the router scores it and can let go of it
	goneAt   time.Time
	addr     string

	faults   decaying
	cutUntil time.Time

	unproven bucket
	proven   float64 // messages accepted since its last fault, up to provenMax
	control  bucket
	topics   map[sharding.Shard]struct{}
	links    map[string]*link // its places in our meshes

	conduct
}

// bucket is a token bucket whose zero value is full.
type bucket struct {
	spent float64
	at    time.Time
}

func (b *bucket) take(n, burst, rate float64, now time.Time) bool {
	b.spent = max(0, b.spent-rate*max(0, now.Sub(b.at).Seconds()))
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
		addrs:  map[string][]peer.ID{},
	}
}

// notifiee follows connections and sends away those that were cut.
func (b *peerBook) notifiee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) { b.relay.arrived(c) },
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

// forget drops peers that are gone: those with nothing held against them, then
// the one that left first. mu is held.
func (b *peerBook) forget() {
	now := b.now()
	var oldest peer.ID
	for p, ps := range b.peers {
		switch {
		case ps.online:
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

// arrived notes a connection and returns whether the peer may stay.
func (b *peerBook) arrived(p peer.ID, addr string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps := b.state(p)
	if b.now().Before(ps.cutUntil) {
		return false
	}
	ps.online = true
	if ps.addr == "" && addr != "" { // a second connection doesn't cost the place
		ps.addr = addr
		b.addrs[addr] = append(b.addrs[addr], p)
	}
	return true
}

// stream notes that our stream to p opened or ended. It returns the meshes that
// p lost with it, and their sizes now.
func (b *peerBook) stream(p peer.ID, open bool) map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if open {
		b.state(p).streamed = true
		return nil
	}
	ps, ok := b.peers[p]
	if !ok {
		return nil
	}
	ps.streamed = false
	left := b.unlink(p, ps)
	b.drop(p, ps)
	return left
}

// drop forgets a peer that is gone, if nothing is held against it. mu is held.
func (b *peerBook) drop(p peer.ID, ps *peerState) {
	now := b.now()
	if !ps.online && ps.faults.count(now) < 1 && now.After(ps.cutUntil) && now.After(ps.silentUntil) {
		delete(b.peers, p)
	}
}

func (b *peerBook) unlink(p peer.ID, ps *peerState) map[string]int {
	left := map[string]int{}
	for topic := range ps.links {
		m := b.meshOf(topic)
		delete(m.links, p)
		left[topic] = len(m.links)
	}
	ps.links = nil
	return left
}

// disconnected forgets a peer, or what can be forgotten of it, and returns the
// meshes that it was in, and their sizes now.
func (b *peerBook) disconnected(p peer.ID) map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps, ok := b.peers[p]
	if !ok {
		return nil
	}
	left := b.unlink(p, ps)
	b.leaveAddr(p, ps)
	ps.topics, ps.outside = nil, nil
	ps.online, ps.streamed = false, false
	ps.goneAt = b.now()
	b.drop(p, ps)
	return left
}

// reset forgets all meshes and what peers announced, with the router that knew
// them. It returns the peers of each mesh, and those that the router had a stream to.
func (b *peerBook) reset() (meshes map[string][]peer.ID, streamed []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	meshes = map[string][]peer.ID{}
	for topic, m := range b.meshes {
		for p := range m.links {
			meshes[topic] = append(meshes[topic], p)
		}
	}
	clear(b.meshes)
	for p, ps := range b.peers {
		if ps.streamed {
			streamed = append(streamed, p)
		}
		ps.streamed, ps.links, ps.topics, ps.outside = false, nil, nil, nil
	}
	return meshes, streamed
}

func (b *peerBook) leaveAddr(p peer.ID, ps *peerState) {
	if ps.addr == "" {
		return
	}
	here := slices.DeleteFunc(slices.Clone(b.addrs[ps.addr]), func(q peer.ID) bool { return q == p })
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
	ps := b.state(p)
	return ps.unproven.take(1, unprovenBurst+ps.proven, unprovenRate, b.now())
}

// mayGraft tells whether the router could let go of p again. A peer that takes
// no stream from us has no score there and would stay in the mesh for good.
func (b *peerBook) mayGraft(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps, ok := b.peers[p]
	return ok && ps.streamed
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
	case known:
		delete(ps.topics, s)
	}
	return true
}

func (b *peerBook) turnDown(key uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down.add(key, b.now())
}

// dontAskAgain takes offers of messages turned down out of an RPC.
func (b *peerBook) dontAskAgain(c *pb.ControlMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.down.keys) == 0 {
		return
	}
	now := b.now()
	for _, x := range c.Ihave {
		x.MessageIDs = slices.DeleteFunc(x.MessageIDs, func(id string) bool {
			return b.down.has(messageKey(id), now, downFor)
		})
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
	return d.n * math.Exp2(-max(0, now.Sub(d.at).Seconds())/faultHalfLife.Seconds())
}

func (d *decaying) add(n float64, now time.Time) {
	d.n, d.at = d.count(now)+n, now
}

// addFaults returns whether the peer has to go.
func (b *peerBook) addFaults(p peer.ID, n float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	ps := b.state(p)
	ps.faults.add(n, now)
	ps.proven = 0
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
