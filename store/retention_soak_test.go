//go:build soak

package store_test

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSoakRetention(t *testing.T) {
	cases(t, 1_000_000)
	rapid.Check(t, retention)
}
