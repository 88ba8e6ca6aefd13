package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/status-im/shoal/store"
	pgstore "github.com/status-im/shoal/store/postgres"
)

// Four writers with batches of 100 are a busy node: each shard has a writer, which
// takes what has come in meanwhile.
const (
	nodeWriters = 4
	nodeBatch   = 100
)

func (b *bench) openNode(ctx context.Context, url string, node int) (store.Archive, error) {
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	return orNone(pgstore.Open(ctx, url, pgstore.Config{
		Policy:   b.policy(),
		SpoolDir: filepath.Join(dir, fmt.Sprintf("spool-%d", node)),
	}))
}

// postgres measures ours.
func (b *bench) postgres(ctx context.Context) (err error) {
	const name = "shoal"
	load := b.loaded
	if b.reuse != "" {
		load = b.reopened
	}
	url, a, err := load(ctx, name)
	defer func() {
		if a != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if err != nil {
		return err
	}
	if err := holds(ctx, a, 0, b.rows); err != nil {
		return err
	}
	if _, err := b.questions(ctx, a.Query, func() (asker, error) {
		err := a.Close()
		a = nil
		if err != nil {
			return nil, err
		}
		if err := b.chill(); err != nil {
			return nil, err
		}
		a, err = b.openNode(ctx, url, 0)
		if err != nil {
			return nil, err
		}
		return a.Query, nil
	}); err != nil {
		return err
	}
	if err := b.nodes(ctx, url, a); err != nil {
		return err
	}
	if err := b.underFire(ctx, a); err != nil {
		return err
	}
	err = a.Close()
	a = nil
	return errors.Join(err, b.dropDatabase(ctx, name))
}

// loaded fills a new database.
func (b *bench) loaded(ctx context.Context, name string) (url string, a store.Archive, err error) {
	if url, err = b.database(ctx, name); err != nil {
		return "", nil, err
	}
	empty, err := scalar[int64](ctx, url, databaseSize)
	if err != nil {
		return "", nil, err
	}
	if a, err = b.openNode(ctx, url, 0); err != nil {
		return "", nil, err
	}
	if err := b.fill(ctx, a); err != nil {
		return "", a, err
	}
	if err := b.settle(ctx, url); err != nil {
		return "", a, err
	}
	full, err := scalar[int64](ctx, url, databaseSize)
	if err == nil {
		b.add(perRow, float64(full-empty)/float64(b.rows), "")
	}
	return url, a, err
}

// reopened finds what an earlier run has loaded, and when that begins.
func (b *bench) reopened(ctx context.Context, name string) (url string, a store.Archive, err error) {
	if url, err = b.kept(ctx, name); err != nil {
		return "", nil, err
	}
	// Nothing is to expire before it is known how old it is.
	b.load.start = time.Unix(0, 0)
	if a, err = b.openNode(ctx, url, 0); err != nil {
		return "", nil, err
	}
	first, err := a.Query(ctx, store.Query{Shard: &shard, Limit: 1})
	if err == nil && len(first.Entries) == 0 {
		err = errors.New("nothing was kept")
	}
	if err != nil {
		return "", a, err
	}
	begins := first.Entries[0].Message.Timestamp - b.load.entry(0).Message.Timestamp
	b.load.start = time.Unix(0, begins)
	return url, a, nil
}

// nodes measures inserts: one node, and four that get the same messages.
func (b *bench) nodes(ctx context.Context, url string, a store.Archive) (err error) {
	if !b.wants(inserting) {
		return nil
	}
	b.loadAverage("inserts")
	if err := b.steady(ctx, a, 0, 500); err != nil {
		return err
	}
	s, err := a.Stats(ctx)
	if err != nil {
		return err
	}
	list := entries(b.inserts, b.inserts, b.load.live)
	m := newMeter()
	acks, rate, err := insert(ctx, []store.Archive{a}, list, nodeBatch, nodeWriters)
	if err != nil {
		return err
	}
	b.add(oneNode, rate, "/s")
	b.cost(m, oneNode, len(list))
	b.add("acknowledged p50", acks.percentile(50), "ms")
	b.add(ackP99, acks.percentile(99), "ms")
	if err := holds(ctx, a, s.Messages, len(list)); err != nil {
		return err
	}

	four := []store.Archive{a}
	defer func() { err = errors.Join(err, closeAll(four[1:])) }()
	for node := 1; node < 4; node++ {
		other, err := b.openNode(ctx, url, node)
		if err != nil {
			return err
		}
		four = append(four, other)
	}
	list = entries(2*b.inserts, b.inserts, b.load.live)
	m = newMeter()
	acks, rate, err = insert(ctx, four, list, nodeBatch, nodeWriters)
	if err != nil {
		return err
	}
	b.add(fourNodes, rate, "/s")
	b.cost(m, fourNodes, len(list))
	b.percentiles("acknowledged, 4 nodes", acks, 50, 99)
	return holds(ctx, a, s.Messages, 2*b.inserts)
}
