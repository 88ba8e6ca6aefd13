package lightpush

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// turns lets so many in at once. When there are more, peers take turns: who has many
// waiting waits no less, and nobody else waits longer for it.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[peer.ID][]chan struct{}
	next    []peer.ID // those who wait, in the order of their turns
}

func newTurns(n int) *turns { return &turns{free: n, waiting: make(map[peer.ID][]chan struct{})} }

// take waits for a turn, for so long at most, and reports whether there is one. give
// must follow then. The error is the context's.
func (t *turns) take(ctx context.Context, p peer.ID, limit time.Duration) (ok bool, err error) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return true, nil
	}
	turn := make(chan struct{})
	if len(t.waiting[p]) == 0 {
		t.next = append(t.next, p)
	}
	t.waiting[p] = append(t.waiting[p], turn)
	t.mu.Unlock()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-turn:
		return true, nil
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[p], turn)
	switch {
	case i >= 0:
		t.remove(p, i)
		if len(t.waiting[p]) == 0 {
			t.next = slices.DeleteFunc(t.next, func(q peer.ID) bool { return q == p })
		}
		return false, err
	case err != nil: // it came at this moment, too late
		t.pass()
		return false, err
	}
	return true, nil
}

// give gives a turn back.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// pass gives a turn to the next.
func (t *turns) pass() {
	if len(t.next) == 0 {
		t.free++
		return
	}
	p := t.next[0]
	t.next = slices.Delete(t.next, 0, 1)
	close(t.waiting[p][0])
	if t.remove(p, 0); len(t.waiting[p]) > 0 {
		t.next = append(t.next, p)
	}
}

func (t *turns) remove(p peer.ID, i int) {
	if t.waiting[p] = slices.Delete(t.waiting[p], i, i+1); len(t.waiting[p]) == 0 {
		delete(t.waiting, p)
	}
}
