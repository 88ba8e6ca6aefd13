package p2ptest

import (
	"bytes"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// Leaks runs the tests of a package and fails when goroutines outlive them:
//
//	func TestMain(m *testing.M) { p2ptest.Leaks(m) }
func Leaks(m *testing.M) {
	goleak.VerifyTestMain(m, LeakOptions()...)
}

// LeakOptions are the goroutines that are nobody's leak. There are none: hosts
// as this package and libp2p.New build them take everything along when closed.
func LeakOptions() []goleak.Option {
	return nil
}

// Goroutines counts the goroutines of the process exactly, by their stacks:
// runtime.NumGoroutine may be off by some dozens for a moment.
func Goroutines() int {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return bytes.Count(append([]byte("\n"), buf[:n]...), []byte("\ngoroutine "))
		}
	}
}
