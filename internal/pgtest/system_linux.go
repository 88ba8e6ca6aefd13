package pgtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes has the system stop the server, at once but orderly, when the test
// process ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
}

// children returns the processes that a process has made.
func children(parent int) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, ppid := stat(pid); ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive tells whether a process is there. One that has ended and isn't yet
// collected by its parent doesn't count.
func alive(pid int) bool {
	state, _ := stat(pid)
	return state != "" && state != "Z" && state != "X"
}

func stat(pid int) (state string, parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	// The name in parentheses may hold anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent
}

// freeSharedMemory returns what a killed server leaves with the system: a
// segment of a few bytes, whose number stands in its lock file.
func freeSharedMemory(lockFile string) {
	b, err := os.ReadFile(lockFile)
	if err != nil {
		return
	}
	lines := strings.Split(string(b), "\n")
	const keyAndID = 6
	if len(lines) <= keyAndID {
		return
	}
	if f := strings.Fields(lines[keyAndID]); len(f) == 2 {
		if id, err := strconv.Atoi(f[1]); err == nil {
			unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		}
	}
}
