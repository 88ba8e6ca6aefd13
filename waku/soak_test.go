//go:build soak

package waku_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSoakManyLives(t *testing.T) {
	growth := manyLives(t, 1000) - 1
	t.Logf("the heap grew by %.2f %%", 100*growth)
	require.Less(t, growth, 0.01)
}

func TestSoakProtectedFromTheFirstMoment(t *testing.T) { restartUnderProbes(t, 1000) }
