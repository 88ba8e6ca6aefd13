package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/status-im/shoal/store"
	lite "github.com/status-im/shoal/store/sqlite"
)

// sqlite measures the embedded archive.
func (b *bench) sqlite(ctx context.Context) (err error) {
	dir, err := b.dir()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "archive.db")
	open := func() (store.Archive, error) {
		return orNone(lite.Open(ctx, file, lite.Config{Policy: b.policy()}))
	}
	a, err := open()
	if err != nil {
		return err
	}
	defer func() {
		if a != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	reopen := func() (asker, error) {
		err := a.Close()
		a = nil
		if err != nil {
			return nil, err
		}
		if err := b.forget(dir); err != nil {
			return nil, err
		}
		if a, err = open(); err != nil {
			return nil, err
		}
		return a.Query, nil
	}
	if err := b.fill(ctx, a); err != nil {
		return err
	}
	s, err := a.Stats(ctx)
	if err != nil {
		return err
	}
	b.add(perRow, float64(s.DiskBytes)/float64(s.Messages), "")
	if err := holds(ctx, a, 0, b.rows); err != nil {
		return err
	}
	if _, err := b.questions(ctx, a.Query, reopen); err != nil {
		return err
	}
	return b.embedded(ctx, a)
}

// embedded measures inserts, which are in the file when Put returns.
func (b *bench) embedded(ctx context.Context, a store.Archive) error {
	if !b.wants(inserting) {
		return nil
	}
	b.loadAverage("inserts")
	for run, x := range []struct {
		name           string
		batch, writers int
		part           int
	}{
		{"insert, one by one", 1, 1, 10},
		{inBatches, 50, 1, 2},
		{"insert, one by one from 16 at once", 1, 16, 4},
		{oneNode, nodeBatch, nodeWriters, 2},
	} {
		n := b.inserts / x.part
		list := entries(run*b.inserts, n, b.load.live)
		m := newMeter()
		acks, rate, err := insert(ctx, []store.Archive{a}, list, x.batch, x.writers)
		if err != nil {
			return err
		}
		b.add(x.name, rate, "/s")
		b.cost(m, x.name, n)
		if x.name == oneNode {
			b.add("acknowledged p50", acks.percentile(50), "ms")
			b.add(ackP99, acks.percentile(99), "ms")
		}
		time.Sleep(time.Second) // upkeep of the log catches up
	}
	return b.steady(ctx, a, 5*b.inserts, 500)
}
