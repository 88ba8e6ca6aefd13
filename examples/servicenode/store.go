package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
	"github.com/status-im/shoal/store/sqlite"
)

// storeSettings are the flags about the archive.
type storeSettings struct {
	kind      string // "sqlite", "postgres" or none
	place     string // a file or a URL
	retention time.Duration
	size      int64
	spool     string // a directory; empty: one is chosen
}

func (s *storeSettings) policy() store.Policy {
	return store.Policy{
		Default: store.Retention{MaxAge: s.retention},
		Total:   store.Retention{MaxBytes: s.size},
	}
}

// parseStore reads --store. A URL may hold a password, so that errors don't
// repeat it.
func (s *storeSettings) parseStore(text string) error {
	scheme, rest, _ := strings.Cut(text, ":")
	switch scheme {
	case "sqlite":
		s.kind, s.place = "sqlite", strings.TrimPrefix(rest, "//")
		if s.place == "" {
			return wrong("--store: the file is missing: sqlite:PATH")
		}
		if info, err := os.Stat(s.place); err == nil && info.IsDir() {
			return wrong("--store: %s is a directory: name a file in it", s.place)
		}
		if info, err := os.Stat(filepath.Dir(s.place)); err != nil || !info.IsDir() {
			return wrong("--store %s: the directory doesn't exist; make it first", text)
		}
	case "postgres", "postgresql":
		s.kind, s.place = "postgres", text
		u, err := url.Parse(text)
		if err != nil || u.Opaque != "" || u.Fragment != "" || strings.Contains(u.Path, "@") ||
			u.User == nil && strings.Contains(u.RawQuery, "@") {
			return wrong("--store: not a URL such as postgres://user@host:5432/database; in a password write %%23 for #, %%25 for %%, %%2F for / and %%3F for ?")
		}
	default:
		return wrong("--store: want sqlite:PATH or postgres://user@host:5432/database")
	}
	return nil
}

// parseAge reads a number with a unit.
func parseAge(text string) (time.Duration, error) {
	if text == "forever" {
		return 0, nil
	}
	const want = "want a number of minutes, hours, days or weeks, such as 90m, 12h, 30d or 8w; or forever"
	units := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}
	number := strings.TrimRight(text, "mhdw")
	unit, known := units[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || !known || n < 0:
		return 0, errors.New(want)
	case n == 0:
		return 0, errors.New("that would keep nothing: " + want)
	case n > math.MaxInt64/int64(unit):
		return 0, errors.New("that is longer than can be counted: say forever")
	}
	return time.Duration(n) * unit, nil
}

// parseBytes reads a size.
func parseBytes(text string) (int64, error) {
	units := map[string]int64{"MB": 1e6, "GB": 1e9, "TB": 1e12}
	number := strings.TrimRight(text, "MGTB")
	unit, known := units[text[len(number):]]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !known || n < 1 || n > math.MaxInt64/unit {
		return 0, errors.New("want a size such as 500MB, 50GB or 1TB")
	}
	return n * unit, nil
}

// open opens the archive; nil: there is none. A PostgreSQL that is away is no
// error.
func (s *storeSettings) open(ctx context.Context, nodeKeyFile string, log *slog.Logger) (store.Archive, error) {
	switch s.kind {
	case "sqlite":
		archive, err := sqlite.Open(ctx, s.place, sqlite.Config{Policy: s.policy(), Logger: log})
		switch {
		case errors.Is(err, sqlite.ErrNotArchive):
			return nil, wrong("--store: %v; name another file", err)
		case errors.Is(err, sqlite.ErrLocked):
			return nil, fmt.Errorf("--store: %w; each node needs a file of its own", err)
		case errors.Is(err, fs.ErrPermission):
			return nil, wrong("--store: %v", err)
		case err != nil:
			return nil, fmt.Errorf("--store: %w", err)
		}
		return archive, nil
	case "postgres":
		return s.openPostgres(ctx, nodeKeyFile, log)
	}
	return nil, nil
}

// openPostgres takes the first spool that no other node has.
func (s *storeSettings) openPostgres(ctx context.Context, nodeKeyFile string, log *slog.Logger) (store.Archive, error) {
	var err error
	for _, dir := range s.spools(nodeKeyFile) {
		var archive *postgres.Archive
		archive, err = postgres.Open(ctx, s.place, postgres.Config{Policy: s.policy(), Logger: log, SpoolDir: dir})
		if err == nil {
			log.Info("spool", "dir", dir)
			return archive, nil
		}
		if !errors.Is(err, postgres.ErrSpoolInUse) {
			break
		}
	}
	var malformed *pgconn.ParseConfigError
	switch {
	case errors.As(err, &malformed):
		err = wrong("--store: %v", err)
	case errors.Is(err, postgres.ErrSpoolInUse):
		err = fmt.Errorf("--store: %w; each node needs its own --store-spool", err)
	case errors.Is(err, fs.ErrPermission):
		err = wrong("--store: %v; name another directory with --store-spool", err)
	default:
		err = fmt.Errorf("--store: %w", err)
	}
	return nil, err
}

// spools are the directories that may hold the spool. It belongs to the node, and
// to no other one on the same machine.
func (s *storeSettings) spools(nodeKeyFile string) []string {
	switch {
	case s.spool != "":
		return []string{s.spool}
	case nodeKeyFile != "":
		return []string{nodeKeyFile + ".spool"}
	}
	dirs := []string{"servicenode.spool"}
	for i := 2; i < 10; i++ {
		dirs = append(dirs, fmt.Sprintf("servicenode.spool.%d", i))
	}
	return dirs
}

// closeArchive ends the archive, after the node. What other nodes don't find yet
// gets a moment to move to the database.
func closeArchive(archive store.Archive, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if archive.Flush(ctx) != nil {
		log.Warn("the database is away: what is in the spool waits for the next start", "messages", archive.Condition().Pending)
	}
	return archive.Close()
}
