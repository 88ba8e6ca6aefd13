package store

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// queue decides whose turn it is to ask the archive: so many at once, and only
// while the answers that wait to be sent leave room for more. Those of one peer
// may have a share of that room, and no more than is left for others. First is who had
// his last turn longest ago: one who asks now and then doesn't wait for those who always
// do, however many they are. Between two turns there is time for everything else, so
// that who is first is known to be there.
type queue struct {
	turns   int // how many ask at once
	room    int // bytes
	share   int // bytes
	page    int // bytes that a turn counts for, until its answer does
	waiting int // how many may wait
	breathe func()
	breaths sync.WaitGroup

	mu      sync.Mutex
	resting bool // until breathe returns, which gives the next turn
	running int
	held    int
	holds   map[peer.ID]int // only peers for which something is held
	list    []*waiter       // in the order in which they came
	sign    time.Time       // of life: the last answer, or since when somebody asks

	serial uint64             // of turns
	lately map[peer.ID]uint64 // the last turns of those who had any
}

// maxLately is how many peers are remembered for their turns.
const maxLately = 4096

// waiter is a question that waits for its turn.
type waiter struct {
	from  peer.ID
	last  uint64        // the turn that the peer had last
	ready chan struct{} // closed when it has its turn
	full  chan struct{} // closed when another needs its place more
}

func newQueue(c ServerConfig, breathe func()) *queue {
	return &queue{
		turns: c.Queries, room: c.AnswerBytes, share: max(c.AnswerBytes/shares, 1), page: c.PageBytes,
		waiting: c.Waiting, holds: make(map[peer.ID]int),
		lately: make(map[peer.ID]uint64), breathe: breathe,
	}
}

// enter takes a turn, or a place in the queue. Where there is none left, the latest of
// the peer with most of them has to go.
func (q *queue) enter(from peer.ID) (w *waiter, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w = &waiter{from: from, last: q.lately[from], ready: make(chan struct{}), full: make(chan struct{})}
	q.list = append(q.list, w)
	if q.running == 0 && !q.resting {
		q.grant()
	}
	q.wake()
	if len(q.list) > q.waiting {
		i := q.leastNeeded()
		close(q.list[i].full)
		q.list = slices.Delete(q.list, i, i+1)
	}
	select {
	case <-w.full:
		return nil, false
	default:
		return w, true
	}
}

// leastNeeded is the latest place of the peer that has most. The lock is held.
func (q *queue) leastNeeded() (at int) {
	count, most := map[peer.ID]int{}, 0
	for i, w := range q.list {
		if count[w.from]++; count[w.from] >= most {
			most, at = count[w.from], i
		}
	}
	return at
}

// next is whose turn it is, if there is a turn to be had. The lock is held.
func (q *queue) next() (at int, ok bool) {
	at = -1
	if q.running >= q.turns || q.held >= q.room {
		return at, false
	}
	for i, w := range q.list {
		if (at < 0 || w.last < q.list[at].last) && q.holds[w.from] < min(q.share, q.room-q.held) {
			at = i
		}
	}
	return at, at >= 0
}

// grant gives a turn to who may have one. The lock is held.
func (q *queue) grant() {
	at, ok := q.next()
	if !ok {
		return
	}
	w := q.list[at]
	q.list = slices.Delete(q.list, at, at+1)
	if q.running++; q.running == 1 {
		q.sign = time.Now()
	}
	q.add(w.from, q.page)
	q.had(w.from)
	close(w.ready)
}

// wake gives those turns that there are, a breath before each. The lock is held.
func (q *queue) wake() {
	if _, ok := q.next(); ok {
		q.rest()
	}
}

// rest takes a breath before anybody else gets a turn. Nobody may be waiting: who has read
// his question and not entered yet is ready to run, and would have his turn ahead of those
// whose question nobody has read. The lock is held.
func (q *queue) rest() {
	if q.resting {
		return
	}
	q.resting = true
	q.breaths.Go(func() {
		q.breathe()
		q.mu.Lock()
		defer q.mu.Unlock()
		q.resting = false
		q.grant()
		q.wake()
	})
}

// had notes a peer's turn. The lock is held.
func (q *queue) had(p peer.ID) {
	q.serial++
	for _, w := range q.list {
		if w.from == p {
			w.last = q.serial
		}
	}
	if _, known := q.lately[p]; !known && len(q.lately) >= maxLately {
		for x, at := range q.lately { // the older half
			if at+maxLately/2 < q.serial {
				delete(q.lately, x)
			}
		}
	}
	q.lately[p] = q.serial
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
	q.rest()
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
	q.wake()
}

// add counts n bytes more for a peer. The lock is held.
func (q *queue) add(from peer.ID, n int) {
	q.held += n
	if q.holds[from] += n; q.holds[from] == 0 {
		delete(q.holds, from)
	}
}
