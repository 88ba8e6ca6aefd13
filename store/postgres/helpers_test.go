package postgres_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// spools gives each archive that is open a directory, and those of the closed
// ones to the next.
type spools struct {
	mu   sync.Mutex
	dir  string
	free []string
	made int
}

func newSpools(t testing.TB) *spools { return &spools{dir: t.TempDir()} }

func (s *spools) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		dir := s.free[n-1]
		s.free = s.free[:n-1]
		return dir
	}
	s.made++
	return filepath.Join(s.dir, strconv.Itoa(s.made))
}

func (s *spools) give(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, dir)
}

// open opens an archive whose spool is free again when it is closed.
func (s *spools) open(t testing.TB, url string, cfg postgres.Config) (store.Archive, error) {
	cfg.SpoolDir = s.take()
	a, err := postgres.Open(context.Background(), url, cfg)
	if err != nil {
		s.give(cfg.SpoolDir)
		return nil, err
	}
	return &archive{Archive: a, closed: func() { s.give(cfg.SpoolDir) }}, nil
}

// archive tells when it is closed.
type archive struct {
	*postgres.Archive
	once   sync.Once
	closed func()
}

func (a *archive) Close() error {
	err := a.Archive.Close()
	a.once.Do(a.closed)
	return err
}

// logger writes to the test's log.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// times is how often something is done: a quarter of n with -short.
func times(n int) int {
	if testing.Short() {
		return (n + 3) / 4
	}
	return n
}
