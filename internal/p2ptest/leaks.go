package p2ptest

import (
	"bytes"
	"regexp"
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

// LeakOptions are the goroutines that are nobody's leak: a closed leveldb, which discv5's
// library keeps its nodes in, has one for up to a second. Hosts as this package and
// libp2p.New build them take everything along when closed.
func LeakOptions() []goleak.Option {
	return []goleak.Option{goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain")}
}

// Goroutines counts goroutines exactly: those of the caller's bubble, or of the
// whole process outside of bubbles. runtime.NumGoroutine may be off by some
// dozens for a moment, and takes in what other tests have left to finish.
func Goroutines() int {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		n := runtime.Stack(buf, true)
		if n == size {
			continue
		}
		headers := header.FindAllSubmatch(buf[:n], -1)
		count := 0
		for _, h := range headers { // the caller's own comes first
			if bytes.Equal(h[1], headers[0][1]) {
				count++
			}
		}
		return count
	}
}

// header matches a stack's first line, as in
// "goroutine 7 [select (durable), synctest bubble 1]:".
var header = regexp.MustCompile(`(?m)^goroutine \d+ [^\n]*?(synctest bubble \d+|)\]:$`)
