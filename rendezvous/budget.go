package rendezvous

import (
	"sync"
	"time"
)

// budget is a token bucket for each key: rate tokens a second, at most burst.
//
// The table is bounded. A key whose bucket is full again is no different from a new
// one, so only such keys are forgotten: nobody gains a fresh bucket by pushing his own
// out of the table under other names. While all keys in it are busy, those who don't
// fit in share one bucket.
type budget[K comparable] struct {
	rate  float64 // not positive: no limit
	burst float64
	limit int

	mu        sync.Mutex
	keys      map[K]bucket
	strangers bucket
	swept     time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxKeys is how many keys a budget tells apart.
const maxKeys = 16384

func newBudget[K comparable](rate float64, burst int) *budget[K] {
	return &budget[K]{rate: rate, burst: float64(max(burst, 1)), limit: maxKeys, keys: make(map[K]bucket)}
}

// take takes a token if there is one, and says else when there will be one.
func (b *budget[K]) take(key K, now time.Time) (wait time.Duration, ok bool) {
	if b.rate <= 0 {
		return 0, true
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
	k = b.fill(k, now)
	if ok = k.tokens >= 1; ok {
		k.tokens--
	} else {
		wait = time.Duration((1 - k.tokens) / b.rate * float64(time.Second))
	}
	if known {
		b.keys[key] = k
	} else {
		b.strangers = k
	}
	return wait, ok
}

// fill brings a bucket up to now. The clock may step back.
func (b *budget[K]) fill(k bucket, now time.Time) bucket {
	if k.at.IsZero() {
		return bucket{tokens: b.burst, at: now}
	}
	if d := now.Sub(k.at); d > 0 {
		return bucket{tokens: min(b.burst, k.tokens+d.Seconds()*b.rate), at: now}
	}
	return k
}

// sweep forgets those whose bucket is full, at most once a second.
func (b *budget[K]) sweep(now time.Time) {
	if d := now.Sub(b.swept); d >= 0 && d < time.Second {
		return
	}
	b.swept = now
	for key, k := range b.keys {
		if b.fill(k, now).tokens >= b.burst {
			delete(b.keys, key)
		}
	}
}
