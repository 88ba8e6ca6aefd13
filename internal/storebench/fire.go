package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"

	"github.com/status-im/shoal/store"
)

// underFire serves many members who catch up at the same time, over libp2p from
// a process of their own, while messages come in: 500 a second, and then as many
// as there is room for.
func (b *bench) underFire(ctx context.Context, a store.Archive) error {
	if !b.wants(storming) {
		return nil
	}
	for i, rate := range []int{500, 0} {
		name := fmt.Sprintf("%d clients, %d/s inserted", b.clients, rate)
		if rate == 0 {
			name = fmt.Sprintf("%d clients, inserting flat out", b.clients)
		}
		b.loadAverage(name)
		if err := b.storm(ctx, a, name, rate, (10+i)*b.inserts); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bench) storm(ctx context.Context, a store.Archive, name string, rate, number int) error {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		return err
	}
	defer h.Close()
	s := store.NewServer(h, a, store.ServerConfig{})
	defer s.Close()

	debug.FreeOSMemory() // before watch begins: what went before isn't the server's
	before := resident()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var put, peak atomic.Int64
	pouring := make(chan error, 1)
	go func() { pouring <- b.pour(inner, a, rate, number, &put) }()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		watch(inner, &peak)
	}()
	start, m := time.Now(), newMeter()
	found, err := b.runClients(ctx, clientsTask{
		Addr: h.Addrs()[0].String(), Peer: h.ID().String(),
		Clients: b.clients, For: b.underLoad, Seed: b.seed + uint64(number), Rows: b.rows, Days: b.days, Start: b.load.start,
	})
	took := time.Since(start).Seconds()
	cancel()
	<-watching
	if e := <-pouring; e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	failures := 0
	for _, why := range slices.Sorted(maps.Keys(found.Errors)) {
		b.report.note("%s: %d × %s", name, found.Errors[why], why)
		failures += found.Errors[why]
	}
	pages := samples{list: found.Took}
	b.add(name+": errors", float64(failures), "")
	b.add(name+": pages", float64(pages.count())/b.underLoad.Seconds(), "/s")
	b.percentiles(name+": page", &pages, 50, 99)
	b.cost(m, name+": page and inserts", pages.count())
	b.add(name+": inserted", float64(put.Load())/took, "/s")
	b.add(name+": server memory before", float64(before)/(1<<20), "MiB")
	b.add(name+": server memory at most", float64(peak.Load())/(1<<20), "MiB")
	return nil
}

// pour puts messages until its context ends.
func (b *bench) pour(ctx context.Context, a store.Archive, rate, number int, put *atomic.Int64) error {
	const batch = 50
	var tick <-chan time.Time
	if rate > 0 {
		t := time.NewTicker(time.Second * batch / time.Duration(rate))
		defer t.Stop()
		tick = t.C
	}
	for {
		list := entries(number, batch, b.load.live)
		number += batch
		if tick != nil {
			select {
			case <-ctx.Done():
			case <-tick:
			}
		}
		if err := room(ctx, a, 20_000); err != nil {
			return err
		}
		if err := a.Put(ctx, list); err != nil {
			return err
		}
		put.Add(batch)
	}
}

// watch notes the largest size of the process.
func watch(ctx context.Context, peak *atomic.Int64) {
	for {
		peak.Store(max(peak.Load(), resident()))
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// resident is the memory that the process holds, in bytes.
func resident() int64 {
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, pages int64
		if _, err := fmt.Fscan(bytes.NewReader(b), &size, &pages); err == nil {
			return pages * int64(os.Getpagesize())
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}

// runClients starts this program once more and waits for what it found.
func (b *bench) runClients(ctx context.Context, task clientsTask) (found clientsFound, err error) {
	self, err := os.Executable()
	if err != nil {
		return found, err
	}
	in, err := json.Marshal(task)
	if err != nil {
		return found, err
	}
	cmd := exec.CommandContext(ctx, self, clientsWord)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return found, fmt.Errorf("clients: %w", err)
	}
	return found, json.Unmarshal(out, &found)
}

// reason is an error without what differs from case to case.
func reason(err error) string {
	var status *store.StatusError
	if errors.As(err, &status) {
		return fmt.Sprintf("%v %s", status.Code, status.Desc)
	}
	var exchange *store.ExchangeError
	if errors.As(err, &exchange) {
		err = exchange.Err
	}
	text, _, _ := strings.Cut(err.Error(), "12D3")
	return text
}
