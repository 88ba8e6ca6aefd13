package postgres_test

import (
	"testing"

	"github.com/status-im/shoal/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
