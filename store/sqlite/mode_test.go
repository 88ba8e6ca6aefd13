package sqlite_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store/sqlite"
)

// Messages are nobody else's business, and a file that is no archive stays as it
// was, alone.
func TestFilesAreTheOwners(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "archive.db")
	a := open(t, path, sqlite.Config{})
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f.Name())
		}
	}
	require.NoError(t, a.Close())

	other := t.TempDir()
	path = filepath.Join(other, "letter.txt")
	require.NoError(t, os.WriteFile(path, []byte("Dear all, this is a letter and no archive.\n"), 0o600))
	_, err = sqlite.Open(t.Context(), path, sqlite.Config{})
	require.ErrorIs(t, err, sqlite.ErrNotArchive)
	files, err = os.ReadDir(other)
	require.NoError(t, err)
	require.Len(t, files, 1)
}
