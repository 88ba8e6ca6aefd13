package discv5

import "time"

// recent is a bounded map that forgets: an entry stays for one to two periods
// after it was put, less if more than limit others come after it. Not safe for
// concurrent use.
type recent[K comparable, V any] struct {
	period      time.Duration
	limit       int
	turned      time.Time
	now, before map[K]V
}

func newRecent[K comparable, V any](period time.Duration, limit int) *recent[K, V] {
	return &recent[K, V]{period: period, limit: limit, now: make(map[K]V), before: make(map[K]V)}
}

func (r *recent[K, V]) turn(now time.Time) {
	switch age := now.Sub(r.turned); {
	case age >= 2*r.period:
		clear(r.now)
		fallthrough
	case age >= r.period || len(r.now) >= r.limit:
		r.before, r.now = r.now, make(map[K]V)
		r.turned = now
	}
}

func (r *recent[K, V]) get(k K, now time.Time) (V, bool) {
	r.turn(now)
	if v, ok := r.now[k]; ok {
		return v, true
	}
	v, ok := r.before[k]
	return v, ok
}

func (r *recent[K, V]) put(k K, v V, now time.Time) {
	r.turn(now)
	r.now[k] = v
}
