package store

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// budget is a token bucket for each peer: rate tokens a second, at most burst.
//
// The table is bounded. A peer whose bucket is full again is no different from a
// stranger, so only such peers are forgotten: nobody gains a fresh bucket by
// pushing his own out of the table under other names. While all peers in it are
// busy, those who don't fit in share one bucket.
type budget struct {
	rate  float64 // not positive: no limit
	burst float64
	limit int

	mu        sync.Mutex
	peers     map[peer.ID]*bucket
	strangers bucket
	swept     time.Time
}

type bucket struct {
	tokens float64 // may be negative: taken in advance
	at     time.Time
}

// maxPeers is how many peers a budget tells apart.
const maxPeers = 4096

func newBudget(rate float64, burst int) *budget {
	return &budget{rate: rate, burst: float64(max(burst, 1)), limit: maxPeers, peers: make(map[peer.ID]*bucket)}
}

// take takes a token if there is one, or will be within patience, and says when it
// may be used; or else when there will be one.
func (b *budget) take(p peer.ID, now time.Time, patience time.Duration) (wait time.Duration, ok bool) {
	if b.rate <= 0 {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.bucket(p, now)
	if wait = b.until(1 - k.tokens); wait > patience {
		return wait, false
	}
	k.tokens--
	return wait, true
}

// reserve takes a token, of the future if need be, and says when it may be used.
func (b *budget) reserve(p peer.ID, now time.Time) time.Duration {
	if b.rate <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.bucket(p, now)
	k.tokens--
	return b.until(-k.tokens)
}

// refund gives a reserved token back.
func (b *budget) refund(p peer.ID, now time.Time) {
	if b.rate <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket(p, now).tokens++
}

// until is how long it takes to gain so many tokens.
func (b *budget) until(tokens float64) time.Duration {
	return time.Duration(max(0, tokens) / b.rate * float64(time.Second))
}

// bucket is the peer's, filled up to now.
func (b *budget) bucket(p peer.ID, now time.Time) *bucket {
	k := b.peers[p]
	if k == nil {
		k = b.admit(p, now)
	}
	if k.at.IsZero() {
		*k = bucket{tokens: b.burst, at: now}
	}
	if d := now.Sub(k.at); d > 0 {
		k.tokens = min(b.burst, k.tokens+d.Seconds()*b.rate)
		k.at = now
	}
	return k
}

func (b *budget) admit(p peer.ID, now time.Time) *bucket {
	if len(b.peers) >= b.limit && now.Sub(b.swept) >= time.Second {
		b.swept = now
		for q, k := range b.peers {
			if k.tokens+now.Sub(k.at).Seconds()*b.rate >= b.burst {
				delete(b.peers, q)
			}
		}
	}
	if len(b.peers) >= b.limit {
		return &b.strangers
	}
	k := new(bucket)
	b.peers[p] = k
	return k
}
