package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/status-im/shoal/store"
)

const (
	readBuckets = `SELECT shard, hour, messages, bytes, seal FROM shoal_buckets`
	oldestTime  = `SELECT min(time) FROM shoal_messages INDEXED BY shoal_messages_shard WHERE shard = ?`
	newestTime  = `SELECT max(time) FROM shoal_messages INDEXED BY shoal_messages_shard WHERE shard = ?`
)

// Stats counts what is kept, see [store.Archive]. It doesn't read the messages. In
// a database of the application, DiskBytes is the size of all of it.
func (a *Archive) Stats(ctx context.Context) (store.Stats, error) {
	db, leave, err := a.use(ctx)
	if err != nil {
		return store.Stats{}, err
	}
	defer leave()
	bound, cancel := db.bind(ctx)
	defer cancel()
	stats, err := a.stats(bound, db)
	a.judge(db, err)
	if err != nil {
		return store.Stats{}, a.outcome(ctx, err)
	}
	return stats, nil
}

func (a *Archive) stats(ctx context.Context, db *database) (out store.Stats, err error) {
	tx, err := db.read.BeginTx(ctx, nil)
	if err != nil {
		return out, err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	stmt := func(text string) *sql.Stmt { return tx.StmtContext(ctx, db.reads[text]) }
	kept, err := buckets(ctx, stmt(readBuckets))
	if err != nil {
		return out, err
	}
	for _, b := range kept {
		if n := len(out.Shards); n == 0 || out.Shards[n-1].Shard != b.Shard {
			out.Shards = append(out.Shards, store.ShardStats{Shard: b.Shard})
		}
		s := &out.Shards[len(out.Shards)-1]
		s.Messages, out.Messages = s.Messages+b.Messages, out.Messages+b.Messages
		s.Bytes, out.Bytes = s.Bytes+b.Bytes, out.Bytes+b.Bytes
	}
	for i := range out.Shards {
		s := &out.Shards[i]
		var oldest, newest sql.NullInt64
		n := shardNumber(s.Shard)
		if err := stmt(oldestTime).QueryRowContext(ctx, n).Scan(&oldest); err != nil {
			return out, err
		}
		if err := stmt(newestTime).QueryRowContext(ctx, n).Scan(&newest); err != nil {
			return out, err
		}
		if !oldest.Valid || !newest.Valid {
			return out, errCounts
		}
		s.Oldest, s.Newest = time.Unix(0, oldest.Int64).UTC(), time.Unix(0, newest.Int64).UTC()
	}
	out.DiskBytes, err = a.diskBytes(ctx, tx)
	return out, err
}

func (a *Archive) diskBytes(ctx context.Context, tx *sql.Tx) (total int64, err error) {
	if a.path == "" {
		var pages, each int64
		if err = tx.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages); err == nil {
			err = tx.QueryRowContext(ctx, `PRAGMA page_size`).Scan(&each)
		}
		return pages * each, err
	}
	for _, part := range append([]string{reservePart}, parts...) {
		total += size(a.path + part)
	}
	return total, nil
}

// buckets reads all counts, by shard and hour.
func buckets(ctx context.Context, s *sql.Stmt) (list []store.Bucket, err error) {
	err = each(ctx, s, func(rows *sql.Rows) error {
		var id bucketID
		var c count
		var sum int64
		if err := rows.Scan(&id.shard, &id.hour, &c.messages, &c.bytes, &sum); err != nil {
			return err
		}
		if sum != id.seal(c) {
			return errCounts
		}
		s, err := numberShard(id.shard)
		if err != nil {
			return err
		}
		list = append(list, store.Bucket{
			Shard: s, Start: id.hour * int64(time.Hour), End: (id.hour + 1) * int64(time.Hour),
			Messages: c.messages, Bytes: c.bytes,
		})
		return nil
	})
	return list, err
}
