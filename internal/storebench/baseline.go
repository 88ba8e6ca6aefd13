package main

import (
	"context"
	"sync/atomic"
	"time"
)

// baseline measures today's layout and statements.
func (b *bench) baseline(ctx context.Context) (err error) {
	const name = "baseline"
	url, err := b.database(ctx, name)
	if err != nil {
		return err
	}
	b.report.note("the baseline's data set was loaded with COPY; everything else came in through the measured paths")
	empty, err := scalar[int64](ctx, url, databaseSize)
	if err != nil {
		return err
	}
	if err := b.exec(ctx, url, fleetSchema...); err != nil {
		return err
	}
	f, err := openFleet(ctx, url)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	if err := f.partitions(ctx, b.load.start, time.Now()); err != nil {
		return err
	}
	var done atomic.Int64
	end := b.follow("loading", &done, b.rows)
	err = f.fill(ctx, b.load, &done)
	end()
	if err != nil {
		return err
	}
	if err := b.settle(ctx, url); err != nil {
		return err
	}
	full, err := scalar[int64](ctx, url, databaseSize)
	if err != nil {
		return err
	}
	b.add(perRow, float64(full-empty)/float64(b.rows), "")
	if _, err := b.questions(ctx, f.query, func() (asker, error) {
		f.Close()
		if err := b.chill(); err != nil {
			return nil, err
		}
		var err error
		f, err = openFleet(ctx, url)
		return f.query, err
	}); err != nil {
		return err
	}
	if err := b.fleetInserts(ctx, url); err != nil {
		return err
	}
	f.Close()
	return b.dropDatabase(ctx, name)
}

// fleetInserts measures one node, and then four that get the same messages.
func (b *bench) fleetInserts(ctx context.Context, url string) error {
	if !b.wants(inserting) {
		return nil
	}
	b.loadAverage("inserts")
	const slower = 3 // about: as long as ours takes
	n := b.inserts / slower
	for run, nodes := range []int{1, 4} {
		list := entries(run*b.inserts, n, b.load.live)
		acks := new(samples)
		var stores []*fleet
		for range nodes {
			f, err := openFleet(ctx, url)
			if err != nil {
				return err
			}
			defer f.Close()
			stores = append(stores, f)
			if err := f.warm(ctx, entries(20*b.inserts+(run+len(stores))*1000, 1000, b.load.live)); err != nil {
				return err
			}
		}
		start, m := time.Now(), newMeter()
		next := make([]atomic.Int64, nodes)
		var worker atomic.Int64
		err := inParallel(ctx, nodes*fleetPool, func(ctx context.Context) error {
			node := int(worker.Add(1)) % nodes
			for {
				i := next[node].Add(1) - 1
				if i >= int64(n) {
					return nil
				}
				begin := time.Now()
				if err := stores[node].put(ctx, list[i]); err != nil {
					return err
				}
				acks.add(time.Since(begin))
			}
		})
		if err != nil {
			return err
		}
		rate := float64(n) / time.Since(start).Seconds()
		if nodes == 1 {
			b.add(oneNode, rate, "/s")
			b.cost(m, oneNode, n)
			b.add("acknowledged p50", acks.percentile(50), "ms")
			b.add(ackP99, acks.percentile(99), "ms")
		} else {
			b.add(fourNodes, rate, "/s")
			b.cost(m, fourNodes, n)
		}
	}
	return nil
}
