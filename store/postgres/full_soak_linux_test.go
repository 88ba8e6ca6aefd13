//go:build soak && linux

package postgres_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// The volume of the database fills up, and somebody makes room. Until then
// messages wait on the node's own disk; nothing is lost or harmed.
func TestSoakFullVolume(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=300m,mode=0777"); err != nil {
		t.Fatalf("mounting a small volume needs root: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 80<<20), 0o600))
	server := pgtest.Start(t, pgtest.Config{Dir: dir, Settings: map[string]string{
		"min_wal_size": "32MB", "max_wal_size": "64MB", "checkpoint_timeout": "30s",
	}})
	a := open(t, server.Database(t), postgres.Config{Logger: logger(t)})

	var acked []message.Hash
	put := func() {
		list := entries(50, 8<<10)
		require.NoError(t, a.Put(t.Context(), list))
		acked = append(acked, hashes(list)...)
	}
	stuck := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return a.Flush(ctx) != nil
	}
	for full := false; !full; full = len(acked)%1000 == 0 && stuck() {
		put()
		require.Less(t, len(acked), 60_000, "the volume never fills up")
	}
	c := a.Condition()
	t.Logf("full after %d messages: %s, %v", len(acked), c.State, c.Err)
	require.Equal(t, store.Spooling, c.State)
	require.Error(t, c.Err)
	for range 40 {
		put()
	}
	require.Positive(t, a.Condition().Pending)

	require.NoError(t, os.Remove(ballast))
	if stuck() { // the server itself gave up
		t.Log("the server has to be started again")
		require.NoError(t, server.Restart())
	}
	require.NoError(t, a.Flush(patient(t, 2*time.Minute)))
	require.Equal(t, store.Ready, a.Condition().State)
	requireHeld(t, a, acked)
	s, err := a.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(acked), s.Messages)
	put()
	require.NoError(t, a.Flush(patient(t, time.Minute)))
}
