package p2ptest

import (
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
