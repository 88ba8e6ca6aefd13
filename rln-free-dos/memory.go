package dosguard

import (
	"encoding/binary"
	"math"
	"sync"
	"time"
)

// memory remembers the digests of accepted messages for as long as their
// timestamps are inside the window, so that each is accepted once.
//
// Digests are kept in buckets by timestamp: a replay has the timestamp of its
// original, so it is looked for in one bucket, and what has left the window is
// forgotten a bucket at a time. Nothing runs in the background: expiry happens
// when a bucket is opened, and there are never more of them than the window is
// bucket widths long, from its far past to its far future.
//
// What isn't remembered any more must not be accepted either. floor is the
// newest timestamp that was forgotten, whether because the window had passed,
// which matters when the clock is then set back, or because the memory was full.
type memory struct {
	window time.Duration
	limit  int // digests

	mu      sync.Mutex
	floor   int64
	size    int
	buckets map[int64]*bucket
}

// bucketsPerWindow makes the first loss of a full memory a small one.
const bucketsPerWindow = 30

type bucket struct {
	newest  int64
	digests map[shortDigest]struct{}
	tags    map[uint64]struct{} // of the signatures, so that a look costs no hash
}

// shortDigest is enough of a SHA-256 for nobody to find a second message that
// has it, and half the memory.
type shortDigest [16]byte

// tag is part of a signature. Two messages with one tag are unheard of, unless
// one is a copy of the other or bears its signature.
func tag(sig []byte) uint64 { return binary.LittleEndian.Uint64(sig) }

func newMemory(window time.Duration, limit int) *memory {
	return &memory{window: window, limit: limit, floor: math.MinInt64}
}

func (m *memory) index(timestamp int64) int64 {
	return timestamp / max(1, int64(m.window)/bucketsPerWindow)
}

// peek says what is already certain about a message with this timestamp and
// signature tag: ReasonForgotten, or with known that a copy of the signature was
// accepted, so that the digest decides. It changes nothing.
func (m *memory) peek(timestamp int64, tag uint64) (reason Reason, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if timestamp <= m.floor {
		return ReasonForgotten, false
	}
	if b := m.buckets[m.index(timestamp)]; b != nil {
		_, known = b.tags[tag]
	}
	return ReasonAccepted, known
}

// contains reports whether a digest was accepted.
func (m *memory) contains(timestamp int64, digest *[32]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.buckets[m.index(timestamp)]
	return b != nil && b.has(digest)
}

// accept remembers a digest. Of any number of calls with one digest at most one
// returns ReasonAccepted.
func (m *memory) accept(timestamp int64, digest *[32]byte, tag uint64, now int64) Reason {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(timestamp)
	b := m.buckets[i]
	if b != nil && b.has(digest) {
		return ReasonReplay
	}
	if b == nil {
		m.expire(now)
	}
	if m.size >= m.limit && !m.evict(i) {
		return ReasonForgotten
	}
	if timestamp <= m.floor {
		return ReasonForgotten
	}
	if b = m.buckets[i]; b == nil {
		b = &bucket{
			newest:  timestamp,
			digests: map[shortDigest]struct{}{},
			tags:    map[uint64]struct{}{},
		}
		if m.buckets == nil {
			m.buckets = map[int64]*bucket{}
		}
		m.buckets[i] = b
	}
	b.newest = max(b.newest, timestamp)
	b.digests[shortDigest(digest[:16])] = struct{}{}
	b.tags[tag] = struct{}{}
	m.size++
	return ReasonAccepted
}

// expire forgets the buckets that have left the window.
func (m *memory) expire(now int64) {
	for i, b := range m.buckets {
		if since(now, b.newest) > m.window {
			m.forget(i, b)
		}
	}
}

// evict makes room for a digest of bucket i by forgetting the oldest bucket,
// unless i is older still.
func (m *memory) evict(i int64) bool {
	oldest := int64(math.MaxInt64)
	for j := range m.buckets {
		oldest = min(oldest, j)
	}
	if i < oldest {
		return false
	}
	m.forget(oldest, m.buckets[oldest])
	return true
}

func (m *memory) forget(i int64, b *bucket) {
	m.floor = max(m.floor, b.newest)
	m.size -= len(b.digests)
	delete(m.buckets, i)
}

func (b *bucket) has(digest *[32]byte) bool {
	_, ok := b.digests[shortDigest(digest[:16])]
	return ok
}
