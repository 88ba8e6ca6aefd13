package lightpush

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// lanes puts the pushes to each peer in a line: one at a time, in the order in
// which they came, and no faster than the peer likes.
type lanes struct {
	mu      sync.Mutex
	peers   map[peer.ID]*lane
	sweepAt int // so many lanes
}

// lane is one peer's. What isn't about the line belongs to who is at its head.
type lane struct {
	users   int // in the line and at its head
	waiting []chan struct{}

	next    time.Time // when the next push is due in the long run
	held    time.Time // none before
	refused int       // pushes in a row that were too many
}

// minLanes is how many lanes there are before the first look for unused ones.
const minLanes = 256

// enter returns when the caller is at the head of the peer's line. leave must
// follow, unless there is an error, which is the context's.
func (l *lanes) enter(ctx context.Context, p peer.ID) (*lane, error) {
	l.mu.Lock()
	n := l.lane(p)
	if n.users++; n.users == 1 {
		l.mu.Unlock()
		return n, nil
	}
	turn := make(chan struct{})
	n.waiting = append(n.waiting, turn)
	l.mu.Unlock()

	select {
	case <-turn:
		return n, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(n.waiting, turn); i >= 0 {
		n.waiting = slices.Delete(n.waiting, i, i+1)
		n.users--
	} else { // it came at this moment
		n.leave()
	}
	return nil, context.Cause(ctx)
}

func (l *lanes) leave(n *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.leave()
}

func (n *lane) leave() {
	n.users--
	if len(n.waiting) > 0 {
		close(n.waiting[0])
		n.waiting = slices.Delete(n.waiting, 0, 1)
	}
}

// lane returns the peer's lane. Those that nobody uses and that remember nothing
// are forgotten when there are many.
func (l *lanes) lane(p peer.ID) *lane {
	if n := l.peers[p]; n != nil {
		return n
	}
	if len(l.peers) >= max(l.sweepAt, minLanes) {
		now := time.Now()
		for q, n := range l.peers {
			if n.users == 0 && !n.next.After(now) && !n.held.After(now) {
				delete(l.peers, q)
			}
		}
		l.sweepAt = 2 * len(l.peers)
	}
	if l.peers == nil {
		l.peers = make(map[peer.ID]*lane)
	}
	n := new(lane)
	l.peers[p] = n
	return n
}

// pace is one push every so often in the long run, and so many at once.
type pace struct {
	every time.Duration
	burst int
}

func newPace(rate float64, burst int) pace {
	if rate <= 0 {
		return pace{}
	}
	return pace{every: time.Duration(float64(time.Second) / rate), burst: max(burst, 1)}
}

// wait waits until it is time for a push and returns how to take it back. The
// error is the context's, or a *TurnError.
func (n *lane) wait(ctx context.Context, p peer.ID, c pace) (undo func(), err error) {
	due := n.next.Add(-time.Duration(max(c.burst-1, 0)) * c.every)
	if n.held.After(due) {
		due = n.held
	}
	d := time.Until(due)
	if deadline, ok := ctx.Deadline(); ok && d > 0 && due.After(deadline) {
		return nil, &TurnError{Peer: p, After: d}
	}
	if err := reqresp.Sleep(ctx, d); err != nil {
		return nil, err
	}
	before := n.next
	if now := time.Now(); n.next.Before(now) {
		n.next = now
	}
	n.next = n.next.Add(c.every)
	return func() { n.next = before }, nil
}

// The pauses after a refusal that names none.
const (
	firstPause   = 2 * time.Second
	longestPause = 30 * time.Second
)

// answered notes whether the peer was asked too often.
func (n *lane) answered(err error) {
	var e *StatusError
	switch {
	case err != nil && !errors.As(err, &e):
		return // it wasn't
	case e == nil || e.Code != StatusTooManyRequests:
		n.refused = 0
		return
	}
	pause := e.RetryAfter
	if pause <= 0 {
		pause = min(firstPause<<min(n.refused, 8), longestPause)
	}
	n.refused++
	n.held = time.Now().Add(pause)
}
