//go:build !linux

package pgtest_test

import "testing"

// Elsewhere a server outlives a test process that is killed.
func testDeath(*testing.T, string) {}
