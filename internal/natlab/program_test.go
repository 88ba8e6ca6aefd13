//go:build nat && linux

package natlab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// moment is a line that a program writes; servicenode only writes "ready".
type moment struct {
	At     float64 `json:"at"`
	What   string  `json:"what"`
	Event  string  `json:"event"`
	PeerID string  `json:"peer_id"`
	Peer   string  `json:"peer"`
	Text   string  `json:"text"`
	Addr   string  `json:"addr"`

	Addresses []string `json:"addresses"`

	came time.Time
}

// program is a process in the lab.
type program struct {
	name string
	cmd  *exec.Cmd
	errs lockedBuffer
	done chan struct{} // closed when the process has ended

	mu    sync.Mutex
	lines []moment
	more  chan struct{} // closed when there are more
	raw   []string
}

// program starts one of the examples in a namespace. The test ends it.
func (s *space) program(t *testing.T, name string, args ...string) *program {
	t.Helper()
	return s.programAt(t, filepath.Join(*programs, name), nil, args...)
}

// programAt starts a program by its path.
func (s *space) programAt(t *testing.T, path string, environment []string, args ...string) *program {
	t.Helper()
	p := &program{
		name: s.Name() + "'s " + filepath.Base(path), done: make(chan struct{}), more: make(chan struct{}),
		cmd: exec.Command(path, args...),
	}
	p.cmd.Env = append(os.Environ(), environment...)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.cmd.Stderr = &p.errs
	require.NoError(t, s.Start(p.cmd))
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.took(lines.Bytes())
		}
	}()
	go func() {
		<-read
		_ = p.cmd.Wait() // it may have been killed
		close(p.done)
	}()
	t.Cleanup(func() {
		p.wake()
		p.end()
		if t.Failed() || *stories {
			t.Logf("%s:\n%s\n%s", p.name, p.story(), p.errs.tail(4000))
		}
	})
	return p
}

func (p *program) took(line []byte) {
	m := moment{came: time.Now()}
	err := json.Unmarshal(line, &m)
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.What != "message" && m.What != "said" || err != nil {
		p.raw = append(p.raw, string(line))
	}
	p.lines = append(p.lines, m)
	close(p.more)
	p.more = make(chan struct{})
}

// story is what the program wrote, without the talk.
func (p *program) story() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.raw, "\n")
}

// mark is a place among what a program writes.
func (p *program) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// since are the lines from a mark on that fit.
func (p *program) since(mark int, fits func(moment) bool) (out []moment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.lines[mark:] {
		if fits(m) {
			out = append(out, m)
		}
	}
	return out
}

// await waits for a line after a mark.
func (p *program) await(t *testing.T, mark int, patience time.Duration, what string, fits func(moment) bool) moment {
	t.Helper()
	m, ok := p.wait(mark, patience, fits)
	require.True(t, ok, "%s: %s doesn't come in %v", p.name, what, patience)
	return m
}

func (p *program) wait(mark int, patience time.Duration, fits func(moment) bool) (moment, bool) {
	late := time.After(patience)
	for i := mark; ; {
		p.mu.Lock()
		for ; i < len(p.lines); i++ {
			if fits(p.lines[i]) {
				defer p.mu.Unlock()
				return p.lines[i], true
			}
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
		case <-late:
			return moment{}, false
		case <-p.done:
			return moment{}, false
		}
	}
}

// kill ends the program as a crash does.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	<-p.done
}

func (p *program) end() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.kill()
	}
}

// sleep and wake are a laptop's lid, as far as the others can tell.
func (p *program) sleep() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *program) wake()  { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// holds is what the process holds of the machine.
func (p *program) holds(t *testing.T) (files, threads, kib int) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	fds, err := os.ReadDir(proc + "/fd")
	require.NoError(t, err)
	status, err := os.ReadFile(proc + "/status")
	require.NoError(t, err)
	for _, line := range strings.Split(string(status), "\n") {
		_, _ = fmt.Sscanf(line, "Threads: %d", &threads)
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &kib)
	}
	return len(fds), threads, kib
}

// lockedBuffer is what a process says on stderr.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.b.String()
	return text[max(0, len(text)-n):]
}
