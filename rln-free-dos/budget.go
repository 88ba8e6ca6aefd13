package dosguard

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/status-im/shoal/message"
)

// Defaults of [BudgetConfig].
const (
	DefaultBudgetTimeout = 500 * time.Millisecond // for a call
	DefaultMaxStuck      = 16                     // calls at once
	DefaultCloseWait     = time.Second            // for all calls
)

// BudgetConfig configures a [Budget]. The zero value has the defaults.
type BudgetConfig struct {
	// Name is what errors call the validator. "": "validator".
	Name string
	// Timeout is how long a call may take. 0: DefaultBudgetTimeout.
	Timeout time.Duration
	// MaxStuck is how many calls run at once, those included that were abandoned
	// because they ignored the end of their context. When that many are abandoned
	// the validator isn't called any more until one returns. 0: DefaultMaxStuck.
	MaxStuck int
	// CloseWait is how long Close waits for running calls. 0: DefaultCloseWait.
	CloseWait time.Duration
	// Counters count what went wrong. Nil: the budget's own.
	Counters *Counters
}

// Budget runs a validator that somebody plugged in, so that it can do no harm:
// each call runs in a goroutine of its own with a deadline, one that ignores it is
// left behind, and there are never more of them than MaxStuck; panics and
// nonsensical verdicts are contained. In all these cases the message is ignored.
type Budget struct {
	validator message.Validator
	cfg       BudgetConfig

	slots  chan struct{}
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex
	running  map[*budgetCall]struct{}
	stuck    int
	closed   bool
	idle     chan struct{} // closed when closed and nothing runs
	panicked *PanicError
}

type budgetCall struct {
	began     time.Time
	abandoned bool
}

// NewBudget returns v within bounds. Close it when it isn't needed any more.
func NewBudget(v message.Validator, cfg BudgetConfig) *Budget {
	cfg.Name = cmp.Or(cfg.Name, "validator")
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultBudgetTimeout
	}
	if cfg.MaxStuck <= 0 {
		cfg.MaxStuck = DefaultMaxStuck
	}
	if cfg.CloseWait <= 0 {
		cfg.CloseWait = DefaultCloseWait
	}
	if cfg.Counters == nil {
		cfg.Counters = new(Counters)
	}
	b := &Budget{
		validator: v,
		cfg:       cfg,
		slots:     make(chan struct{}, cfg.MaxStuck),
		running:   map[*budgetCall]struct{}{},
		idle:      make(chan struct{}),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Validate is the bounded [message.Validator]. It returns at the latest when the
// timeout has passed, when ctx ends or when the Budget is closed.
func (b *Budget) Validate(ctx context.Context, in *message.Received) message.Verdict {
	verdict, reason := b.validate(ctx, in)
	if reason != ReasonAccepted {
		b.cfg.Counters.add(reason)
		return message.Ignore
	}
	return verdict
}

// validate returns the validator's verdict with ReasonAccepted, or why there is
// none.
func (b *Budget) validate(ctx context.Context, in *message.Received) (message.Verdict, Reason) {
	// Deadline and Close are the call's own, so that values of the caller's
	// context reach the validator but nothing outlives the two.
	callCtx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	stop := context.AfterFunc(b.ctx, cancel)
	defer stop()

	if reason := b.enter(callCtx); reason != ReasonAccepted {
		return message.Ignore, b.blame(ctx, reason)
	}
	call := &budgetCall{began: time.Now()}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.slots
		return message.Ignore, ReasonCanceled
	}
	b.running[call] = struct{}{}
	b.mu.Unlock()

	type answer struct {
		verdict message.Verdict
		reason  Reason
	}
	answers := make(chan answer, 1)
	go func() {
		a := answer{message.Ignore, ReasonBadVerdict} // if the validator ends its goroutine
		defer b.leave(call)
		defer func() { answers <- a }()
		defer func() {
			if p := recover(); p != nil {
				a = answer{message.Ignore, ReasonPanic}
				b.keepPanic(p)
			}
		}()
		if v := b.validator(callCtx, in); v == message.Accept || v == message.Ignore || v == message.Reject {
			a = answer{v, ReasonAccepted}
		}
	}()

	select {
	case a := <-answers:
		// An answer that came with the end of the context is no answer: the
		// validator gave up.
		if a.reason == ReasonAccepted && callCtx.Err() != nil {
			return message.Ignore, b.blame(ctx, ReasonTimeout)
		}
		return a.verdict, a.reason
	case <-callCtx.Done():
		b.abandon(call)
		return message.Ignore, b.blame(ctx, ReasonTimeout)
	}
}

// enter waits for a slot, but not if only abandoned calls could free one.
func (b *Budget) enter(ctx context.Context) Reason {
	select {
	case b.slots <- struct{}{}:
		return ReasonAccepted
	default:
	}
	if b.Stuck() >= b.cfg.MaxStuck {
		return ReasonStuck
	}
	select {
	case b.slots <- struct{}{}:
		return ReasonAccepted
	case <-ctx.Done():
		return ReasonStuck
	}
}

// blame tells the end of the caller's context or of the Budget from a fault of
// the validator.
func (b *Budget) blame(ctx context.Context, reason Reason) Reason {
	if ctx.Err() != nil || b.ctx.Err() != nil {
		return ReasonCanceled
	}
	return reason
}

// abandon leaves a call behind, unless it has just returned.
func (b *Budget) abandon(call *budgetCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.running[call]; ok {
		call.abandoned = true
		b.stuck++
	}
}

// leave is the end of a call, abandoned or not.
func (b *Budget) leave(call *budgetCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.running, call)
	if call.abandoned {
		b.stuck--
	}
	<-b.slots
	if b.closed && len(b.running) == 0 {
		close(b.idle)
	}
}

// Stuck returns how many calls were abandoned and haven't returned yet.
func (b *Budget) Stuck() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stuck
}

// Name returns the validator's name.
func (b *Budget) Name() string { return b.cfg.Name }

// Counters returns the counts of what went wrong.
func (b *Budget) Counters() *Counters { return b.cfg.Counters }

// PanicError is what a validator panicked with.
type PanicError struct {
	Name  string    // of the validator
	Value string    // the panic's value as text, at most 1 KiB
	Stack string    // where it happened, at most 16 KiB
	At    time.Time // when
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("dosguard: %s panicked: %s", e.Name, e.Value) }

// LastPanic returns what the validator panicked with last, or nil.
func (b *Budget) LastPanic() *PanicError {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.panicked
}

func (b *Budget) keepPanic(value any) {
	text := func(s string, n int) string { return string([]byte(s[:min(n, len(s))])) }
	p := &PanicError{
		Name:  b.cfg.Name,
		Value: text(fmt.Sprint(value), 1<<10),
		Stack: text(string(debug.Stack()), 16<<10),
		At:    time.Now(),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.panicked = p
}

// StuckError is what Close returns when calls don't end.
type StuckError struct {
	Name  string // of the validator
	Calls int    // that are still running
	// Longest is how long the first of them has been running.
	Longest time.Duration
}

// Error implements error.
func (e *StuckError) Error() string {
	return fmt.Sprintf("dosguard: %s: %d calls still running, the first for %v; they ignore the end of their context",
		e.Name, e.Calls, e.Longest.Round(time.Millisecond))
}

// Close makes Validate ignore everything, ends the context of running calls and
// waits for them, at most CloseWait. The error is a [*StuckError] if some are left
// behind. Calling it again tells the state of then.
func (b *Budget) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		if len(b.running) == 0 {
			close(b.idle)
		}
	}
	b.mu.Unlock()
	b.cancel()

	timer := time.NewTimer(b.cfg.CloseWait)
	defer timer.Stop()
	select {
	case <-b.idle:
		return nil
	case <-timer.C:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.running) == 0 {
		return nil
	}
	e := &StuckError{Name: b.cfg.Name, Calls: len(b.running)}
	for call := range b.running {
		e.Longest = max(e.Longest, time.Since(call.began))
	}
	return e
}
