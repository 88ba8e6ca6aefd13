package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dropsFiles says what dropCached does here.
const dropsFiles = "its files dropped from the system's page cache"

// dropCaches has the system forget what it has cached of all files that it need not
// write, for which one has to be root.
func dropCaches() error { return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) }

// dropCached has the system forget what it has cached of a file.
func dropCached(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// ticks are the units of CPU time in /proc, a second's worth.
const ticks = 100

// cpuTime is how many seconds of CPU this process and those it has started have
// used so far, the server among them, and how many everybody has.
func cpuTime() (ours, all float64, ok bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, f := range strings.Fields(line) {
		// user, nice, system; then idle and waiting; then interrupts. Guests come
		// last and are counted as user already.
		if n, err := strconv.ParseFloat(f, 64); err == nil && i != 4 && i != 5 && i < 9 {
			all += n / ticks
		}
	}
	type process struct {
		parent int
		used   float64
	}
	processes := map[int]process{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The name in parentheses may hold anything.
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(f) < 15 {
			continue
		}
		var p process
		p.parent, _ = strconv.Atoi(f[1])
		for _, s := range f[11:15] { // its own, and that of children which have ended
			n, _ := strconv.ParseFloat(s, 64)
			p.used += n / ticks
		}
		processes[pid] = p
	}
	for pid, p := range processes {
		for up := pid; up > 1; up = processes[up].parent {
			if up == os.Getpid() {
				ours += p.used
				break
			}
		}
	}
	return ours, all, true
}
