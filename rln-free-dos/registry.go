package dosguard

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MaxKeys is how many keys a [Registry] holds. A forged message costs a
// verification per key that may have signed it.
const MaxKeys = 16

// keyGrace is how far outside a key's time a signature by it still tells its
// maker from a forger, see Registry.
const keyGrace = 24 * time.Hour

// ErrTooManyKeys means that a [Registry] holds MaxKeys keys. Remove old ones.
var ErrTooManyKeys = errors.New("dosguard: too many keys for one shard, remove old ones")

// ErrKeyPeriod means that a key's time ends before it begins.
var ErrKeyPeriod = errors.New("dosguard: a key's time must end after it begins")

// ErrNoKey means that no key was given.
var ErrNoKey = errors.New("dosguard: no key given")

// Registry holds the keys of one shard and the time for which each counts. Times
// may overlap, which is how a community changes its key without losing a
// message: the new key is added before members sign with it, the old one expires
// after. It can be changed at any time; reading takes no lock. The zero value is
// an empty registry, with which nothing passes.
//
// What has to lie within a key's time, from ≤ t < until, is the message's
// timestamp. That is the same instant for every node, however long the message
// travels and however their clocks differ, so nodes agree about it, and a stored
// message stays verifiable when its key has long expired. A live message must be
// within the window of the local clock as well. So an expired key is dead for
// new timestamps at once, and for backdated ones when the window has passed. If
// that isn't soon enough, because the key has leaked, Remove it: from then on it
// is as unknown as a forger's.
//
// A signature by an expired key, or by one whose time hasn't come, is ignored
// rather than rejected, up to a day outside its time: peers that pass it on
// merely have an older or newer list of keys.
type Registry struct {
	mu      sync.Mutex // orders changes
	entries atomic.Pointer[[]keyEntry]
}

type keyEntry struct {
	key         *PublicKey
	from, until int64 // Unix nanoseconds
}

// KeyPeriod is a key and the time for which it counts.
type KeyPeriod struct {
	Key *PublicKey
	// From and Until bound it; the zero time is no bound. Until is excluded.
	From, Until time.Time
}

// NewRegistry returns a registry of keys that count at all times. Nil keys are
// left out, and so are those beyond MaxKeys.
func NewRegistry(keys ...*PublicKey) *Registry {
	r := new(Registry)
	for _, k := range keys {
		_ = r.Add(k, time.Time{}, time.Time{})
	}
	return r
}

// Add lets messages pass that are signed by key and timestamped from from on and
// before until; the zero time is no bound. A key that is known already gets these
// bounds instead of its own. Errors: [ErrNoKey], [ErrKeyPeriod],
// [ErrTooManyKeys].
func (r *Registry) Add(key *PublicKey, from, until time.Time) error {
	e := keyEntry{key, math.MinInt64, math.MaxInt64}
	if !from.IsZero() {
		e.from = unixNano(from)
	}
	if !until.IsZero() {
		e.until = unixNano(until)
	}
	switch {
	case key == nil:
		return ErrNoKey
	case e.until <= e.from:
		return ErrKeyPeriod
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := slices.Clone(r.load())
	if i := r.index(key); i >= 0 {
		e.key = next[i].key // it has the table
		next = slices.Delete(next, i, i+1)
	} else if len(next) >= MaxKeys {
		return ErrTooManyKeys
	}
	next = append(next, e)
	// The newest key is tried first.
	slices.SortStableFunc(next, func(a, b keyEntry) int {
		switch {
		case a.from > b.from:
			return -1
		case a.from < b.from:
			return 1
		}
		return 0
	})
	r.entries.Store(&next)
	return nil
}

// Expire ends a key's time at the given moment, and reports whether the key was
// known. A key whose time would end before it began is removed.
func (r *Registry) Expire(key *PublicKey, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.index(key)
	if i < 0 {
		return false
	}
	next := slices.Clone(r.load())
	next[i].until = unixNano(at)
	if next[i].until <= next[i].from {
		next = slices.Delete(next, i, i+1)
	}
	r.entries.Store(&next)
	return true
}

// Remove makes a key unknown, and reports whether it was known.
func (r *Registry) Remove(key *PublicKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.index(key)
	if i < 0 {
		return false
	}
	next := slices.Delete(slices.Clone(r.load()), i, i+1)
	r.entries.Store(&next)
	return true
}

// Valid returns the keys that count at an instant, in no order.
func (r *Registry) Valid(at time.Time) []*PublicKey {
	var keys []*PublicKey
	t := unixNano(at)
	for _, e := range r.load() {
		if e.covers(t) {
			keys = append(keys, e.key)
		}
	}
	return keys
}

// All returns all keys, past and future ones included, in no order.
func (r *Registry) All() []KeyPeriod {
	var all []KeyPeriod
	for _, e := range r.load() {
		p := KeyPeriod{Key: e.key}
		if e.from != math.MinInt64 {
			p.From = time.Unix(0, e.from)
		}
		if e.until != math.MaxInt64 {
			p.Until = time.Unix(0, e.until)
		}
		all = append(all, p)
	}
	return all
}

func (r *Registry) load() []keyEntry {
	if p := r.entries.Load(); p != nil {
		return *p
	}
	return nil
}

func (r *Registry) index(key *PublicKey) int {
	if key == nil {
		return -1
	}
	return slices.IndexFunc(r.load(), func(e keyEntry) bool { return e.key.Equal(key) })
}

// judge finds the key that signed digest at a timestamp.
func (r *Registry) judge(digest *[32]byte, sig *signature, timestamp int64) Reason {
	entries := r.load()
	valid := false
	for i := range entries {
		if e := &entries[i]; e.covers(timestamp) {
			if e.key.verify(digest, sig) {
				return ReasonAccepted
			}
			valid = true
		}
	}
	for i := range entries {
		if e := &entries[i]; !e.covers(timestamp) && e.near(timestamp) && e.key.verify(digest, sig) {
			return ReasonKeyNotValid
		}
	}
	if !valid {
		return ReasonNoKey
	}
	return ReasonBadSignature
}

func (e *keyEntry) covers(t int64) bool {
	return e.from <= t && (t < e.until || e.until == math.MaxInt64)
}

// near reports whether t is less than keyGrace outside the key's time.
func (e *keyEntry) near(t int64) bool {
	return since(e.from, t) < keyGrace && since(t, e.until) < keyGrace
}

// unixNano is t in Unix nanoseconds, or the end of their range on its side.
func unixNano(t time.Time) int64 {
	switch s := t.Unix(); {
	case s < math.MinInt64/int64(time.Second):
		return math.MinInt64
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// since is a - b, or the end of the range on its side.
func since(a, b int64) time.Duration {
	d := a - b
	if (a >= b) != (d >= 0) { // overflow
		if a >= b {
			return math.MaxInt64
		}
		return math.MinInt64
	}
	return time.Duration(d)
}
