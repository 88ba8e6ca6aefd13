package waku_test

import (
	"bytes"
	"errors"
	"io"
	"runtime/trace"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	exptrace "golang.org/x/exp/trace"
)

// outside runs what can't be started in a bubble, such as a trace.
type outside chan func()

// newOutside is called before the bubble begins.
func newOutside(t *testing.T) outside {
	o := make(outside)
	go func() {
		for f := range o {
			f()
		}
	}()
	t.Cleanup(func() { close(o) })
	return o
}

// do runs f and waits for it.
func (o outside) do(f func()) {
	o <- f
	o <- func() {} // f is over
}

// wakeups counts, by an execution trace of the whole process, how often goroutines
// ran while f did: each time one went back to wait, and each one begun. They are
// counted by the function they wait in, those of this module in sdk. The test's own
// goroutines don't count, nor do waits for a lock: they are of somebody who is awake, and
// depend on how busy the machine is.
func wakeups(t *testing.T, o outside, f func()) (sdk, others map[string]int) {
	t.Helper()
	if trace.IsEnabled() {
		t.Skip("somebody traces already")
	}
	var buf bytes.Buffer
	var err error
	o.do(func() { err = trace.Start(&buf) })
	require.NoError(t, err)
	f()
	o.do(trace.Stop)
	r, err := exptrace.NewReader(&buf)
	require.NoError(t, err)
	sdk, others = map[string]int{}, map[string]int{}
	for {
		e, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			return sdk, others
		}
		require.NoError(t, err)
		if e.Kind() != exptrace.EventStateTransition {
			continue
		}
		st := e.StateTransition()
		if st.Resource.Kind != exptrace.ResourceGoroutine {
			continue
		}
		from, to := st.Goroutine()
		slept := from == exptrace.GoRunning && to == exptrace.GoWaiting
		begun := from == exptrace.GoNotExist && to == exptrace.GoRunnable
		if !slept && !begun {
			continue
		}
		switch who, ours := partOf(st.Stack); {
		case ours:
			sdk[who]++
		case who != "":
			others[who]++
		}
	}
}

// partOf names the function that a stack waits in, and tells whether it is the
// SDK's, the library of gossipsub included. Empty: the test's, or the runtime's own.
func partOf(stack exptrace.Stack) (who string, sdk bool) {
	for frame := range stack.Frames() {
		name := frame.Func
		switch {
		case strings.Contains(name, "sync.(*Mutex)"), strings.Contains(name, "sync.(*RWMutex)"):
			return "", false
		case strings.HasPrefix(name, "testing."), strings.Contains(name, "waku_test."):
			return "", false
		case strings.HasPrefix(name, "github.com/status-im/shoal/internal/p2ptest."): // the wire
		case strings.HasPrefix(name, "github.com/status-im/shoal/"), strings.HasPrefix(name, "github.com/libp2p/go-libp2p-pubsub"):
			return name, true
		case who == "" && strings.Contains(name, "/") && !strings.HasPrefix(name, "internal/") && !strings.HasPrefix(name, "runtime/"):
			who = name
		}
	}
	return who, false
}
