package sqlite_test

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

func newIn(t testing.TB, db *sql.DB) *sqlite.Archive {
	t.Helper()
	a, err := sqlite.New(t.Context(), db, sqlite.Config{Now: clockAt(origin.Add(24 * time.Hour)), PruneEvery: -1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestNewLeavesTheRestAlone(t *testing.T) {
	db := appDatabase(t)
	_, err := db.Exec(`CREATE TABLE contacts (name TEXT); INSERT INTO contacts VALUES ('ada'); PRAGMA user_version = 42`)
	require.NoError(t, err)
	a := newIn(t, db)
	list := entries(30, origin, 500)
	require.NoError(t, a.Put(t.Context(), list))
	requireServed(t, a, list)
	require.NoError(t, a.Close())

	var name string
	var version int
	require.NoError(t, db.QueryRow(`SELECT name FROM contacts`).Scan(&name), "the handle stays open")
	require.NoError(t, db.QueryRow(`PRAGMA user_version`).Scan(&version))
	assert.Equal(t, "ada", name)
	assert.Equal(t, 42, version)
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'`)
	require.NoError(t, err)
	for rows.Next() {
		require.NoError(t, rows.Scan(&name))
		assert.True(t, name == "contacts" || strings.HasPrefix(name, "shoal_"), name)
	}
	require.NoError(t, rows.Err())
	assert.Zero(t, db.Stats().InUse)
}

// One connection is enough: nobody waits for a second one while having the first.
func TestNewWithOneConnection(t *testing.T) {
	db := appDatabase(t)
	db.SetMaxOpenConns(1)
	a := newIn(t, db)
	list := entries(200, origin, 100)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			assert.NoError(t, a.Put(t.Context(), list[i*50:(i+1)*50]))
			_, err := walk(t.Context(), a, store.Query{Limit: 3})
			assert.NoError(t, err)
			_, err = a.Stats(t.Context())
			assert.NoError(t, err)
			assert.NoError(t, a.SetMark(t.Context(), shardA, origin.Add(time.Duration(i))))
		})
	}
	group.Wait()
	_, err := a.Prune(t.Context())
	require.NoError(t, err)
	requireServed(t, a, list)
}

// The application writes as well, through connections that don't wait for locks.
func TestNewBesideOtherWriters(t *testing.T) {
	db := appDatabase(t)
	_, err := db.Exec(`CREATE TABLE diary (entry TEXT)`)
	require.NoError(t, err)
	a := newIn(t, db)
	list := entries(150, origin, 100)
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_, _ = db.Exec(`INSERT INTO diary VALUES ('busy')`) // or somebody else is
			}
		}
	})
	for i := range 15 {
		require.NoError(t, a.Put(t.Context(), list[i*10:(i+1)*10]))
	}
	close(done)
	group.Wait()
	requireServed(t, a, list)
}

func TestDamageInApplicationsDatabase(t *testing.T) {
	db := appDatabase(t)
	a := newIn(t, db)
	list := entries(30, origin, 500)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.SetMark(t.Context(), shardA, origin.Add(time.Hour)))
	spoil(t, db, 7)

	_, err := walk(t.Context(), a, store.Query{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	c := a.Condition()
	require.Equal(t, store.Damaged, c.State)
	require.ErrorContains(t, c.Err, "not as it was filed")
	require.Eventually(t, func() bool {
		mark, err := a.Mark(t.Context(), shardA)
		return err == nil && mark.IsZero()
	}, 10*time.Second, time.Millisecond, "what is missing has to be fetched again")
	all, err := walk(t.Context(), a, store.Query{})
	require.NoError(t, err, "the message that was damaged is deleted")
	assert.Len(t, all, len(list)-1)

	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.SetMark(t.Context(), shardA, c.Since))
	assert.Equal(t, store.Ready, a.Condition().State)
	requireServed(t, a, list)
	stats, err := a.Stats(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, len(list), stats.Messages)
}

// spoil changes a byte of a message behind the archive's back.
func spoil(t *testing.T, db *sql.DB, id int) {
	t.Helper()
	var data []byte
	require.NoError(t, db.QueryRow(`SELECT message FROM shoal_messages WHERE id = ?`, id).Scan(&data))
	data[100] ^= 4
	_, err := db.Exec(`UPDATE shoal_messages SET message = ? WHERE id = ?`, data, id)
	require.NoError(t, err)
}

func TestNewerSchema(t *testing.T) {
	db := appDatabase(t)
	require.NoError(t, newIn(t, db).Close())
	_, err := db.Exec(`UPDATE shoal_schema SET version = 99`)
	require.NoError(t, err)
	_, err = sqlite.New(t.Context(), db, sqlite.Config{})
	var newer *sqlite.SchemaError
	require.ErrorAs(t, err, &newer)
	assert.Equal(t, &sqlite.SchemaError{Version: 99, Known: 1}, newer)
}

// A driver that isn't known has its errors read.
func TestForeignErrors(t *testing.T) {
	for text, want := range map[string]string{
		"database or disk is full":             "full",
		"database disk image is malformed":     "damaged",
		"file is not a database":               "damaged",
		"database is locked":                   "busy",
		"attempt to write a readonly database": "other",
	} {
		assert.Equal(t, want, sqlite.Fault(fmt.Errorf("driver: %s", text)), text)
	}
}
