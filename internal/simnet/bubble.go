package simnet

import (
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Main is for programs, not tests: it runs f in a bubble of virtual time and ends the
// process with f's code, without waiting for what f began. Flags have to be parsed
// before; wall is the time that has really passed, which a bubble can't know.
func Main(f func(wall func() time.Duration) (code int)) {
	// A bubble needs a test around it, which testing.Main provides. It would parse
	// the process's arguments as those of a test.
	os.Args = os.Args[:1]
	var passed atomic.Int64
	start := time.Now()
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			passed.Store(int64(time.Since(start)))
		}
	}()
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "simulation", F: func(t *testing.T) {
		synctest.Test(t, func(*testing.T) {
			os.Exit(f(func() time.Duration { return time.Duration(passed.Load()) }))
		})
	}}}, nil, nil)
}
