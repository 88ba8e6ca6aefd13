package dosguard_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

func TestBudgetPassesVerdicts(t *testing.T) {
	type key struct{}
	in := received(nil)
	for _, want := range []message.Verdict{message.Accept, message.Ignore, message.Reject} {
		b := dosguard.NewBudget(func(ctx context.Context, got *message.Received) message.Verdict {
			assert.Same(t, in, got)
			assert.Equal(t, "value", ctx.Value(key{}))
			_, limited := ctx.Deadline()
			assert.True(t, limited)
			return want
		}, dosguard.BudgetConfig{})
		assert.Equal(t, want, b.Validate(context.WithValue(t.Context(), key{}, "value"), in))
		assert.NoError(t, b.Close())
		assert.NoError(t, b.Close(), "twice is fine")
		assert.Equal(t, message.Ignore, b.Validate(t.Context(), in), "after Close nothing is asked")
		assert.EqualValues(t, 1, b.Counters().Of(dosguard.ReasonCanceled))
	}
}

func TestBudgetContains(t *testing.T) {
	for name, c := range map[string]struct {
		validator message.Validator
		want      dosguard.Reason
	}{
		"panic":       {func(context.Context, *message.Received) message.Verdict { panic("boom") }, dosguard.ReasonPanic},
		"nil pointer": {func(_ context.Context, in *message.Received) message.Verdict { in.Message.Size(); return 1 }, dosguard.ReasonPanic},
		"goexit":      {func(context.Context, *message.Received) message.Verdict { runtime.Goexit(); return 1 }, dosguard.ReasonBadVerdict},
		"garbage":     {func(context.Context, *message.Received) message.Verdict { return 200 }, dosguard.ReasonBadVerdict},
		"nil":         {nil, dosguard.ReasonPanic},
		"panic in the panic": {func(context.Context, *message.Received) message.Verdict {
			panic(hostile{})
		}, dosguard.ReasonPanic},
	} {
		t.Run(name, func(t *testing.T) {
			b := dosguard.NewBudget(c.validator, dosguard.BudgetConfig{Name: "plugin"})
			defer func() { assert.NoError(t, b.Close()) }()
			for range 50 {
				assert.Equal(t, message.Ignore, b.Validate(t.Context(), received(nil)))
			}
			assert.EqualValues(t, 50, b.Counters().Of(c.want))
			assert.Zero(t, b.Stuck())
			if c.want == dosguard.ReasonPanic {
				require.NotNil(t, b.LastPanic())
				assert.ErrorContains(t, b.LastPanic(), "plugin panicked")
				assert.Contains(t, b.LastPanic().Stack, "budget")
			} else {
				assert.Nil(t, b.LastPanic())
			}
		})
	}
}

// hostile panics again when it is printed, and would print without end.
type hostile struct{}

func (hostile) Error() string { panic(strings.Repeat("again", 1<<16)) }

func TestBudgetPanicIsBounded(t *testing.T) {
	b := dosguard.NewBudget(func(context.Context, *message.Received) message.Verdict {
		panic(strings.Repeat("x", 1<<20))
	}, dosguard.BudgetConfig{})
	b.Validate(t.Context(), received(nil))
	assert.Len(t, b.LastPanic().Value, 1<<10)
	assert.LessOrEqual(t, len(b.LastPanic().Stack), 16<<10)
	assert.NoError(t, b.Close())
}

// One that respects its context is merely slow.
func TestBudgetTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dosguard.NewBudget(func(ctx context.Context, _ *message.Received) message.Verdict {
			<-ctx.Done()
			return message.Accept
		}, dosguard.BudgetConfig{Timeout: 200 * time.Millisecond})
		began := time.Now()
		for range 20 {
			assert.Equal(t, message.Ignore, b.Validate(t.Context(), received(nil)))
			synctest.Wait()
		}
		assert.Equal(t, 20*200*time.Millisecond, time.Since(began))
		assert.EqualValues(t, 20, b.Counters().Of(dosguard.ReasonTimeout))
		assert.Zero(t, b.Stuck())

		// The caller's end is nobody's fault.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		b.Validate(ctx, received(nil))
		assert.EqualValues(t, 20, b.Counters().Of(dosguard.ReasonTimeout))
		assert.EqualValues(t, 1, b.Counters().Of(dosguard.ReasonCanceled))
		synctest.Wait()
		assert.NoError(t, b.Close())
	})
}

// One that ignores its context is left behind, sixteen times at most; then it
// isn't asked any more until a call comes back.
func TestBudgetStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var called, running, most atomic.Int32
		b := dosguard.NewBudget(func(context.Context, *message.Received) message.Verdict {
			called.Add(1)
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-release
			return message.Accept
		}, dosguard.BudgetConfig{Name: "profanity filter", Timeout: time.Second})

		// Many callers at once can't make it more than sixteen either.
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				assert.Equal(t, message.Ignore, b.Validate(t.Context(), received(nil)))
			})
		}
		wg.Wait()
		assert.EqualValues(t, dosguard.DefaultMaxStuck, called.Load())
		assert.EqualValues(t, dosguard.DefaultMaxStuck, most.Load())
		assert.Equal(t, dosguard.DefaultMaxStuck, b.Stuck())

		began := time.Now()
		for range 1000 {
			assert.Equal(t, message.Ignore, b.Validate(t.Context(), received(nil)))
		}
		assert.Zero(t, time.Since(began), "it isn't waited for")
		assert.EqualValues(t, dosguard.DefaultMaxStuck, called.Load())
		assert.EqualValues(t, 1000+84, b.Counters().Of(dosguard.ReasonStuck))

		began = time.Now()
		err := b.Close()
		var stuck *dosguard.StuckError
		require.True(t, errors.As(err, &stuck))
		assert.Equal(t, dosguard.DefaultMaxStuck, stuck.Calls)
		assert.ErrorContains(t, err, "profanity filter: 16 calls still running, the first for 2s")
		assert.Equal(t, dosguard.DefaultCloseWait, time.Since(began))

		close(release)
		synctest.Wait()
		assert.Zero(t, b.Stuck())
		assert.NoError(t, b.Close(), "they did end")
	})
}

// Calls that come back make room.
func TestBudgetRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		slow.Store(true)
		b := dosguard.NewBudget(func(context.Context, *message.Received) message.Verdict {
			if slow.Load() {
				time.Sleep(10 * time.Second)
			}
			return message.Accept
		}, dosguard.BudgetConfig{MaxStuck: 2, Timeout: time.Second})
		for range 5 {
			assert.Equal(t, message.Ignore, b.Validate(t.Context(), received(nil)))
		}
		assert.Equal(t, 2, b.Stuck())
		slow.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Zero(t, b.Stuck())
		assert.Equal(t, message.Accept, b.Validate(t.Context(), received(nil)))
		assert.NoError(t, b.Close())
	})
}

// Slots that are taken by calls in good order are waited for.
func TestBudgetQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dosguard.NewBudget(func(context.Context, *message.Received) message.Verdict {
			time.Sleep(100 * time.Millisecond)
			return message.Accept
		}, dosguard.BudgetConfig{MaxStuck: 2, Timeout: 350 * time.Millisecond})
		var accepted atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if b.Validate(t.Context(), received(nil)) == message.Accept {
					accepted.Add(1)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 6, accepted.Load(), "two at a time within the timeout")
		synctest.Wait()
		assert.NoError(t, b.Close())
	})
}

// Close ends the context of what is running and interrupts who waits.
func TestBudgetCloseWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dosguard.NewBudget(func(ctx context.Context, _ *message.Received) message.Verdict {
			<-ctx.Done()
			return message.Reject
		}, dosguard.BudgetConfig{Timeout: time.Hour, MaxStuck: 1})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { assert.NotEqual(t, message.Accept, b.Validate(t.Context(), received(nil))) })
		}
		synctest.Wait()
		began := time.Now()
		assert.NoError(t, b.Close())
		wg.Wait()
		assert.Zero(t, time.Since(began))
		assert.False(t, errors.Is(b.Close(), net.ErrClosed))
	})
}

func TestBudgetConcurrently(t *testing.T) {
	b := dosguard.NewBudget(func(context.Context, *message.Received) message.Verdict {
		return message.Accept
	}, dosguard.BudgetConfig{Timeout: time.Minute})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 50 {
				assert.Equal(t, message.Accept, b.Validate(t.Context(), received(nil)))
			}
		})
	}
	wg.Wait()
	assert.NoError(t, b.Close())
}
