//go:build soak

package scorecard

import "testing"

func TestSoakSixtyNodes(t *testing.T)            { liveInTown(t, 60) }
func TestSoakSixtyNodesFromOneName(t *testing.T) { liveByName(t, 60) }
