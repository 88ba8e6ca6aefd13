//go:build linux

package pgtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func testDeath(t *testing.T, pause string) {
	file := filepath.Join(t.TempDir(), "url")
	child := exec.Command(os.Args[0], "-test.run=^TestServerEndsWithItsProcess$")
	child.Env = append(os.Environ(), "PGTEST_CHILD="+file, "PGTEST_PAUSE="+pause)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, child.Start())
	var dir string
	require.Eventually(t, func() bool {
		b, _ := os.ReadFile(file)
		if lines := strings.Split(string(b), "\n"); len(lines) == 3 {
			dir = lines[1]
		}
		return dir != ""
	}, time.Minute, 10*time.Millisecond)
	defer os.RemoveAll(dir)
	require.NoError(t, child.Process.Kill())
	child.Wait()
	// The postmaster removes its lock file as the last thing.
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
		return os.IsNotExist(err)
	}, time.Minute, 10*time.Millisecond)
}
