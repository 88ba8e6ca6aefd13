package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/internal/pgtest"
)

// settings are the server's, the same for the baseline and for ours. The rest is
// as PostgreSQL comes: fsync, synchronous_commit and full_page_writes are on.
var settings = map[string]string{
	"shared_buffers":       "1GB",
	"effective_cache_size": "4GB",
	"work_mem":             "16MB",
	"maintenance_work_mem": "256MB",
	"max_wal_size":         "8GB",
	"checkpoint_timeout":   "15min",
	"random_page_cost":     "1.1",
	"jit":                  "off",
	"max_connections":      "300",
	// The baseline's questions lock hundreds of partitions, ten times over.
	"max_locks_per_transaction": "512",
}

// shown are the settings that a reader of the figures wants to know.
var shown = []string{
	"server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "wal_compression",
	"wal_buffers", "wal_level", "commit_delay", "shared_buffers", "effective_cache_size", "work_mem",
	"max_wal_size", "checkpoint_timeout", "random_page_cost", "jit", "max_connections", "autovacuum",
}

// database makes an empty database and returns its URL, and starts the server if
// need be.
func (b *bench) database(ctx context.Context, name string) (string, error) {
	if b.cluster == nil {
		if _, err := b.dir(); err != nil {
			return "", err
		}
		c, err := pgtest.New(pgtest.Config{Settings: settings, Dir: b.keep})
		if err != nil {
			return "", err
		}
		b.cluster = c
		if err := b.showSettings(ctx); err != nil {
			return "", err
		}
	}
	if err := b.exec(ctx, b.cluster.URL(), "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return b.urlOf(name)
}

func (b *bench) urlOf(database string) (string, error) {
	u, err := url.Parse(b.cluster.URL())
	if err != nil {
		return "", err
	}
	u.Path = "/" + database
	return u.String(), nil
}

// kept starts the server that an earlier run has left, and returns the URL of a
// database of it.
func (b *bench) kept(ctx context.Context, name string) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(b.reuse, pgtest.DirPattern))
	if err == nil && len(dirs) != 1 {
		err = fmt.Errorf("%s: %d servers were kept there", b.reuse, len(dirs))
	}
	if err != nil {
		return "", err
	}
	b.keep = b.reuse
	if b.cluster, err = pgtest.Open(dirs[0], pgtest.Config{Settings: settings}); err != nil {
		return "", err
	}
	if err := b.showSettings(ctx); err != nil {
		return "", err
	}
	return b.urlOf(name)
}

// dropDatabase makes room, unless it is to be kept.
func (b *bench) dropDatabase(ctx context.Context, name string) error {
	if b.keep != "" {
		return nil
	}
	return b.exec(ctx, b.cluster.URL(), "DROP DATABASE "+name+" WITH (FORCE)", "CHECKPOINT")
}

func (b *bench) showSettings(ctx context.Context) error {
	b.report.Settings = map[string]string{}
	for _, name := range shown {
		value, err := scalar[string](ctx, b.cluster.URL(), "SHOW "+name)
		if err != nil {
			return err
		}
		b.report.Settings[name] = value
	}
	return nil
}

func (b *bench) closeCluster() error {
	if b.keep == "" {
		return b.cluster.Close()
	}
	b.say("the server's directory is kept: %s", b.cluster.Dir())
	return b.cluster.Stop(pgtest.Fast)
}

// chill restarts the server with empty buffers, and has the system forget what it
// has cached of its files where that can be had.
func (b *bench) chill() error {
	if err := b.cluster.Stop(pgtest.Fast); err != nil {
		return err
	}
	if err := b.forget(b.cluster.Dir()); err != nil {
		return err
	}
	return b.cluster.Restart()
}

// forget drops all files from the system's page cache, or if we may not, those
// below dir.
func (b *bench) forget(dir string) error {
	how := "the system's page cache emptied"
	err := dropCaches()
	if err != nil {
		how = dropsFiles
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			return dropCached(path)
		})
	}
	if !b.chilled {
		b.chilled = true
		b.report.note("cold: before each question the archive and its server were started anew, and %s", how)
	}
	return err
}

// settle is what autovacuum comes to in time, at once: the visibility map,
// statistics, and nothing left to be written.
func (b *bench) settle(ctx context.Context, url string) error {
	start := time.Now()
	err := b.exec(ctx, url, "VACUUM (ANALYZE)", "CHECKPOINT")
	b.say("vacuumed and analysed in %v", time.Since(start).Round(100*time.Millisecond))
	return err
}

func (b *bench) exec(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func scalar[T any](ctx context.Context, url, sql string) (v T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return v, err
	}
	defer conn.Close(context.Background())
	err = conn.QueryRow(ctx, sql).Scan(&v)
	return v, err
}

const databaseSize = "SELECT pg_database_size(current_database())"
