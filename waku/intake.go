package waku

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Streams that others open cost most before anybody knows what they are for, which is
// when the library doesn't tell peers apart. So each peer has so many a second for
// itself, and what goes beyond is shared by all: whoever opens ten thousand takes nothing
// from those who open a few.
const (
	// ownStreams are a peer's own, a second, and ownBurst at once.
	ownStreams, ownBurst = 5.0, 25.0
	// poolStreams are everybody's, a second, for each processor: about half of what
	// one can negotiate.
	poolStreams = 1000.0
	// poolBurst is which part of them at once: what comes in one second must not come
	// in its first moment.
	poolBurst = 8
	// maxUnnamed is how many streams of a peer may be without a protocol at once.
	maxUnnamed = 32
	// fewPeers is how many are told apart before anybody is forgotten.
	fewPeers = 1024
)

// errManyStreams is why a stream was refused.
var errManyStreams = errors.New("waku: too many streams")

// intake is how many streams others may open.
type intake struct {
	refused atomic.Uint64
	rate    float64 // of the pool

	mu    sync.Mutex
	peers map[peer.ID]*opener
	pool  bucket
}

// opener is a peer that opens streams.
type opener struct {
	bucket
	unnamed int // without a protocol
}

// bucket holds tokens, up to a limit.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) fill(now time.Time, rate, burst float64) {
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(burst, b.tokens+d.Seconds()*rate)
		b.at = now
	}
}

func (b *bucket) take() bool {
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func newIntake() *intake {
	return &intake{rate: poolStreams * float64(runtime.GOMAXPROCS(0)), peers: map[peer.ID]*opener{}}
}

// enter tells whether a peer may open another stream. named must follow then.
func (i *intake) enter(p peer.ID) bool {
	now := time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pool.fill(now, i.rate, i.rate/poolBurst)
	o := i.peers[p]
	if o == nil {
		if len(i.peers) >= fewPeers {
			i.forget(now)
		}
		o = &opener{bucket: bucket{ownBurst, now}}
		i.peers[p] = o
	}
	o.fill(now, ownStreams, ownBurst)
	if o.unnamed >= maxUnnamed || !o.take() && !i.pool.take() {
		i.refused.Add(1)
		return false
	}
	o.unnamed++
	return true
}

// forget forgets those who are no different from strangers. mu is held.
func (i *intake) forget(now time.Time) {
	for p, o := range i.peers {
		if o.fill(now, ownStreams, ownBurst); o.unnamed == 0 && o.tokens >= ownBurst {
			delete(i.peers, p)
		}
	}
}

func (i *intake) named(p peer.ID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.peers[p].unnamed--
}

// OpenStream implements network.ResourceManager.
func (r *resources) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	if dir != network.DirInbound {
		return r.ResourceManager.OpenStream(p, dir)
	}
	if !r.intake.enter(p) {
		return nil, errManyStreams
	}
	s, err := r.ResourceManager.OpenStream(p, dir)
	if err != nil {
		r.intake.named(p)
		return nil, err
	}
	return &inboundScope{StreamManagementScope: s, named: sync.OnceFunc(func() { r.intake.named(p) })}, nil
}

// inboundScope is the account of a stream that a peer has opened.
type inboundScope struct {
	network.StreamManagementScope
	named func()
}

// SetProtocol implements network.StreamManagementScope.
func (s *inboundScope) SetProtocol(id protocol.ID) error {
	s.named()
	return s.StreamManagementScope.SetProtocol(id)
}

// Done implements network.StreamManagementScope.
func (s *inboundScope) Done() {
	s.named()
	s.StreamManagementScope.Done()
}
