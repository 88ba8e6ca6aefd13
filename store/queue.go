package store

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// queue decides whose turn it is to ask the archive: so many at once, and only
// while the answers that wait to be sent leave room for more. Those of one peer
// may have a share of that room. Who comes first is first, apart from peers that
// don't take what they asked for.
type queue struct {
	turns   int // how many ask at once
	room    int // bytes
	share   int // bytes
	page    int // bytes that a turn counts for, until its answer does
	waiting int // how many may wait

	mu      sync.Mutex
	running int
	held    int
	holds   map[peer.ID]int // only peers for which something is held
	list    []*waiter
	sign    time.Time // of life: the last answer, or since when somebody asks
}

// waiter is a question that waits for its turn.
type waiter struct {
	from  peer.ID
	ready chan struct{} // closed when it has its turn
}

func newQueue(c ServerConfig) *queue {
	return &queue{
		turns: c.Queries, room: c.AnswerBytes, share: max(c.AnswerBytes/shares, 1), page: c.PageBytes,
		waiting: c.Waiting, holds: make(map[peer.ID]int),
	}
}

// enter takes a turn, or a place in the queue. There may be no room there either.
func (q *queue) enter(from peer.ID) (w *waiter, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w = &waiter{from, make(chan struct{})}
	q.list = append(q.list, w)
	q.grant()
	if len(q.list) > q.waiting {
		q.list = q.list[:len(q.list)-1] // nobody else can be the last
		return nil, false
	}
	return w, true
}

// grant gives turns to those who may have one. The lock is held.
func (q *queue) grant() {
	q.list = slices.DeleteFunc(q.list, func(w *waiter) bool {
		if q.running >= q.turns || q.held >= q.room || q.holds[w.from] >= q.share {
			return false
		}
		if q.running++; q.running == 1 {
			q.sign = time.Now()
		}
		q.add(w.from, q.page)
		close(w.ready)
		return true
	})
}

// abandon gives up a place. It fails if the turn has come meanwhile.
func (q *queue) abandon(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.list, w)
	if i < 0 {
		return false
	}
	q.list = slices.Delete(q.list, i, i+1)
	return true
}

// leave gives a turn back.
func (q *queue) leave(from peer.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.add(from, -q.page)
	q.grant()
}

// answered says that the archive has answered.
func (q *queue) answered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sign = time.Now()
}

// quiet is for how long the archive has been asked and hasn't answered anybody.
func (q *queue) quiet() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running == 0 {
		return 0
	}
	return time.Since(q.sign)
}

// hold takes room for an answer, more than there is if need be.
func (q *queue) hold(from peer.ID, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(from, n)
}

// drop gives it back.
func (q *queue) drop(from peer.ID, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(from, -n)
	q.grant()
}

// add counts n bytes more for a peer. The lock is held.
func (q *queue) add(from peer.ID, n int) {
	q.held += n
	if q.holds[from] += n; q.holds[from] == 0 {
		delete(q.holds, from)
	}
}
