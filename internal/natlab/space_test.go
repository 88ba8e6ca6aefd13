//go:build nat && linux

package natlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// space is a network namespace. Only the open file holds it, and the processes in it,
// which the kernel ends with this one.
type space struct {
	name string
	file *os.File
}

// newSpace makes a namespace with nothing but a loopback interface.
func newSpace(t *testing.T, name string) *space {
	t.Helper()
	s := &space{name: name}
	var err error
	elsewhere(func() error {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			s.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	require.NoError(t, err, "a network namespace")
	t.Cleanup(func() { s.file.Close() })
	s.set(t, "ipv6/conf/all/disable_ipv6", "1")
	s.set(t, "ipv6/conf/default/disable_ipv6", "1")
	s.ip(t, "link set lo up")
	return s
}

// elsewhere calls f on a thread that may change its namespace, and is back afterwards.
func elsewhere(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back) // the thread stays locked: nobody else gets it
	}
	runtime.UnlockOSThread()
	return err
}

// do calls f inside. Sockets that it makes, and processes that it starts, stay there;
// goroutines don't.
func (s *space) do(f func() error) error {
	return elsewhere(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering %s: %w", s.name, err)
		}
		return f()
	})
}

// start starts a command inside. The kernel ends it should this process be killed.
func (s *space) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return s.do(cmd.Start)
}

// run runs a command inside, which must succeed.
func (s *space) run(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	err := s.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	require.NoError(t, err, "in %s: %s %s\n%s\n%s", s.name, name, strings.Join(args, " "), input, out.String())
	return out.String()
}

// ip runs lines of iproute2.
func (s *space) ip(t *testing.T, lines ...string) {
	t.Helper()
	s.run(t, strings.Join(lines, "\n")+"\n", "ip", "-batch", "-")
}

// ready waits until an interface carries packets: the kernel takes up to a second to
// notice that the other end is there.
func (s *space) ready(t *testing.T, link string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Contains(s.run(t, "", "ip", "-oneline", "link", "show", link), " state UP ")
	}, time.Minute, 5*time.Millisecond)
}

// set sets one of the namespace's own settings, if the kernel has it.
func (s *space) set(t *testing.T, key, value string) {
	t.Helper()
	err := s.do(func() error { return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0o644) })
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
}

// path names the namespace to iproute2.
func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }
