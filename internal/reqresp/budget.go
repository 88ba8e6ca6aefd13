package reqresp

import (
	"context"
	"sync"
	"time"
)

// DefaultBudgetKeys is how many peers a service's budget tells apart.
const DefaultBudgetKeys = 4096

// Budget is a token bucket for each key, a peer as a rule: rate tokens a second, at
// most burst.
//
// The table is bounded. A key whose bucket is full again is no different from a new
// one, so only such keys are forgotten: nobody gains a fresh bucket by pushing his own
// out of the table under other names. While all keys in it are busy, those who don't
// fit in share one bucket.
type Budget[K comparable] struct {
	rate  float64 // not positive: no limit
	burst float64
	limit int

	mu        sync.Mutex
	keys      map[K]Bucket
	strangers Bucket
	swept     time.Time
}

// Bucket holds tokens. The zero value is a full one.
type Bucket struct {
	tokens float64 // may be negative: taken in advance
	at     time.Time
}

// Reserve takes a token, of the future if need be, and says when it may be used: rate
// tokens a second flow into the bucket, which holds burst at most.
func (k *Bucket) Reserve(now time.Time, rate, burst float64) time.Duration {
	k.fill(now, rate, burst)
	k.tokens--
	return until(-k.tokens, rate)
}

// fill brings the bucket up to now. The clock may step back.
func (k *Bucket) fill(now time.Time, rate, burst float64) {
	if k.at.IsZero() {
		*k = Bucket{tokens: burst, at: now}
	}
	if d := now.Sub(k.at); d > 0 {
		*k = Bucket{tokens: min(burst, k.tokens+d.Seconds()*rate), at: now}
	}
}

// until is how long it takes to gain so many tokens.
func until(tokens, rate float64) time.Duration {
	return time.Duration(max(0, tokens) / rate * float64(time.Second))
}

// NewBudget returns a budget of rate tokens a second, unlimited if that isn't positive,
// and burst at once, 1 at least, that tells so many keys apart.
func NewBudget[K comparable](rate float64, burst, keys int) *Budget[K] {
	return &Budget[K]{rate: rate, burst: float64(max(burst, 1)), limit: keys, keys: make(map[K]Bucket)}
}

// Take takes a token if there is one, or will be within patience, and says when it
// may be used; or else when there will be one.
func (b *Budget[K]) Take(key K, now time.Time, patience time.Duration) (wait time.Duration, ok bool) {
	ok = true
	b.change(key, now, func(k *Bucket) {
		wait = until(1-k.tokens, b.rate)
		if ok = wait <= patience; ok {
			k.tokens--
		}
	})
	return wait, ok
}

// Reserve takes a token, of the future if need be, and says when it may be used.
func (b *Budget[K]) Reserve(key K, now time.Time) (wait time.Duration) {
	b.change(key, now, func(k *Bucket) {
		wait = k.Reserve(now, b.rate, b.burst)
	})
	return wait
}

// Refund gives a token back.
func (b *Budget[K]) Refund(key K, now time.Time) {
	b.change(key, now, func(k *Bucket) { k.tokens = min(k.tokens+1, b.burst) })
}

// Hold sees to it that there is no token for so long.
func (b *Budget[K]) Hold(key K, now time.Time, d time.Duration) {
	b.change(key, now, func(k *Bucket) { k.tokens = min(k.tokens, 1-d.Seconds()*b.rate) })
}

// Len is how many keys are told apart at the moment.
func (b *Budget[K]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.keys)
}

// change changes the key's bucket, which is filled up to now before. Nothing is
// changed where there is no limit.
func (b *Budget[K]) change(key K, now time.Time, f func(k *Bucket)) {
	if b.rate <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.keys[key]
	if !known && len(b.keys) >= b.limit {
		b.sweep(now)
	}
	if known = known || len(b.keys) < b.limit; !known {
		k = b.strangers
	}
	k.fill(now, b.rate, b.burst)
	f(&k)
	if known {
		b.keys[key] = k
	} else {
		b.strangers = k
	}
}

// sweep forgets those whose bucket is full, at most once a second.
func (b *Budget[K]) sweep(now time.Time) {
	if d := now.Sub(b.swept); d >= 0 && d < time.Second {
		return
	}
	b.swept = now
	for key, k := range b.keys {
		if k.fill(now, b.rate, b.burst); k.tokens >= b.burst {
			delete(b.keys, key)
		}
	}
}

// Sleep waits so long, or until the context ends, whose error it returns then.
func Sleep(ctx context.Context, d time.Duration) error {
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
