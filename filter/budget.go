package filter

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// budget is a token bucket for each peer: rate tokens a second, at most burst.
//
// The table is bounded. A peer whose bucket is full is no different from a
// stranger, and only such peers are forgotten: nobody gets a fresh bucket by making
// up names. While all in the table are busy, the others share one bucket.
type budget struct {
	rate  float64 // not positive: no limit
	burst float64
	limit int

	mu        sync.Mutex
	peers     map[peer.ID]*bucket
	strangers bucket
	swept     time.Time
}

// bucket holds tokens, less than none when they were taken in advance.
type bucket struct {
	tokens float64
	at     time.Time
}

// fill fills the bucket up to now.
func (k *bucket) fill(now time.Time, rate, burst float64) {
	if k.at.IsZero() {
		*k = bucket{tokens: burst, at: now}
	}
	if d := now.Sub(k.at); d > 0 {
		k.tokens = min(burst, k.tokens+d.Seconds()*rate)
		k.at = now
	}
}

// until is how long it takes until there is a token.
func (k *bucket) until(rate float64) time.Duration {
	return time.Duration(max(0, 1-k.tokens) / rate * float64(time.Second))
}

// otherPeers is how many peers a budget tells apart beside the subscribers.
const otherPeers = 4096

func newBudget(rate float64, burst, limit int) *budget {
	return &budget{rate: rate, burst: float64(max(burst, 1)), limit: limit, peers: make(map[peer.ID]*bucket)}
}

// take takes a token if there is one, or will be within patience, and says when it
// may be used; or else when there will be one.
func (b *budget) take(p peer.ID, now time.Time, patience time.Duration) (wait time.Duration, ok bool) {
	if b.rate <= 0 {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.peers[p]
	if k == nil {
		k = b.admit(p, now)
	}
	k.fill(now, b.rate, b.burst)
	if wait = k.until(b.rate); wait > patience {
		return wait, false
	}
	k.tokens--
	return wait, true
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
