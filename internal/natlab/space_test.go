//go:build nat && linux

package natlab

import (
	"testing"

	"github.com/status-im/shoal/internal/netspace"
)

// space is a machine, or a router.
type space struct{ *netspace.Space }

func newSpace(t *testing.T, name string) *space {
	t.Helper()
	return &space{netspace.New(t, name)}
}
