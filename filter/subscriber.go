package filter

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// subscriber is a peer that wants something, and what waits for it. It has a
// goroutine only while something is being sent, and for the first seconds of a
// stream.
type subscriber struct {
	srv  *Server
	peer peer.ID

	// Server.mu guards these.
	held     map[string]wants // by pubsub topic
	criteria int              // in held
	seen     time.Time        // its last request
	away     time.Time        // since when it has been seen without a connection

	mu      sync.Mutex // never held while anything waits
	ended   bool
	queue   queue
	absent  bool           // there was no connection when last we looked
	single  bool           // each push needs a stream of its own
	singles int            // workers that send such
	pace    reqresp.Bucket // of their streams
	kept    *kept          // the stream for all pushes, if there is one
	writing bool           // a worker is busy with it

	failures   int       // in a row
	lastFailed time.Time // what began before tells nothing new
	notBefore  time.Time
	dropped    uint64 // since it was told
}

func newSubscriber(s *Server, p peer.ID) *subscriber {
	return &subscriber{srv: s, peer: p, held: make(map[string]wants)}
}

// expired reports whether u hasn't been heard of for too long.
func (u *subscriber) expired(now time.Time, lifetime time.Duration) bool {
	return now.Sub(u.seen) >= lifetime
}

// maxSingles is how many pushes are on their way at once to a subscriber that needs
// a stream for each.
const maxSingles = 8

// item is a push that waits.
type item struct {
	frame []byte // shared with others
	tries int    // that failed, by this push alone
}

// queue is what waits, the oldest first.
type queue struct {
	items []item
	bytes int
}

// add appends x and drops the oldest beyond the limits, but never all.
func (q *queue) add(x item, most, mostBytes int) (dropped int) {
	q.items = append(q.items, x)
	q.bytes += len(x.frame)
	for len(q.items) > 1 && (len(q.items) > most || q.bytes > mostBytes) {
		q.take()
		dropped++
	}
	return dropped
}

// back puts pushes back where they were, at the front, as far as there is room.
func (q *queue) back(items []item, most, mostBytes int) (dropped int) {
	all := append(append(make([]item, 0, len(items)+len(q.items)), items...), q.items...)
	*q = queue{}
	for _, x := range all {
		dropped += q.add(x, most, mostBytes)
	}
	return dropped
}

func (q *queue) take() item {
	x := q.items[0]
	q.items[0] = item{}
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil // an idle subscriber keeps no memory
	}
	q.bytes -= len(x.frame)
	return x
}

// push lets a frame wait for its turn, and the oldest go if there are too many.
func (u *subscriber) push(frame []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return
	}
	u.lose(u.queue.add(item{frame: frame}, u.srv.cfg.Queue, u.srv.cfg.QueueBytes))
	if !u.absent || u.srv.connected(u) {
		u.start()
	}
}

// lose counts what was dropped. u.mu is held.
func (u *subscriber) lose(n int) {
	u.dropped += uint64(n)
	u.srv.stats.dropped.Add(uint64(n))
}

// wake lets what waits be sent: the subscriber is there.
func (u *subscriber) wake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.start()
}

// start starts a worker if one more has something to do. u.mu is held.
func (u *subscriber) start() {
	u.absent = false
	switch {
	case u.ended || len(u.queue.items) == 0:
	case u.single && u.singles < u.mostSingles():
		u.singles++
		u.srv.wg.Go(func() { u.work(true) })
	case !u.single && !u.writing && u.hasRoom():
		u.writing = true
		u.srv.wg.Go(func() { u.work(false) })
	}
}

func (u *subscriber) mostSingles() int {
	if u.failures > 0 {
		return 1 // is enough to find out
	}
	return maxSingles
}

func (u *subscriber) hasRoom() bool { return u.kept == nil || u.kept.hasRoom(u.srv.cfg) }

// end drops what waits and ends the stream: by its end if all is well, and at once
// if not, or in the middle of a push. It doesn't wait: who doesn't read may hold up even the end. Whoever calls
// it is waited for by Close.
func (u *subscriber) end(reason error) {
	u.mu.Lock()
	u.ended = true
	k, writing := u.kept, u.writing
	u.kept = nil
	u.lose(len(u.queue.items))
	u.queue = queue{}
	lost := u.takeDropped(reason != nil)
	u.mu.Unlock()
	if lost > 0 {
		tell(u.srv.cfg.OnFailure, u.peer, &OverflowError{Dropped: lost})
	}
	switch {
	case k == nil:
	case reason == nil && !writing:
		u.srv.wg.Go(func() { k.stream.Close() })
	default:
		u.srv.wg.Go(func() { k.stream.Reset() })
	}
}

// takeDropped returns what hasn't been told, if it shall be. u.mu is held.
func (u *subscriber) takeDropped(tell bool) (n uint64) {
	if tell {
		n, u.dropped = u.dropped, 0
	}
	return n
}
