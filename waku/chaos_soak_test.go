//go:build soak

package waku_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/store/storetest"
)

// Row E6: twenty nodes, two of them stores on one database, fourteen messages a second,
// and faults of all kinds, for eight hours of virtual time, or CHAOS_HOURS. CHAOS_SEED
// repeats a schedule.
func TestSoakChaos(t *testing.T) {
	d := hours(t, "CHAOS_HOURS", 8)
	p2ptest.Bubble(t, func(t *testing.T) { chaos(t, d) })
}

// The same by the wall clock, for CHAOS_WALL_HOURS: ten minutes, if nobody says more.
func TestSoakChaosWall(t *testing.T) { chaos(t, hours(t, "CHAOS_WALL_HOURS", 1./6)) }

func hours(t *testing.T, name string, h float64) time.Duration {
	if text := os.Getenv(name); text != "" {
		var err error
		h, err = strconv.ParseFloat(text, 64)
		require.NoError(t, err)
	}
	return time.Duration(h * float64(time.Hour))
}

// chaosFaults are as many as happen between two looks at what came.
const chaosFaults = 40

func chaos(t *testing.T, d time.Duration) {
	seed := rand.Uint64N(1 << 32)
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	w := newFaultTown(t, seed, 2, 18)
	for _, p := range w.members { // all there may be, so that it doesn't grow
		p.earlier = make(map[uint64]struct{}, int(d/time.Second)*20)
	}
	w.oneDatabase()
	w.up()
	defer w.down(seed)
	time.Sleep(time.Minute)
	talking, hush := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer hush()
	wg.Go(func() { w.talk(talking, 40*time.Millisecond, 100*time.Millisecond) })
	var all faultReport
	var first footprint
	began, from := time.Now(), time.Now()
	for time.Since(began) < d && !t.Failed() {
		r := faultReport{faults: chaosFaults}
		w.trouble(r.faults)
		back := time.Now()
		for due := w.due(); w.missing(due) > 0 && time.Since(back) < 5*time.Minute; {
			time.Sleep(time.Second)
		}
		r.slowest = time.Since(back)
		w.quiet.Store(true)
		time.Sleep(time.Minute)
		due := w.due()
		r.messages, r.members, r.missing = len(due), len(due)*len(w.members), w.missing(due)
		w.check(due)
		all.add(r)
		w.begin()
		time.Sleep(time.Minute)
		now := takeFootprint()
		t.Logf("seed %d, after %v: %v; %v", seed, time.Since(began).Round(time.Second), r, now)
		if first.goroutines == 0 {
			first, from = now, time.Now()
		}
		w.quiet.Store(false)
	}
	t.Logf("seed %d: %v", seed, all)
	last, took := takeFootprint(), time.Since(from).Hours()
	slope := (last.heap - first.heap) / took / float64(len(w.all()))
	t.Logf("a node's heap grew by %.3f MiB an hour, goroutines from %d to %d", slope, first.goroutines, last.goroutines)
	if took >= 4 { // before, it is noise
		require.Less(t, slope, 1.)
		require.InEpsilon(t, first.goroutines, last.goroutines, 0.02)
	}
}

// footprint is what all nodes take.
type footprint struct {
	heap, rss  float64 // MiB
	goroutines int
}

func takeFootprint() footprint {
	f := footprint{heap: heap() / (1 << 20), goroutines: runtime.NumGoroutine()}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.Atoi(strings.Fields(string(b))[1])
		f.rss = float64(pages*os.Getpagesize()) / (1 << 20)
	}
	return f
}

func (f footprint) String() string {
	return fmt.Sprintf("heap %.1f MiB, RSS %.1f MiB, %d goroutines", f.heap, f.rss, f.goroutines)
}

// oneDatabase gives the stores one.
func (w *faultTown) oneDatabase() {
	archive := storetest.NewModel(storetest.Config{Now: w.clock.now})
	for _, p := range w.stores {
		p.archive = archive.Reopen(storetest.Config{Now: p.now})
	}
}

// begin has what was said so far known to members alone: the stores lose it, and of the
// oracle only what was heard stays.
func (w *faultTown) begin() {
	w.oneDatabase()
	for _, p := range w.stores {
		p.restart(time.Second)
	}
	for _, p := range w.members {
		p.hearing.Lock()
		for h := range p.heard {
			p.earlier[brief(h)] = struct{}{}
		}
		clear(p.heard)
		clear(p.payload)
		p.hearing.Unlock()
	}
	w.logged.Lock()
	w.log = nil
	w.logged.Unlock()
}
