package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// bench is a run.
type bench struct {
	options
	load    *workload
	report  *report
	stage   string
	cluster *pgtest.Cluster
	scratch string // spools and the SQLite file
	chilled bool   // it was said what a cold cache is
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %-8s  %s\n", time.Now().Format("15:04:05"), b.stage, fmt.Sprintf(format, args...))
}

// dir is where files go that PostgreSQL doesn't own.
func (b *bench) dir() (string, error) {
	var err error
	switch {
	case b.scratch != "":
	case b.keep != "":
		b.scratch, err = b.keep, os.MkdirAll(b.keep, 0o755)
	default:
		b.scratch, err = os.MkdirTemp("", "shoal-storebench-")
	}
	return b.scratch, err
}

func (b *bench) close() (err error) {
	if b.cluster != nil {
		err = b.closeCluster()
	}
	if b.scratch != "" && b.keep == "" {
		err = errors.Join(err, os.RemoveAll(b.scratch))
	}
	return err
}

// add files a figure of the system at hand and says it.
func (b *bench) add(name string, value float64, unit string) {
	b.report.add(b.stage, name, value, unit)
	b.say("%s: %s %s", name, number(value), unit)
}

// loadAverage tells what else the machine does.
func (b *bench) loadAverage(when string) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return
	}
	if f := strings.Fields(string(text)); len(f) > 3 {
		b.report.note("load average of %s, %s: %s", b.stage, when, strings.Join(f[:3], " "))
	}
}

// follow says every few seconds how far a long phase is. The function returned
// ends it.
func (b *bench) follow(what string, done *atomic.Int64, total int) (end func()) {
	began, over := time.Now(), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(5 * time.Second):
				n := done.Load()
				b.say("%s: %s of %s, %s/s", what, thousands(float64(n)), thousands(float64(total)),
					thousands(float64(n)/time.Since(began).Seconds()))
			}
		}
	})
	return func() {
		close(over)
		wait.Wait()
		b.say("%s: %s in %v", what, thousands(float64(done.Load())), time.Since(began).Round(100*time.Millisecond))
	}
}

// asker is one archive's Query.
type asker func(context.Context, store.Query) (store.Page, error)

// source draws the questions of one client. Every system gets the same.
func (b *bench) source(q question, client int) *rand.Rand {
	h := b.seed
	for _, c := range []byte(q.name) {
		h = h*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(h, uint64(client)))
}

// draw draws n questions for each client, beforehand: making them costs as much
// as many an answer. Every system is asked the same.
func (b *bench) draw(q question, clients, n int) (list [][]store.Query, err error) {
	for c := range clients {
		r := b.source(q, c)
		var all []store.Query
		for range n {
			x, err := q.ask(r).Check()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
			all = append(all, x)
		}
		list = append(list, all)
	}
	return list, nil
}

// answers is what asking came to.
type answers struct {
	took *samples
	rate float64 // a second
	used meter   // as it was when it began
}

// ask has clients ask questions of a kind, n of them each, until the patience
// ends.
func (b *bench) ask(ctx context.Context, q question, clients, n int, ask asker) (answers, error) {
	list, err := b.draw(q, clients, n)
	if err != nil {
		return answers{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := answers{took: new(samples), used: newMeter()}
	began := time.Now()
	var wait sync.WaitGroup
	var entries atomic.Int64
	for _, questions := range list {
		wait.Go(func() {
			for _, x := range questions {
				if time.Since(began) > b.patience {
					return
				}
				start := time.Now()
				page, err := ask(ctx, x)
				a.took.add(time.Since(start))
				if want := len(x.Hashes); err == nil && want > 0 && len(page.Entries) != want {
					err = fmt.Errorf("%d of %d messages found", len(page.Entries), want)
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %w", q.name, err))
					return
				}
				entries.Add(int64(len(page.Entries)))
			}
		})
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return a, err
	}
	count := float64(a.took.count())
	a.rate = count / time.Since(began).Seconds()
	b.say("%s, asked by %d: %.0f answers with %.1f entries", q.name, clients, count, float64(entries.Load())/count)
	return a, nil
}

// questions asks everything that is asked of a data set. reopen begins anew with
// cold caches.
func (b *bench) questions(ctx context.Context, ask asker, reopen func() (asker, error)) (asker, error) {
	if !b.wants(asking) {
		return ask, nil
	}
	b.loadAverage("questions")
	kinds := []question{
		b.load.hashes(10), b.load.hashes(100),
		b.load.times(time.Hour, true, true), b.load.times(time.Hour, true, false),
		b.load.times(24*time.Hour, false, true),
	}
	for _, q := range kinds {
		if _, err := b.ask(ctx, question{"warming up: " + q.name, q.ask}, 1, 20, ask); err != nil {
			return nil, err
		}
		a, err := b.ask(ctx, q, 1, b.samples, ask)
		if err != nil {
			return nil, err
		}
		b.cost(a.used, q.name, a.took.count())
		b.percentiles(q.name, a.took, 50, 90, 95)
		if a, err = b.ask(ctx, q, 1, a.took.count(), ask); err != nil {
			return nil, err
		}
		b.percentiles(warm+q.name, a.took, 50, 90, 95)
	}
	for _, q := range []question{kinds[0], kinds[2], kinds[3]} {
		const clients = 10
		name := fmt.Sprintf("%s, %d clients", q.name, clients)
		n := b.samples
		for _, again := range []string{"", warm} {
			a, err := b.ask(ctx, q, clients, n, ask)
			if err != nil {
				return nil, err
			}
			b.cost(a.used, again+name, a.took.count())
			b.percentiles(again+name, a.took, 50, 95)
			b.add(again+name, a.rate, "/s")
			n = max(1, a.took.count()/clients)
		}
	}
	if err := b.depth(ctx, ask); err != nil {
		return nil, err
	}
	for _, q := range kinds[:4] {
		var took *samples
		var err error
		if ask, took, err = b.cold(ctx, q, reopen); err != nil {
			return nil, err
		}
		b.percentiles(cold+q.name, took, 50, 90, 95)
	}
	return ask, nil
}

// What precedes the name of a question that was asked before, and of one whose
// answer has to come from the disk.
const (
	warm = "warm: "
	cold = "cold: "
)

// cold asks questions of a kind that meet cold caches, each of them. That of a
// connection is warm: a question that finds nothing was asked by it before.
func (b *bench) cold(ctx context.Context, q question, reopen func() (asker, error)) (ask asker, took *samples, err error) {
	list, err := b.draw(question{cold + q.name, q.ask}, 1, b.restarts)
	if err != nil {
		return nil, nil, err
	}
	took = new(samples)
	for _, x := range list[0] {
		if ask, err = reopen(); err != nil {
			return nil, nil, err
		}
		p, err := ask(ctx, b.load.nothing(x))
		if err == nil && len(p.Entries) > 0 {
			err = errors.New("there is something where nothing should be")
		}
		if err == nil {
			start := time.Now()
			p, err = ask(ctx, x)
			took.add(time.Since(start))
		}
		if want := len(x.Hashes); err == nil && want > 0 && len(p.Entries) != want {
			err = fmt.Errorf("%d of %d messages found", len(p.Entries), want)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s%s: %w", cold, q.name, err)
		}
	}
	return ask, took, nil
}

func (b *bench) percentiles(name string, s *samples, which ...float64) {
	for _, p := range which {
		b.add(fmt.Sprintf("%s p%.0f", name, p), s.percentile(p), "ms")
	}
}

// depth walks pages at the new end of the archive and far back, in turns so that
// noise meets both, twice, and counts the second time: what a page costs apart
// from where its data come from.
func (b *bench) depth(ctx context.Context, ask asker) error {
	deep := b.load.entry(b.load.rows / 20).Hash
	pages := min(b.samples, b.load.rows/20/page-1)
	var newest, far samples
	for _, counts := range []bool{false, true} {
		at := []*message.Hash{nil, &deep}
		began := time.Now()
		for n := 0; n < pages && time.Since(began) < 2*b.patience; n++ {
			for i, took := range []*samples{&newest, &far} {
				q := store.Query{Shard: &shard, Backward: true, Limit: page, Cursor: at[i]}
				start := time.Now()
				p, err := ask(ctx, q)
				if err != nil {
					return fmt.Errorf("walk: %w", err)
				}
				if p.Cursor == nil || len(p.Entries) != page {
					return fmt.Errorf("walk: a page of %d ends it", len(p.Entries))
				}
				if counts {
					took.add(time.Since(start))
				}
				at[i] = p.Cursor
			}
		}
	}
	b.percentiles("page of 100, newest", &newest, 50, 95)
	b.percentiles("page of 100, deep in history", &far, 50, 95)
	b.add("page deep in history / newest", far.percentile(50)/newest.percentile(50), "")
	return nil
}
