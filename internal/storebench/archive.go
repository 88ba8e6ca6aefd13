package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/status-im/shoal/store"
)

// policy keeps the whole data set while it is asked for.
func (b *bench) policy() store.Policy {
	return store.Policy{Default: store.Retention{MaxAge: time.Since(b.load.start) + 24*time.Hour}}
}

// orNone is an archive that was opened, and nil if there was an error, not one of
// some type.
func orNone[A store.Archive](a A, err error) (store.Archive, error) {
	if err != nil {
		return nil, err
	}
	return a, nil
}

// fill puts the data set, in the order of time, and waits until it is in the
// database.
func (b *bench) fill(ctx context.Context, a store.Archive) error {
	const chunk, inSpool = 500, 20_000
	var next, done atomic.Int64
	end := b.follow("loading", &done, b.rows)
	defer end()
	err := inParallel(ctx, 2, func(ctx context.Context) error {
		for {
			from := int(next.Add(chunk)) - chunk
			if from >= b.rows {
				return nil
			}
			list := entries(from, min(chunk, b.rows-from), b.load.entry)
			if err := room(ctx, a, inSpool); err != nil {
				return err
			}
			if err := a.Put(ctx, list); err != nil {
				return err
			}
			done.Add(int64(len(list)))
		}
	})
	if err != nil {
		return err
	}
	return a.Flush(ctx)
}

// room waits until fewer messages than n are on their way to the database.
func room(ctx context.Context, a store.Archive, n int64) error {
	for a.Condition().Pending > n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// insert puts the same messages into archives, which are nodes on one database,
// in batches, and measures until all are in the database.
func insert(ctx context.Context, archives []store.Archive, list []store.Entry, batch, writers int) (acks *samples, rate float64, err error) {
	acks = new(samples)
	next := make([]atomic.Int64, len(archives))
	var worker atomic.Int64
	start := time.Now()
	err = inParallel(ctx, len(archives)*writers, func(ctx context.Context) error {
		node := int(worker.Add(1)) % len(archives)
		for {
			from := int(next[node].Add(int64(batch))) - batch
			if from >= len(list) {
				return nil
			}
			begin := time.Now()
			if err := archives[node].Put(ctx, list[from:min(from+batch, len(list))]); err != nil {
				return err
			}
			acks.add(time.Since(begin))
		}
	})
	if err != nil {
		return nil, 0, err
	}
	for _, a := range archives {
		if err := a.Flush(ctx); err != nil {
			return nil, 0, err
		}
	}
	return acks, float64(len(list)) / time.Since(start).Seconds(), nil
}

// steady puts single messages at a rate that leaves the archive time, and
// measures how long each Put takes.
func (b *bench) steady(ctx context.Context, a store.Archive, from, perSecond int) error {
	n := perSecond * 5
	if b.quick {
		n = perSecond
	}
	list := entries(from, n, b.load.live)
	acks := new(samples)
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := range list {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		begin := time.Now()
		if err := a.Put(ctx, list[i:i+1]); err != nil {
			return err
		}
		acks.add(time.Since(begin))
	}
	if err := a.Flush(ctx); err != nil {
		return err
	}
	b.percentiles(fmt.Sprintf("acknowledged at %d/s, one by one", perSecond), acks, 50, 99)
	return nil
}

// holds makes sure that all messages of a list are kept once.
func holds(ctx context.Context, a store.Archive, before int64, n int) error {
	s, err := a.Stats(ctx)
	if err == nil && s.Messages != before+int64(n) {
		err = fmt.Errorf("%d messages are kept, expected %d", s.Messages, before+int64(n))
	}
	return err
}

func closeAll(list []store.Archive) (err error) {
	for _, a := range list {
		err = errors.Join(err, a.Close())
	}
	return err
}
