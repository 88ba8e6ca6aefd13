package relay

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/status-im/shoal/message"
)

const (
	// knownFor is how long a delivered message is remembered at least: as long as
	// a signed one may be on its way, its window on both sides.
	knownFor = 10 * time.Minute
	// maxKnown bounds each half of the memory.
	maxKnown = 1 << 18
	// knownLead is how far ahead of its arrival a timestamp counts when it is noted how
	// far the memory reaches back.
	knownLead = 5 * time.Minute
)

// knownKey keys the sums by which messages are remembered, so that strangers can't
// foresee them.
type knownKey [16]byte

// sum is of 64 bits.
func (k *knownKey) sum(h message.Hash) uint64 {
	var b [len(k) + len(h)]byte
	copy(b[:], k[:])
	copy(b[len(k):], h[:])
	s := sha256.Sum256(b[:])
	return binary.LittleEndian.Uint64(s[:])
}

// known remembers by their hashes which messages were delivered, whichever way they
// came. GossipSub's own memory is shorter and knows messages by their bytes.
type known struct {
	mu         sync.Mutex
	young, old half
	turned     time.Time
	ageless    bool  // nothing is forgotten for its age
	forgotten  int64 // nothing newer was
}

// half is one half of the memory; newest is the newest timestamp in it.
type half struct {
	m      map[uint64]knownEntry
	newest int64
}

// knownEntry is a message that came. Had is set if a reader of the application wanted it.
type knownEntry struct {
	timestamp int64
	had       bool
}

// add tells whether the message is news here, and whether it is to readers, of whom one
// wants it. now has a monotonic part.
func (k *known) add(sum uint64, timestamp int64, wanted bool, now time.Time) (news, first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young.m == nil || now.Sub(k.turned) >= knownFor && !k.ageless || len(k.young.m) >= maxKnown {
		k.turn(now)
	}
	e, young := k.young.m[sum]
	if !young {
		e.had = k.old.m[sum].had
	}
	_, old := k.old.m[sum]
	news, first = !young && !old, wanted && !e.had
	k.young.m[sum] = knownEntry{timestamp, e.had || wanted}
	if lead := time.Now().Add(knownLead).UnixNano(); timestamp <= lead {
		k.young.newest = max(k.young.newest, timestamp)
	}
	return news, first
}

// turn forgets the older half. mu is held.
func (k *known) turn(now time.Time) {
	k.forgotten = max(k.forgotten, k.old.newest)
	k.old, k.young, k.turned = k.young, half{m: map[uint64]knownEntry{}}, now
}

func (k *known) keep(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ageless = on
}

func (k *known) get(sum uint64) (timestamp int64, came, had bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.young.m[sum]
	if !ok {
		e, ok = k.old.m[sum]
	}
	return e.timestamp, ok, e.had
}
