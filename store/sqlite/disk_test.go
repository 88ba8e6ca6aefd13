//go:build !linux

package sqlite_test

import "testing"

// smallDisk needs to mount one.
func smallDisk(t *testing.T, size int) string {
	t.Skip("no disk of its own for this test on this system")
	return ""
}
