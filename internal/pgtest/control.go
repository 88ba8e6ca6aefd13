//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Mode is how a server is told to stop.
type Mode syscall.Signal

// The modes of pg_ctl.
const (
	Smart     = Mode(syscall.SIGTERM) // waits until clients have left
	Fast      = Mode(syscall.SIGINT)  // rolls back what is under way
	Immediate = Mode(syscall.SIGQUIT) // leaves recovery to the next start
)

// makeDir makes the server's directory, which belongs to the user that the
// server runs as.
func (c *Cluster) makeDir() (err error) {
	parents := []string{c.cfg.Dir}
	if c.cfg.Dir == "" {
		parents = []string{os.TempDir(), "/tmp"}
	}
	who := runAs()
	for _, parent := range parents {
		if c.dir, err = os.MkdirTemp(parent, DirPattern); err != nil {
			continue
		}
		if who != nil {
			err = os.Chown(c.dir, int(who.Uid), int(who.Gid))
		}
		// A parent may be closed to that user, and the path of a socket has 107
		// bytes at most.
		if err == nil && len(c.dir) > 80 {
			err = fmt.Errorf("%s: too long for a socket's path", c.dir)
		}
		if err == nil {
			list := exec.Command("ls", c.dir)
			c.dress(list)
			list.Dir = "/"
			if out, e := list.CombinedOutput(); e != nil {
				err = fmt.Errorf("%w: %s", e, out)
			}
		}
		if err == nil {
			return nil
		}
		os.RemoveAll(c.dir)
		c.dir = ""
	}
	return err
}

// runAs is whom a server runs as. Nil: as ourselves.
func runAs() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
			gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
			if err1 == nil && err2 == nil {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// dress gives a command the server's user, directory and environment.
func (c *Cluster) dress(cmd *exec.Cmd) {
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + c.dir}
	cmd.SysProcAttr = attributes()
	cmd.SysProcAttr.Credential = runAs()
	// An interrupt at the terminal is for the tests; the server ends with them.
	cmd.SysProcAttr.Setpgid = true
}

// Restart starts a server that was stopped or killed, on the same port, and
// waits until it serves.
func (c *Cluster) Restart() error {
	if c.server != nil && !c.server.ended() {
		return errors.New("pgtest: the server runs")
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer log.Close()
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": c.dir,
		// In the data directory, and gone with it.
		"dynamic_shared_memory_type": "mmap",
	}
	if c.cfg.NoSync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	for name, value := range c.cfg.Settings {
		settings[name] = value
	}
	cmd := exec.Command(filepath.Join(c.programs, "postgres"), "-D", c.data())
	for name, value := range settings {
		cmd.Args = append(cmd.Args, "-c", name+"="+value)
	}
	c.dress(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	if c.server, err = launch(cmd); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if err := c.awaitReady(); err != nil {
		return fmt.Errorf("pgtest: the server doesn't start: %w\n%s", err, c.log())
	}
	return nil
}

func (c *Cluster) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return err
		case <-c.server.done:
			return c.server.err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop stops the server and waits until it has.
func (c *Cluster) Stop(mode Mode) error {
	if c.server == nil {
		return nil
	}
	if err := c.Resume(); err != nil {
		return err
	}
	syscall.Kill(c.server.pid, syscall.Signal(mode))
	select {
	case <-c.server.done:
		c.server = nil
		return nil
	case <-time.After(patience):
		return fmt.Errorf("pgtest: the server doesn't stop\n%s", c.log())
	}
}

// Kill ends the server and all its processes with SIGKILL: a crash of the
// process, not of the machine, whose page cache remains.
func (c *Cluster) Kill() error {
	if c.server == nil {
		return nil
	}
	pids := c.freeze()
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	<-c.server.done
	for deadline := time.Now().Add(patience); slices.ContainsFunc(pids[1:], alive); {
		if time.Now().After(deadline) {
			return errors.New("pgtest: processes outlive SIGKILL")
		}
		time.Sleep(time.Millisecond)
	}
	c.server = nil
	return c.endGuard()
}

// Pause freezes the server and all its processes with SIGSTOP: connections
// remain and nobody answers.
func (c *Cluster) Pause() error {
	if c.server == nil || c.guard != nil {
		return errors.New("pgtest: no server runs")
	}
	// Frozen processes don't notice that the tests are gone. The guard does: its
	// input ends with us, and it thaws them.
	pids := c.freeze()
	words := []string{"-c", `read -r line; kill -CONT "$@"; exit 0`, "guard"}
	for _, pid := range pids {
		words = append(words, strconv.Itoa(pid))
	}
	cmd := exec.Command("/bin/sh", words...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: runAs()}
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	if err == nil {
		c.guard, err = launch(cmd)
	}
	if err != nil {
		c.signal(pids, syscall.SIGCONT)
		return fmt.Errorf("pgtest: %w", err)
	}
	c.guard.in = in
	return nil
}

// Resume thaws a server that was paused, and does nothing otherwise.
func (c *Cluster) Resume() error { return c.endGuard() }

func (c *Cluster) endGuard() error {
	if c.guard == nil {
		return nil
	}
	guard := c.guard
	c.guard = nil
	guard.in.Close()
	<-guard.done
	return guard.err
}

// freeze stops the postmaster, which then makes no more processes, and the
// others. The postmaster is the first.
func (c *Cluster) freeze() []int {
	syscall.Kill(c.server.pid, syscall.SIGSTOP)
	pids := append([]int{c.server.pid}, children(c.server.pid)...)
	c.signal(pids, syscall.SIGSTOP)
	return pids
}

func (*Cluster) signal(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		syscall.Kill(pid, s)
	}
}

// Close ends the server and removes its directory. It is idempotent.
func (c *Cluster) Close() error {
	if c.dir == "" {
		return nil
	}
	err := c.Stop(Immediate)
	if err != nil {
		err = errors.Join(err, c.Kill())
	}
	freeSharedMemory(filepath.Join(c.data(), "postmaster.pid"))
	err = errors.Join(err, os.RemoveAll(c.dir))
	c.dir = ""
	return err
}
