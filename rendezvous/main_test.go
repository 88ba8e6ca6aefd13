package rendezvous_test

import (
	"testing"

	"github.com/status-im/shoal/internal/p2ptest"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }
