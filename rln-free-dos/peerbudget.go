package dosguard

import (
	"strings"
	"sync"
	"time"

	"github.com/status-im/shoal/message"
)

// Defaults of [PeerBudgetConfig].
const (
	DefaultPeerMessages     = 200      // a second
	DefaultPeerMessageBurst = 1000     // messages
	DefaultPeerBytes        = 4 << 20  // a second
	DefaultPeerByteBurst    = 16 << 20 // bytes
	DefaultBudgetPeers      = 4096     // peers
)

// strangersShare is how many peers' budget those share that find the table full.
const strangersShare = 16

// PeerBudgetConfig configures a [PeerBudget]. The zero value has the defaults.
type PeerBudgetConfig struct {
	// Messages a peer may forward per second in the long run, and how many at
	// once. Every neighbour in the mesh may bring every message of a shard, so
	// this must be above the traffic of all shards that share the budget. 0: the
	// defaults.
	Messages     float64
	MessageBurst int
	// Bytes a peer may forward per second in the long run, and how many at once,
	// measured by encoded messages. 0: the defaults.
	Bytes     float64
	ByteBurst int
	// Peers is how many peers are told apart. 0: DefaultBudgetPeers.
	Peers int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Counters count what is refused. Nil: the budget's own.
	Counters *Counters
}

// PeerBudget bounds what each peer may forward, with one token bucket for
// messages and one for bytes. What exceeds it is ignored, for a busy neighbour
// isn't a hostile one. It is safe for concurrent use and runs nothing in the
// background.
//
// The table of peers is bounded. A peer whose buckets are full again is no
// different from a stranger, so only such peers are forgotten, those not seen for
// longest first: nobody gains a fresh budget by pushing his own entry out of the
// table under other names. While every peer in it is busy, those who don't fit in
// share one budget of sixteen peers.
type PeerBudget struct {
	cfg PeerBudgetConfig

	mu    sync.Mutex
	peers map[string]*peerBucket
	// root is the head of the ring of peers, the latest seen at next.
	root      peerBucket
	strangers peerBucket
}

type peerBucket struct {
	id              string
	messages, bytes float64 // tokens; below zero after a large message
	at              int64   // when they were counted, Unix nanoseconds
	next, prev      *peerBucket
}

// NewPeerBudget returns a budget in which nobody has spent anything.
func NewPeerBudget(cfg PeerBudgetConfig) *PeerBudget {
	if cfg.Messages <= 0 {
		cfg.Messages = DefaultPeerMessages
	}
	if cfg.MessageBurst <= 0 {
		cfg.MessageBurst = DefaultPeerMessageBurst
	}
	if cfg.Bytes <= 0 {
		cfg.Bytes = DefaultPeerBytes
	}
	if cfg.ByteBurst <= 0 {
		cfg.ByteBurst = DefaultPeerByteBurst
	}
	if cfg.Peers <= 0 {
		cfg.Peers = DefaultBudgetPeers
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Counters == nil {
		cfg.Counters = new(Counters)
	}
	b := &PeerBudget{cfg: cfg, peers: map[string]*peerBucket{}}
	b.root.next, b.root.prev = &b.root, &b.root
	b.strangers = peerBucket{
		messages: strangersShare * float64(cfg.MessageBurst),
		bytes:    strangersShare * float64(cfg.ByteBurst),
		at:       unixNano(cfg.Now()),
	}
	return b
}

// Counters returns the counts of what was refused.
func (b *PeerBudget) Counters() *Counters { return b.cfg.Counters }

// Screen is a [message.Screen] that ignores what exceeds the forwarder's budget.
// What is published here has no forwarder and passes.
func (b *PeerBudget) Screen(in *message.Received) message.Verdict {
	if in == nil || in.Message == nil {
		b.cfg.Counters.add(ReasonNoMessage)
		return message.Ignore
	}
	if in.From == "" {
		return message.Accept
	}
	if reason := b.spend(in.From, in.Message.Size()); reason != ReasonAccepted {
		b.cfg.Counters.add(reason)
		return message.Ignore
	}
	return message.Accept
}

// spend takes a message of size bytes out of a peer's buckets, if neither is
// empty. A large message may overdraw: otherwise one above the burst would never
// pass.
func (b *PeerBudget) spend(id string, size int) Reason {
	now := unixNano(b.cfg.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.find(id, now)
	switch {
	case p.messages < 1:
		return ReasonTooManyMessages
	case p.bytes <= 0:
		return ReasonTooManyBytes
	}
	p.messages--
	p.bytes -= float64(size)
	return ReasonAccepted
}

// find returns the buckets of a peer, filled up to now.
func (b *PeerBudget) find(id string, now int64) *peerBucket {
	p := b.peers[id]
	switch {
	case p != nil:
		p.unlink()
	case len(b.peers) < b.cfg.Peers:
		p = new(peerBucket)
	default:
		// Entries are in the order in which they were seen last, so if this one
		// isn't full again then all others were seen within the time it takes to
		// fill a bucket.
		p = b.root.prev
		b.fill(p, now, 1)
		if p.messages < float64(b.cfg.MessageBurst) || p.bytes < float64(b.cfg.ByteBurst) {
			b.fill(&b.strangers, now, strangersShare)
			return &b.strangers
		}
		p.unlink()
		delete(b.peers, p.id)
	}
	if p.id != id {
		p.id = strings.Clone(id)
		p.messages, p.bytes, p.at = float64(b.cfg.MessageBurst), float64(b.cfg.ByteBurst), now
		b.peers[p.id] = p
	}
	b.fill(p, now, 1)
	p.next, p.prev = b.root.next, &b.root
	p.next.prev, p.prev.next = p, p
	return p
}

// fill adds the tokens of the time that has passed, for a share of peers. A clock
// that was set back adds none.
func (b *PeerBudget) fill(p *peerBucket, now int64, share float64) {
	if elapsed := since(now, p.at).Seconds(); elapsed > 0 {
		p.messages = min(share*float64(b.cfg.MessageBurst), p.messages+share*elapsed*b.cfg.Messages)
		p.bytes = min(share*float64(b.cfg.ByteBurst), p.bytes+share*elapsed*b.cfg.Bytes)
	}
	p.at = now
}

func (p *peerBucket) unlink() {
	p.next.prev, p.prev.next = p.prev, p.next
}
