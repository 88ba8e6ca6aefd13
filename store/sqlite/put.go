package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/status-im/shoal/store"
)

// maxTopics bounds how many content topics are known by heart.
const maxTopics = 10_000

const (
	// A hash is looked for before it is filed: no index on all of it makes sure.
	insertMessage = `INSERT OR FAIL INTO shoal_messages (shard, topic, time, prefix, rest, seal, message)
		SELECT ?, ?, ?, ?, ?, ?, ?
		WHERE NOT EXISTS (SELECT 1 FROM shoal_messages WHERE prefix = ? AND rest = ? AND shard = ?)`
	findTopic    = `SELECT id, seal FROM shoal_topics WHERE shard = ? AND name = ?`
	insertTopic  = `INSERT INTO shoal_topics (shard, name, seal) VALUES (?, ?, 0)`
	sealNewTopic = `UPDATE shoal_topics SET seal = ? WHERE id = ?`
	readBucket   = `SELECT messages, bytes, seal FROM shoal_buckets WHERE shard = ? AND hour = ?`
	writeBucket  = `INSERT OR REPLACE INTO shoal_buckets (shard, hour, messages, bytes, seal) VALUES (?, ?, ?, ?, ?)`
	deleteBucket = `DELETE FROM shoal_buckets WHERE shard = ? AND hour = ?`
)

// filed is a message on its way into the database.
type filed struct {
	shard   int64
	topic   string
	key     store.Key
	encoded []byte
}

func file(e store.Entry) filed {
	return filed{
		shard: shardNumber(e.Shard), topic: e.Message.ContentTopic, key: e.Key(), encoded: e.Message.Encode(),
	}
}

// topicID names a content topic of a shard.
type topicID struct {
	shard int64
	name  string
}

// bucketID names an hour of a shard, and count is what there is in it.
type bucketID struct{ shard, hour int64 }

type count struct{ messages, bytes int64 }

// Put keeps entries, see [store.Archive]. It returns when they are on the disk.
// What several callers put at the same time is written at once.
func (a *Archive) Put(ctx context.Context, entries []store.Entry) error {
	if a.isClosed() {
		return errClosed
	}
	if err := a.cfg.Policy.CheckEntries(entries, a.cfg.Now()); err != nil {
		return err
	}
	rows := make([]filed, len(entries))
	for i, e := range entries {
		rows[i] = file(e)
	}
	for len(rows) > 0 {
		n := cutRows(rows)
		if err := a.outcome(ctx, a.do(ctx, &job{rows: rows[:n]})); err != nil {
			a.condition.refused(err, len(rows))
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// cutRows is how many rows go into one transaction.
func cutRows(rows []filed) int {
	bytes := 0
	for i := range rows {
		bytes += len(rows[i].encoded)
		if i > 0 && (i >= groupRows || bytes > groupBytes) {
			return i
		}
	}
	return len(rows)
}

// insert files a message, unless it is there.
func (a *Archive) insert(w *writing, r *filed) error {
	topic, err := a.topic(w, topicID{r.shard, r.topic})
	if err != nil {
		return err
	}
	prefix, rest := split(r.key.Hash)
	result, err := w.stmt(insertMessage).ExecContext(w.ctx,
		r.shard, topic, r.key.Time, prefix, rest, sealRow(r.shard, topic, r.key, r.encoded), r.encoded,
		prefix, rest, r.shard)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n > 0 {
		w.count(r.shard, r.key.Time, 1, int64(len(r.encoded)))
	}
	return err
}

// topic finds or makes the number of a content topic.
func (a *Archive) topic(w *writing, id topicID) (int64, error) {
	if n, ok := a.topics[id]; ok {
		return n, nil
	}
	if n, ok := w.topics[id]; ok {
		return n, nil
	}
	var n, sum int64
	err := w.stmt(findTopic).QueryRowContext(w.ctx, id.shard, id.name).Scan(&n, &sum)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		n, err = w.newTopic(id)
	case err == nil && sum != sealTopic(n, id.shard, id.name):
		err = errTopic
	}
	if err == nil {
		w.topics[id] = n
	}
	return n, err
}

func (w *writing) newTopic(id topicID) (int64, error) {
	result, err := w.stmt(insertTopic).ExecContext(w.ctx, id.shard, id.name)
	if err != nil {
		return 0, err
	}
	n, err := result.LastInsertId()
	if err == nil {
		_, err = w.stmt(sealNewTopic).ExecContext(w.ctx, sealTopic(n, id.shard, id.name), n)
	}
	return n, err
}

func (w *writing) count(shard, time, messages, bytes int64) {
	id := bucketID{shard, hourOf(time)}
	c := w.changes[id]
	w.changes[id] = count{c.messages + messages, c.bytes + bytes}
}

// account writes what the transaction did to the counts.
func (a *Archive) account(w *writing) error {
	for id, change := range w.changes {
		c, err := bucket(w.ctx, w.stmt(readBucket), id)
		if err != nil {
			return err
		}
		c.messages += change.messages
		c.bytes += change.bytes
		switch {
		case c.messages < 0 || c.bytes < 0 || (c.messages == 0) != (c.bytes == 0):
			return fmt.Errorf("%w: %d messages of %d bytes would be left in an hour", errDamaged, c.messages, c.bytes)
		case c.messages == 0:
			_, err = w.stmt(deleteBucket).ExecContext(w.ctx, id.shard, id.hour)
		default:
			_, err = w.stmt(writeBucket).ExecContext(w.ctx, id.shard, id.hour, c.messages, c.bytes, id.seal(c))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (id bucketID) seal(c count) int64 { return seal(id.shard, id.hour, c.messages, c.bytes) }

// bucket reads what there is in an hour.
func bucket(ctx context.Context, s *sql.Stmt, id bucketID) (c count, err error) {
	var sum int64
	switch err = s.QueryRowContext(ctx, id.shard, id.hour).Scan(&c.messages, &c.bytes, &sum); {
	case errors.Is(err, sql.ErrNoRows):
		return count{}, nil
	case err == nil && sum != id.seal(c):
		err = errCounts
	}
	return c, err
}
