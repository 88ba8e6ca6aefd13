//go:build linux

package netspace

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

// Unable says what is missing to make namespaces; empty: nothing is.
func Unable() string {
	if os.Geteuid() != 0 {
		return "network namespaces take root"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "the program ip isn't installed (apt-get install iproute2)"
	}
	if err := elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
		return "no network namespace can be made: " + err.Error()
	}
	return ""
}

// Space is a network namespace. Only an open file holds it, and the processes in it.
type Space struct {
	name string
	file *os.File
}

// New makes a namespace with nothing but a loopback interface. The name is for
// messages.
func New(t testing.TB, name string) *Space {
	t.Helper()
	s := &Space{name: name}
	require.NoError(t, elsewhere(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			s.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	}), "a network namespace")
	t.Cleanup(func() { s.file.Close() })
	s.Set(t, "ipv6/conf/all/disable_ipv6", "1")
	s.Set(t, "ipv6/conf/default/disable_ipv6", "1")
	s.IP(t, "link set lo up")
	return s
}

// elsewhere calls f on a thread that may change its namespace and its processors, and
// is back afterwards.
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

// Do calls f inside. Sockets that it makes and processes that it starts stay there;
// goroutines don't.
func (s *Space) Do(f func() error) error {
	return elsewhere(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering %s: %w", s.name, err)
		}
		return f()
	})
}

// Start starts a command inside. The kernel ends it should this process be killed.
func (s *Space) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return s.Do(cmd.Start)
}

// StartOn starts a command inside, on one processor only.
func (s *Space) StartOn(cmd *exec.Cmd, cpu int) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return s.Do(func() error {
		var usual, one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &usual); err != nil {
			return err
		}
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return err
		}
		return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &usual))
	})
}

// Run runs a command inside, which must succeed, and returns what it said.
func (s *Space) Run(t testing.TB, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	err := s.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	require.NoError(t, err, "in %s: %s %s\n%s\n%s", s.name, name, strings.Join(args, " "), input, out.String())
	return out.String()
}

// IP runs lines of iproute2.
func (s *Space) IP(t testing.TB, lines ...string) {
	t.Helper()
	s.Run(t, strings.Join(lines, "\n")+"\n", "ip", "-batch", "-")
}

// Ready waits until an interface carries packets: the kernel takes up to a second to
// notice that the other end is there.
func (s *Space) Ready(t testing.TB, link string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Contains(s.Run(t, "", "ip", "-oneline", "link", "show", link), " state UP ")
	}, time.Minute, 5*time.Millisecond)
}

// Set sets one of the namespace's own settings, if the kernel has it.
func (s *Space) Set(t testing.TB, key, value string) {
	t.Helper()
	err := s.Do(func() error { return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0o644) })
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
}

// Name is what the namespace was called.
func (s *Space) Name() string { return s.name }

// Path names the namespace to iproute2.
func (s *Space) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// Segment is a network on which everybody is a neighbour.
type Segment struct {
	bridge *Space
	bits   int
	plugs  int
}

// NewSegment makes one whose addresses have a prefix of so many bits.
func NewSegment(t testing.TB, bits int) *Segment {
	t.Helper()
	g := &Segment{bridge: New(t, "segment"), bits: bits}
	g.bridge.IP(t, "link add seg type bridge", "link set seg up")
	return g
}

// Plug gives a namespace an interface, wan, with addresses.
func (g *Segment) Plug(t testing.TB, s *Space, addrs ...string) {
	t.Helper()
	g.plugs++
	g.bridge.IP(t,
		fmt.Sprintf("link add p%d type veth peer name wan netns %s", g.plugs, s.Path()),
		fmt.Sprintf("link set p%d master seg up", g.plugs))
	lines := []string{"link set wan up"}
	for _, addr := range addrs {
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev wan", addr, g.bits))
	}
	s.IP(t, lines...)
	s.Ready(t, "wan")
	g.bridge.Ready(t, fmt.Sprintf("p%d", g.plugs))
}

// Machine is a new namespace with an interface and addresses.
func (g *Segment) Machine(t testing.TB, name string, addrs ...string) *Space {
	t.Helper()
	s := New(t, name)
	g.Plug(t, s, addrs...)
	return s
}
