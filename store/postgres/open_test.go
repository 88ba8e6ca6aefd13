package postgres_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

func open(t testing.TB, url string, cfg postgres.Config) *postgres.Archive {
	t.Helper()
	if cfg.SpoolDir == "" {
		cfg.SpoolDir = t.TempDir()
	}
	if cfg.Policy.Default == (store.Retention{}) {
		cfg.Policy.Default = month.Default
	}
	a, err := postgres.Open(context.Background(), url, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, a.Close()) })
	return a
}

func TestConfigRefused(t *testing.T) {
	for name, cfg := range map[string]postgres.Config{
		"no spool":        {},
		"negative bound":  {SpoolDir: "spool", ReadConns: -1},
		"short partition": {SpoolDir: "spool", Partition: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), "postgres://127.0.0.1:1/none", cfg)
			require.ErrorContains(t, err, "Config")
		})
	}
	_, err := postgres.Open(t.Context(), "postgres://%zz", postgres.Config{SpoolDir: t.TempDir()})
	require.Error(t, err)
	_, err = postgres.New(t.Context(), nil, postgres.Config{SpoolDir: t.TempDir()})
	require.Error(t, err)
}

// A server that says no is another thing than one that isn't there.
func TestOpenRefused(t *testing.T) {
	good := pgtest.Shared(t).Database(t)
	with := func(change func(*url.URL)) string {
		u, err := url.Parse(good)
		require.NoError(t, err)
		change(u)
		return u.String()
	}
	pgtest.Exec(t, good, `DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	for name, address := range map[string]string{
		"no such database": with(func(u *url.URL) { u.Path = "/none" }),
		"no such user":     with(func(u *url.URL) { u.User = url.User("nobody") }),
		"no right":         with(func(u *url.URL) { u.User = url.User("guest") }),
		"no such schema":   with(func(u *url.URL) { u.RawQuery += "&search_path=none" }),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), address, postgres.Config{SpoolDir: t.TempDir()})
			require.Error(t, err)
			require.NotErrorIs(t, err, store.ErrUnavailable)
			t.Log(err)
		})
	}
}

func TestSchemaOfItsOwn(t *testing.T) {
	address := pgtest.Shared(t).Database(t)
	pgtest.Exec(t, address, `CREATE SCHEMA one`)
	pgtest.Exec(t, address, `CREATE SCHEMA two`)
	one, two := open(t, address+"&search_path=one", postgres.Config{}), open(t, address+"&search_path=two", postgres.Config{})
	list := entries(3, 100)
	require.NoError(t, one.Put(t.Context(), list))
	require.NoError(t, one.Flush(t.Context()))
	require.Len(t, walk(t, store.Query{}, of(one)), 3)
	require.Empty(t, walk(t, store.Query{}, of(two)))
}

func TestNewerSchema(t *testing.T) {
	address := pgtest.Shared(t).Database(t)
	require.NoError(t, open(t, address, postgres.Config{}).Close())
	pgtest.Exec(t, address, `UPDATE shoal_schema SET version = 7`)
	_, err := postgres.Open(t.Context(), address, postgres.Config{SpoolDir: t.TempDir()})
	var newer *postgres.NewerSchemaError
	require.ErrorAs(t, err, &newer)
	require.Equal(t, postgres.NewerSchemaError{Version: 7, Known: 1}, *newer)
}

func TestSpoolInUse(t *testing.T) {
	address, spool := pgtest.Shared(t).Database(t), t.TempDir()
	a := open(t, address, postgres.Config{SpoolDir: spool})
	_, err := postgres.Open(t.Context(), address, postgres.Config{SpoolDir: spool})
	require.ErrorIs(t, err, postgres.ErrSpoolInUse)
	require.NoError(t, a.Close())
	open(t, address, postgres.Config{SpoolDir: spool})
}

// A node may start while the database is away.
func TestOpenedBeforeTheDatabase(t *testing.T) {
	server := pgtest.Start(t, pgtest.Config{NoSync: true})
	address := server.Database(t)
	require.NoError(t, server.Stop(pgtest.Fast))
	a := open(t, address, postgres.Config{})
	c := a.Condition()
	require.Equal(t, store.Spooling, c.State)
	require.Error(t, c.Err)
	list := entries(10, 100)
	require.NoError(t, a.Put(t.Context(), list))
	_, err := a.Query(t.Context(), store.Query{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = a.Stats(t.Context())
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = a.Mark(t.Context(), shard)
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, a.SetMark(t.Context(), shard, time.Now()), store.ErrUnavailable)
	_, err = a.Prune(t.Context())
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.EqualValues(t, 10, a.Condition().Pending)

	require.NoError(t, server.Restart())
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	require.Equal(t, store.Ready, a.Condition().State)
	require.Len(t, walk(t, store.Query{}, of(a)), 10)
}

// While nobody can be told, the spool fills up, and says so.
func TestSpoolFull(t *testing.T) {
	server := pgtest.Start(t, pgtest.Config{NoSync: true})
	address := server.Database(t)
	a := open(t, address, postgres.Config{SpoolBytes: 1 << 20})
	require.NoError(t, server.Stop(pgtest.Fast))
	acked, refused := 0, 0
	var full *store.FullError
	for refused < 3 {
		err := a.Put(t.Context(), entries(1, 50_000))
		if err == nil {
			acked++
			require.Less(t, acked, 30)
			continue
		}
		require.ErrorAs(t, err, &full)
		require.EqualValues(t, 1<<20, full.Limit)
		refused++
	}
	c := a.Condition()
	require.Equal(t, store.Full, c.State)
	require.ErrorAs(t, c.Err, &full)
	require.EqualValues(t, refused, c.Refused)
	require.EqualValues(t, acked, c.Pending)

	require.NoError(t, server.Restart())
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	require.NoError(t, a.Put(t.Context(), entries(1, 50_000)))
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	c = a.Condition()
	require.Equal(t, store.Ready, c.State)
	require.EqualValues(t, refused, c.Refused, "a gap is remembered")
	require.Len(t, walk(t, store.Query{}, of(a)), acked+1)
}

// New connects as the application's pool does, and leaves that alone.
func TestNew(t *testing.T) {
	cfg, err := pgxpool.ParseConfig(pgtest.Shared(t).Database(t))
	require.NoError(t, err)
	var dials atomic.Int32
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, addr)
	}
	cfg.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer pool.Close()
	conn, err := pool.Acquire(t.Context()) // its only one
	require.NoError(t, err)
	defer conn.Release()
	before := dials.Load()
	a, err := postgres.New(t.Context(), pool, postgres.Config{SpoolDir: filepath.Join(t.TempDir(), "new", "dir"), Policy: month})
	require.NoError(t, err)
	list := entries(3, 100)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.Flush(t.Context()))
	requireHeld(t, a, hashes(list))
	require.Greater(t, dials.Load(), before)
	require.NoError(t, a.Close())
	require.NoError(t, conn.Ping(t.Context()))
}

var errCut = errors.New("cut")

// cutting is a connection that ends after so many writes.
type cutting struct {
	net.Conn
	left *atomic.Int32
}

func (c *cutting) Write(b []byte) (int, error) {
	if c.left.Add(-1) < 0 {
		c.Conn.Close()
		return 0, errCut
	}
	return c.Conn.Write(b)
}

// A migration that is cut off anywhere leaves nothing behind, and the next one
// isn't troubled by it.
func TestMigrationCutOff(t *testing.T) {
	address := pgtest.Shared(t).Database(t)
	for writes := range int32(40) {
		cfg, err := pgxpool.ParseConfig(address)
		require.NoError(t, err)
		left := new(atomic.Int32)
		left.Store(writes)
		cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if left.Load() <= 0 {
				return nil, errCut
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &cutting{conn, left}, err
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		a, err := postgres.New(t.Context(), pool, postgres.Config{SpoolDir: t.TempDir(), Policy: month, PruneEvery: -1})
		pool.Close()
		require.NoError(t, err)
		done := a.Condition().State == store.Ready
		require.NoError(t, a.Close())
		if done {
			require.Greater(t, writes, int32(5))
			require.Equal(t, store.Ready, open(t, address, postgres.Config{}).Condition().State)
			return
		}
	}
	require.Fail(t, "never done")
}
