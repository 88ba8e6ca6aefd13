package pgtest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string) (v T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&v))
	return v
}

func TestSharedDatabasesAreApart(t *testing.T) {
	a, b := pgtest.Shared(t).Database(t), pgtest.Shared(t).Database(t)
	require.NotEqual(t, a, b)
	pgtest.Exec(t, a, "CREATE TABLE x (n int)")
	pgtest.Exec(t, b, "CREATE TABLE x (n int)")
	require.Equal(t, "off", ask[string](t, connect(t, a), "SHOW fsync"))
}

func TestLifeOfAServer(t *testing.T) {
	c := pgtest.Start(t, pgtest.Config{Settings: map[string]string{"work_mem": "5MB"}})
	url := c.Database(t)
	conn := connect(t, url)
	for name, want := range map[string]string{
		"fsync": "on", "work_mem": "5MB", "server_encoding": "UTF8", "lc_collate": "C", "is_superuser": "on",
	} {
		require.Equal(t, want, ask[string](t, conn, "SHOW "+name), name)
	}
	pgtest.Exec(t, url, "CREATE TABLE x (n int)")
	n := 0
	write := func() {
		n++
		pgtest.Exec(t, url, "INSERT INTO x VALUES ($1)", n)
	}
	kept := func() { require.Equal(t, n, ask[int](t, connect(t, url), "SELECT count(*) FROM x")) }
	away := func() {
		_, err := pgx.Connect(t.Context(), url)
		require.Error(t, err)
	}

	write()
	for _, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		require.NoError(t, c.Stop(mode))
		away()
		require.NoError(t, c.Restart())
		require.Error(t, c.Restart(), "it runs")
		kept()
		write()
	}
	require.NoError(t, c.Kill())
	away()
	require.NoError(t, c.Kill())
	require.NoError(t, c.Restart())
	kept()

	conn = connect(t, url)
	require.NoError(t, c.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, conn.Ping(ctx), context.DeadlineExceeded)
	require.NoError(t, c.Resume())
	require.NoError(t, c.Resume())
	kept()

	require.NoError(t, c.Pause())
	require.NoError(t, c.Kill(), "a frozen server")
	require.NoError(t, c.Restart())
	kept()
	require.NoError(t, c.Pause())
	dir := c.Dir()
	require.NoError(t, c.Close(), "a frozen server")
	require.NoFileExists(t, dir)
	require.NoError(t, c.Close())
}

// A test process that is killed takes its server along, even a frozen one.
func TestServerEndsWithItsProcess(t *testing.T) {
	if file := os.Getenv("PGTEST_CHILD"); file != "" {
		c := pgtest.Start(t, pgtest.Config{NoSync: true})
		if os.Getenv("PGTEST_PAUSE") != "" {
			require.NoError(t, c.Pause())
		}
		require.NoError(t, os.WriteFile(file, fmt.Append(nil, c.URL(), "\n", c.Dir(), "\n"), 0o600))
		select {}
	}
	testDeath(t, "")
	testDeath(t, "1")
}
