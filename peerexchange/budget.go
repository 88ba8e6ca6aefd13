package peerexchange

import (
	"context"
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
	peers     map[peer.ID]bucket
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
	return &budget{rate: rate, burst: float64(max(burst, 1)), limit: maxPeers, peers: make(map[peer.ID]bucket)}
}

// take takes a token if there is one, or will be within patience, and says when it
// may be used; or else when there will be one.
func (b *budget) take(p peer.ID, now time.Time, patience time.Duration) (wait time.Duration, ok bool) {
	if b.rate <= 0 {
		return 0, true
	}
	b.change(p, now, func(k *bucket) {
		wait = b.until(1 - k.tokens)
		if ok = wait <= patience; ok {
			k.tokens--
		}
	})
	return wait, ok
}

// refund gives a token back.
func (b *budget) refund(p peer.ID, now time.Time) {
	if b.rate > 0 {
		b.change(p, now, func(k *bucket) { k.tokens = min(k.tokens+1, b.burst) })
	}
}

// hold sees to it that there is no token for so long.
func (b *budget) hold(p peer.ID, now time.Time, d time.Duration) {
	if b.rate > 0 {
		b.change(p, now, func(k *bucket) { k.tokens = min(k.tokens, 1-d.Seconds()*b.rate) })
	}
}

// until is how long it takes to gain so many tokens.
func (b *budget) until(tokens float64) time.Duration {
	return time.Duration(max(0, tokens) / b.rate * float64(time.Second))
}

// change changes the peer's bucket, which is filled up to now before.
func (b *budget) change(p peer.ID, now time.Time, f func(k *bucket)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.peers[p]
	if !known && len(b.peers) >= b.limit {
		b.sweep(now)
	}
	if known = known || len(b.peers) < b.limit; !known {
		k = b.strangers
	}
	k = b.fill(k, now)
	f(&k)
	if known {
		b.peers[p] = k
	} else {
		b.strangers = k
	}
}

// fill brings a bucket up to now. The clock may step back.
func (b *budget) fill(k bucket, now time.Time) bucket {
	if k.at.IsZero() {
		return bucket{tokens: b.burst, at: now}
	}
	if d := now.Sub(k.at); d > 0 {
		return bucket{tokens: min(b.burst, k.tokens+d.Seconds()*b.rate), at: now}
	}
	return k
}

// sweep forgets those whose bucket is full, at most once a second.
func (b *budget) sweep(now time.Time) {
	if d := now.Sub(b.swept); d >= 0 && d < time.Second {
		return
	}
	b.swept = now
	for p, k := range b.peers {
		if b.fill(k, now).tokens >= b.burst {
			delete(b.peers, p)
		}
	}
}

// sleep returns the context's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
