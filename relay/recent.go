package relay

import (
	"slices"
	"time"
)

// ring remembers a few message keys.
type ring struct {
	keys []uint64
	next int
}

const ringSize = 64

func (r *ring) has(k uint64) bool { return slices.Contains(r.keys, k) }

func (r *ring) add(k uint64) {
	if len(r.keys) < ringSize {
		r.keys = append(r.keys, k)
		return
	}
	r.keys[r.next] = k
	r.next = (r.next + 1) % ringSize
}

func (r *ring) remove(k uint64) {
	for i, x := range r.keys {
		if x == k {
			r.keys[i] = 0
		}
	}
}

// fadingSet remembers the last few hundred keys and when they were added.
type fadingSet struct {
	keys []uint64
	at   []time.Time
	next int
}

const fadingSetSize = 256

func (c *fadingSet) add(k uint64, now time.Time) {
	if i := slices.Index(c.keys, k); i >= 0 {
		c.at[i] = now
		return
	}
	if len(c.keys) < fadingSetSize {
		c.keys, c.at = append(c.keys, k), append(c.at, now)
		return
	}
	c.keys[c.next], c.at[c.next] = k, now
	c.next = (c.next + 1) % fadingSetSize
}

func (c *fadingSet) has(k uint64, now time.Time, age time.Duration) bool {
	i := slices.Index(c.keys, k)
	return i >= 0 && now.Sub(c.at[i]) < age
}
