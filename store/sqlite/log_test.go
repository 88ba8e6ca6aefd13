package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store/sqlite"
)

// The log can't begin anew while somebody reads from it; nobody waits for that, and
// it does so afterwards.
func TestLogHeldByReader(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "archive.db"), sqlite.Config{})
	list := entries(400, origin, 2000)
	require.NoError(t, a.Put(t.Context(), list[:100]))
	release, err := sqlite.Hold(a)
	require.NoError(t, err)
	require.NoError(t, a.Put(t.Context(), list[100:200]))
	long, err := sqlite.Checkpoint(a)
	require.NoError(t, err)
	sqlite.Restart(a, long)
	require.NoError(t, a.Put(t.Context(), list[200:300]))
	longer, err := sqlite.Checkpoint(a)
	require.NoError(t, err)
	assert.Greater(t, longer, long)

	require.NoError(t, release())
	sqlite.Restart(a, sqlite.LogMost+1)
	require.NoError(t, a.Put(t.Context(), list[300:301]))
	short, err := sqlite.Checkpoint(a)
	require.NoError(t, err)
	assert.Less(t, short, long)
	require.NoError(t, a.Put(t.Context(), list[301:]))
	requireServed(t, a, list)
}
