package pgtest

import (
	"io"
	"os/exec"
	"runtime"
)

// process is a running program.
type process struct {
	pid  int
	in   io.Closer
	done chan struct{}
	err  error // valid after done
}

// launch starts a program from a thread that stays until the program ends. The
// system tells a child of its parent's death when the thread that made it ends,
// and Go ends threads as it likes.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
