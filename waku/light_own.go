package waku

import (
	"sync"

	"github.com/status-im/shoal/message"
)

// maxOwn is how many sent messages are remembered.
const maxOwn = 1024

// ownMessages are the last that light members of a shard have sent. Service peers
// push them back, often before they say that they took them.
type ownMessages struct {
	mu   sync.Mutex
	set  map[message.Hash]struct{}
	ring []message.Hash
	next int
}

func (o *ownMessages) add(h message.Hash) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set == nil {
		o.set = map[message.Hash]struct{}{}
	}
	if _, ok := o.set[h]; ok {
		return
	}
	o.set[h] = struct{}{}
	if len(o.ring) < maxOwn {
		o.ring = append(o.ring, h)
		return
	}
	delete(o.set, o.ring[o.next])
	o.ring[o.next] = h
	o.next = (o.next + 1) % maxOwn
}

func (o *ownMessages) has(h message.Hash) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.set[h]
	return ok
}
