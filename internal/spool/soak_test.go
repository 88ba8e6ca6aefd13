//go:build soak && linux

package spool_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/status-im/shoal/internal/spool"
)

// TestSoakPowerLoss tries more courses of events than the daily run does.
func TestSoakPowerLoss(t *testing.T) {
	const first, last = 1000, 21_000
	for seed := uint64(first); seed < last; seed++ {
		oneLife(t, seed, seed%5 != 0)
	}
	t.Logf("seeds %d to %d: nothing acknowledged was lost", first, last-1)
}

// TestSoakSmallVolume fills a volume, by the spool and by a stranger's file, and
// makes room again. Nothing is harmed, and nothing needs a restart.
func TestSoakSmallVolume(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatalf("mounting a small volume needs root: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s := open(t, dir, spool.Config{SegmentBytes: 1 << 20, MemoryBytes: 1 << 20})
	var want []string
	n := 0
	fill := func() {
		for {
			var batch [][]byte
			for range 7 {
				batch = append(batch, []byte(fmt.Sprint(n, strings.Repeat("x", 2000))))
				n++
			}
			if err := s.Append(t.Context(), batch); err != nil {
				var disk *spool.DiskError
				require.ErrorAs(t, err, &disk)
				require.True(t, disk.NoSpace(), err)
				return
			}
			for _, r := range batch {
				want = append(want, string(r))
			}
		}
	}
	other := dir + "/other"
	require.NoError(t, os.WriteFile(other, make([]byte, 2<<20), 0o600))
	for round := range 50 {
		fill()
		fill()
		switch {
		case round == 0:
			require.NoError(t, os.Remove(other))
			was := len(want)
			fill()
			require.Greater(t, len(want), was)
		case round%10 == 5:
			require.NoError(t, s.Close())
			s = open(t, dir, spool.Config{SegmentBytes: 1 << 20, MemoryBytes: 1 << 20})
		}
		// After a restart, some that were done come before.
		got := drain(t, s)
		require.GreaterOrEqual(t, len(got), len(want))
		require.True(t, slices.Equal(want, got[len(got)-len(want):]), "round %d", round)
		require.True(t, round%10 == 5 || len(got) == len(want), "round %d", round)
		want = nil
	}
	require.Zero(t, s.Stats().Damaged)
	require.NoError(t, s.Close())
}
