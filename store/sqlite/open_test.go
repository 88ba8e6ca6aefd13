package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

func TestOneArchiveAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, sqlite.Config{})
	_, err := sqlite.Open(t.Context(), path, sqlite.Config{})
	require.ErrorIs(t, err, sqlite.ErrLocked)
	require.NoError(t, a.Close())
	open(t, path, sqlite.Config{})
}

func TestPathWithOddCharacters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c%20d#e&f=g.db")
	a := open(t, path, sqlite.Config{})
	list := entries(10, origin, 100)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.Close())
	a = open(t, path, sqlite.Config{})
	requireServed(t, a, list)
	require.NotZero(t, size(t, path))
}

func TestNotAnArchive(t *testing.T) {
	for name, content := range map[string]string{
		"text":     strings.Repeat("this is no database, but the text of a long letter\n", 300),
		"another":  "",
		"a single": "x",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "letter")
			if name == "another" {
				db := appDatabaseAt(t, path)
				_, err := db.Exec(`CREATE TABLE contacts (name TEXT)`)
				require.NoError(t, err)
				require.NoError(t, db.Close())
			} else {
				require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			}
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = sqlite.Open(t.Context(), path, sqlite.Config{})
			require.ErrorIs(t, err, sqlite.ErrNotArchive)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, before, after)
		})
	}
}

func TestNoDirectory(t *testing.T) {
	_, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "none", "archive.db"), sqlite.Config{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// After Close there is one file, beside the lock and what is kept back.
func TestCloseLeavesOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, sqlite.Config{})
	require.NoError(t, a.Put(t.Context(), entries(500, origin, 1000)))
	require.NoError(t, a.Close())
	files, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{path, path + ".lock", path + ".reserve"}, files)
}

// The policy is applied without being asked for, and what is deleted gives its
// room back.
func TestUpkeep(t *testing.T) {
	policy := store.Policy{Default: store.Retention{MaxMessages: 100}}
	a := open(t, filepath.Join(t.TempDir(), "archive.db"), sqlite.Config{Policy: policy, PruneEvery: time.Millisecond})
	require.NoError(t, a.Put(t.Context(), entries(1200, origin, 4000)))
	require.Eventually(t, func() bool {
		s, err := a.Stats(t.Context())
		return err == nil && s.Messages == 200
	}, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool {
		pages, err := sqlite.Pages(a)
		return err == nil && pages < 200
	}, time.Minute, time.Millisecond, "1,200 messages took more than 300")
}

// Questions are answered by indexes alone, in their order: what they cost doesn't
// grow with what is kept.
func TestPlans(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "archive.db"), sqlite.Config{})
	plans, err := sqlite.Plans(t.Context(), a)
	require.NoError(t, err)
	require.NotEmpty(t, plans)
	for text, plan := range plans {
		assert.NotContains(t, plan, "TEMP B-TREE", text)
		if !strings.Contains(text, "FROM shoal_buckets") {
			assert.NotContains(t, plan, "SCAN", text)
		}
		if strings.Contains(text, "(time, prefix)") {
			assert.Contains(t, plan, "AND (time,prefix)>(?,?) AND (time,prefix)<(?,?)", text)
		}
	}
}

func size(t *testing.T, path string) int64 {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}
