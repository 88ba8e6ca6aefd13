package waku

import (
	"context"
	"fmt"
	"time"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// carefulArchive contains the panics of an archive, which may be the
// application's: a store node without its archive is still a relay node.
type carefulArchive struct{ archive store.Archive }

var _ store.Archive = carefulArchive{}

// contain turns a panic into an error.
func contain(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%w: it panicked: %v", store.ErrUnavailable, v)
	}
}

func (a carefulArchive) Put(ctx context.Context, entries []store.Entry) (err error) {
	defer contain(&err)
	return a.archive.Put(ctx, entries)
}

func (a carefulArchive) Query(ctx context.Context, q store.Query) (page store.Page, err error) {
	defer contain(&err)
	return a.archive.Query(ctx, q)
}

func (a carefulArchive) Prune(ctx context.Context) (pruned store.Pruned, err error) {
	defer contain(&err)
	return a.archive.Prune(ctx)
}

func (a carefulArchive) Stats(ctx context.Context) (stats store.Stats, err error) {
	defer contain(&err)
	return a.archive.Stats(ctx)
}

func (a carefulArchive) Condition() (c store.Condition) {
	var err error
	defer func() {
		if err != nil {
			c = store.Condition{State: store.Damaged, Err: err}
		}
	}()
	defer contain(&err)
	return a.archive.Condition()
}

func (a carefulArchive) Retention(s sharding.Shard) (r store.Retention) {
	var err error
	defer contain(&err)
	return a.archive.Retention(s)
}

func (a carefulArchive) Mark(ctx context.Context, s sharding.Shard) (t time.Time, err error) {
	defer contain(&err)
	return a.archive.Mark(ctx, s)
}

func (a carefulArchive) SetMark(ctx context.Context, s sharding.Shard, t time.Time) (err error) {
	defer contain(&err)
	return a.archive.SetMark(ctx, s, t)
}

func (a carefulArchive) Flush(ctx context.Context) (err error) {
	defer contain(&err)
	return a.archive.Flush(ctx)
}

func (a carefulArchive) Close() (err error) {
	defer contain(&err)
	return a.archive.Close()
}
