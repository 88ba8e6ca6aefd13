package main

import (
	"runtime"
	"time"
)

// meter tells what a phase costs in CPU time, which a busy machine changes less
// than it changes times, and how much of the machine others had meanwhile.
type meter struct {
	began     time.Time
	ours, all float64
}

func newMeter() meter {
	m := meter{began: time.Now()}
	m.ours, m.all, _ = cpuTime()
	return m
}

// cost files what n of something took.
func (b *bench) cost(m meter, name string, n int) {
	ours, all, ok := cpuTime()
	if !ok || n == 0 {
		return
	}
	b.add(name+": CPU", (ours-m.ours)/float64(n)*1000, "ms")
	room := time.Since(m.began).Seconds() * float64(runtime.NumCPU())
	b.add(name+": others' share of the CPU", max(0, (all-m.all)-(ours-m.ours))/room*100, "%")
}
