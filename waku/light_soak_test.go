//go:build soak

package waku_test

import (
	"fmt"
	"testing"
)

// A thousand absences, in pieces that can be run by themselves.
func TestSoakLightMemberComesAndGoes(t *testing.T) {
	for piece := range 20 {
		t.Run(fmt.Sprint(piece), func(t *testing.T) { comesAndGoes(t, 50) })
	}
}
