package relay

import (
	"hash/maphash"
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
)

// known remembers by their hashes which messages were delivered, whichever way they
// came. GossipSub's own memory is shorter and knows messages by their bytes.
type known struct {
	mu         sync.Mutex
	young, old map[uint64]int64 // timestamps
	turned     time.Time
	ageless    bool // nothing is forgotten for its age
}

// add returns false if the message was there. Hashes are kept by a sum of 64 bits
// that strangers can't foresee.
func (k *known) add(seed maphash.Seed, h message.Hash, timestamp int64, now time.Time) bool {
	sum := maphash.Bytes(seed, h[:])
	k.mu.Lock()
	defer k.mu.Unlock()
	age := now.Sub(k.turned)
	if k.young == nil || (age >= knownFor || age < 0) && !k.ageless || len(k.young) >= maxKnown {
		k.old, k.young, k.turned = k.young, map[uint64]int64{}, now
	}
	if _, ok := k.young[sum]; ok {
		return false
	}
	k.young[sum] = timestamp
	_, ok := k.old[sum]
	return !ok
}

func (k *known) keep(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ageless = on
}

func (k *known) get(seed maphash.Seed, h message.Hash) (timestamp int64, ok bool) {
	sum := maphash.Bytes(seed, h[:])
	k.mu.Lock()
	defer k.mu.Unlock()
	if timestamp, ok = k.young[sum]; !ok {
		timestamp, ok = k.old[sum]
	}
	return timestamp, ok
}
