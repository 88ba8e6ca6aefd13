package p2ptest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Bubble runs f as synctest.Test does: in virtual time, which stands still
// while anything happens and jumps when nothing can.
//
// In race builds it also holds the process to one processor meanwhile. Go's
// race detector keeps a single context for all timers of a bubble, and two
// goroutines that poll expired timer channels at the same moment corrupt it:
// the process dies with SIGSEGV or "ThreadSanitizer: CHECK failed" (Go issue
// 78156, seen up to 1.26.8). The detector judges by happens-before and finds
// races on one processor as well.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if raceEnabled {
		oneProcessor.enter()
		t.Cleanup(oneProcessor.leave)
	}
	synctest.Test(t, f)
}

var oneProcessor procs

// procs counts the bubbles that are open, since tests may run in parallel.
type procs struct {
	mu   sync.Mutex
	open int
	prev int
}

func (p *procs) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == 0 {
		p.prev = runtime.GOMAXPROCS(1)
	}
	p.open++
}

func (p *procs) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if p.open == 0 {
		runtime.GOMAXPROCS(p.prev)
	}
}
