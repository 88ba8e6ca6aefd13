package postgres_test

import (
	"os"
	"testing"

	"github.com/status-im/shoal/internal/pgtest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		child(url, os.Getenv(childSpool))
		return
	}
	pgtest.Main(m)
}
