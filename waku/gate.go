package waku

import (
	"context"
	"sync"
	"time"
)

// gate is shut while the node is paused. Every loop that ticks or asks passes it, and
// waits there without a timer.
type gate struct {
	life context.Context // the node's

	mu     sync.Mutex
	paused bool // what the application wants
	open   bool
	// run ends when the gate shuts, because of ErrPaused, and is another one each
	// time it opens.
	run    context.Context
	end    context.CancelCauseFunc
	change chan struct{} // closed at the next change
}

func newGate(life context.Context) *gate {
	g := &gate{life: life, open: true, change: make(chan struct{})}
	g.run, g.end = context.WithCancelCause(context.Background())
	return g
}

// changed tells all who look. mu is held.
func (g *gate) changed() {
	close(g.change)
	g.change = make(chan struct{})
}

// shut ends the present run at once.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused {
		return
	}
	g.paused, g.open = true, false
	g.end(ErrPaused)
	g.changed()
}

// wish asks for the gate to be opened again.
func (g *gate) wish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused {
		g.paused = false
		g.changed()
	}
}

// reopen begins a new run, unless it was called off.
func (g *gate) reopen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused {
		return false
	}
	g.open = true
	g.run, g.end = context.WithCancelCause(context.Background())
	g.changed()
	return true
}

func (g *gate) look() (paused, open bool, run context.Context, change <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.paused, g.open, g.run, g.change
}

func (g *gate) isOpen() bool {
	_, open, _, _ := g.look()
	return open
}

// pass waits until the gate is open; not ok: ctx has ended.
func (g *gate) pass(ctx context.Context) (run context.Context, ok bool) {
	for {
		_, open, run, change := g.look()
		switch {
		case ctx.Err() != nil:
			return run, false
		case open:
			return run, true
		}
		select {
		case <-change:
		case <-ctx.Done():
		}
	}
}

// enter is pass for calls of the application: while the node is paused they fail,
// and what takes Resume a moment they wait for.
func (g *gate) enter(ctx context.Context) (run context.Context, err error) {
	for {
		paused, open, run, change := g.look()
		switch {
		case g.life.Err() != nil:
			return nil, errNodeClosed
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case paused:
			return nil, ErrPaused
		case open:
			return run, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
		case <-g.life.Done():
		}
	}
}

// during returns a context that ends with run too.
func during(ctx, run context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(run, func() { cancel(context.Cause(run)) })
	return ctx, func() { stop(); cancel(nil) }
}

// rest is pause for loops: when the gate shuts meanwhile, it returns when that is
// open again.
func (g *gate) rest(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	run, ok := g.pass(ctx)
	if !ok {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	case <-run.Done():
		timer.Stop()
		g.pass(ctx)
	}
	return ctx.Err() == nil
}
