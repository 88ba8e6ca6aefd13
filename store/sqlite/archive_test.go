package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
	"github.com/status-im/shoal/store/storetest"
)

func config(c storetest.Config) sqlite.Config {
	return sqlite.Config{Policy: c.Policy, Now: c.Now, PruneEvery: -1}
}

func TestArchive(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Place {
		path := filepath.Join(t.TempDir(), "archive.db")
		return storetest.Place{Open: func(c storetest.Config) (store.Archive, error) {
			return sqlite.Open(t.Context(), path, config(c))
		}}
	})
}

func TestArchiveInDatabase(t *testing.T) {
	if testing.Short() {
		t.Skip("the round without -short runs it: with the race detector SQLite takes its time")
	}
	storetest.Run(t, func(t testing.TB) storetest.Place {
		db := appDatabase(t)
		return storetest.Place{Open: func(c storetest.Config) (store.Archive, error) {
			return sqlite.New(t.Context(), db, config(c))
		}}
	})
}

// appDatabase is one of the application.
func appDatabase(t testing.TB) *sql.DB {
	return appDatabaseAt(t, filepath.Join(t.TempDir(), "app.db"))
}

func appDatabaseAt(t testing.TB, path string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}
