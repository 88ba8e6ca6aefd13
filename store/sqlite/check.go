package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// smallFile is the size up to which all of a file is examined before it is
	// used, unless that takes longer than checkTime.
	smallFile = 32 << 20
	checkTime = 2 * time.Second

	// lookEvery is how often larger files are examined while they are used.
	lookEvery = 7 * 24 * time.Hour
	lookRows  = 100
)

const (
	checkedRows = `SELECT m.id, m.shard, m.topic, m.time, m.prefix, m.rest, m.seal, m.message, t.name, t.seal
		FROM shoal_messages m LEFT JOIN shoal_topics t ON t.id = m.topic AND t.shard = m.shard
		WHERE m.id > ? ORDER BY m.id LIMIT ?`
	// That a row is in each index shows when it is found by it.
	byHashIndex  = `SELECT count(*) FROM shoal_messages INDEXED BY shoal_messages_hash WHERE prefix = ? AND id = ?`
	byShardIndex = `SELECT count(*) FROM shoal_messages INDEXED BY shoal_messages_shard
		WHERE shard = ? AND time = ? AND prefix = ? AND id = ?`
	byTopicIndex = `SELECT count(*) FROM shoal_messages INDEXED BY shoal_messages_topic
		WHERE topic = ? AND time = ? AND prefix = ? AND id = ?`
)

// examine looks for damage before anything is served. It returns whether there is
// more to look at than there was time for.
func examine(ctx context.Context, d *database) (more bool, err error) {
	if size(d.path)+size(d.path+"-wal") > smallFile {
		return true, nil
	}
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	err = thorough(limited, d)
	if err != nil && limited.Err() != nil {
		return true, ctx.Err()
	}
	return false, err
}

// thorough examines everything.
func thorough(ctx context.Context, d *database) error {
	if err := integrity(ctx, d); err != nil {
		return err
	}
	tx, err := d.read.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	kept := map[bucketID]count{}
	last, more := int64(-1<<63), true
	for more && err == nil {
		last, more, err = checkRows(ctx, d, tx, last, func(r *row) error {
			id := bucketID{r.shard, hourOf(r.key.Time)}
			c := kept[id]
			kept[id] = count{c.messages + 1, c.bytes + int64(len(r.message))}
			return nil
		})
	}
	if err != nil {
		return err
	}
	told, err := buckets(ctx, tx.StmtContext(ctx, d.reads[readBuckets]))
	if err != nil {
		return err
	}
	for _, b := range told {
		id := bucketID{shardNumber(b.Shard), hourOf(b.Start)}
		if kept[id] != (count{b.Messages, b.Bytes}) {
			return errCounts
		}
	}
	if len(told) != len(kept) {
		return errCounts
	}
	return nil
}

// integrity has SQLite compare tables, indexes and free pages.
func integrity(ctx context.Context, d *database) error {
	rows, err := d.read.QueryContext(ctx, `PRAGMA integrity_check(3)`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err has told
	var found []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		if text != "ok" {
			found = append(found, text)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %s", errDamaged, strings.Join(found, "; "))
	}
	return nil
}

// checkRows examines the rows behind one, up to lookRows, and hands them over.
func checkRows(ctx context.Context, d *database, tx *sql.Tx, after int64, f func(*row) error) (last int64, more bool, err error) {
	s, err := tx.PrepareContext(ctx, checkedRows)
	if err != nil {
		return after, false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	last = after
	n := 0
	var name sql.NullString
	var sum sql.NullInt64
	scan := newScanner(d.path != "", false, &name, &sum)
	err = each(ctx, s, func(rows *sql.Rows) error {
		r, err := scan.scan(rows)
		if err != nil {
			return err
		}
		e, err := r.entry()
		if err != nil {
			return err
		}
		if !name.Valid || name.String != e.Message.ContentTopic {
			return fmt.Errorf("%w: message %s has another content topic", errDamaged, r.key.Hash)
		}
		if sum.Int64 != sealTopic(r.topic, r.shard, name.String) {
			return errTopic
		}
		n++
		last = r.id
		return f(&r)
	}, after, lookRows)
	return last, n == lookRows, err
}

// look examines a large file while it is used, a little at a time.
func (a *Archive) look() {
	last, more := int64(-1<<63), true
	for more {
		began := time.Now()
		db, leave, err := a.use(a.ctx)
		if err != nil {
			return // it was closed, or found damaged by others
		}
		ctx, cancel := db.bind(a.ctx)
		last, more, err = lookSome(ctx, db, last)
		cancel()
		leave()
		if err != nil {
			a.judge(db, err)
			return
		}
		select {
		case <-time.After(4 * time.Since(began)):
		case <-a.ctx.Done():
			return
		}
	}
	err := a.do(a.ctx, &job{work: func(w *writing) error {
		_, err := w.stmt(writeState).ExecContext(w.ctx, stateLooked, a.cfg.Now().UnixNano(), "")
		return err
	}})
	if err != nil && a.ctx.Err() == nil {
		a.cfg.Logger.Warn("noting that the archive was examined", "err", err)
	}
}

func lookSome(ctx context.Context, d *database, after int64) (last int64, more bool, err error) {
	tx, err := d.read.BeginTx(ctx, nil)
	if err != nil {
		return after, false, err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	var rows []row
	last, more, err = checkRows(ctx, d, tx, after, func(r *row) error {
		rows = append(rows, row{id: r.id, shard: r.shard, topic: r.topic, key: r.key})
		return nil
	})
	if err != nil {
		return last, false, err
	}
	return last, more, checkIndexes(ctx, tx, rows)
}

func checkIndexes(ctx context.Context, tx *sql.Tx, rows []row) error {
	for text, first := range map[string]func(*row) []any{
		byHashIndex:  func(*row) []any { return nil },
		byShardIndex: func(r *row) []any { return []any{r.shard, r.key.Time} },
		byTopicIndex: func(r *row) []any { return []any{r.topic, r.key.Time} },
	} {
		s, err := tx.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		for i := range rows {
			var n int
			prefix, _ := split(rows[i].key.Hash)
			err := s.QueryRowContext(ctx, append(first(&rows[i]), prefix, rows[i].id)...).Scan(&n)
			if err == nil && n != 1 {
				err = errIndex
			}
			if err != nil {
				return errors.Join(err, s.Close())
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}
