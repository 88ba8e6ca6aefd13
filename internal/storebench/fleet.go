package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// fleet is the store that the fleets run today, as far as its database sees it:
// text columns with everything binary in hex, partitions of an hour, a second
// table from hashes to times, and for each message two statements of one row in
// two transactions. Its pool of 50 connections is half for writing.
type fleet struct {
	write, read *pgxpool.Pool
}

const fleetPool = 25

var fleetSchema = []string{
	`CREATE TABLE messages (
		pubsubTopic varchar NOT NULL,
		contentTopic varchar NOT NULL,
		payload varchar,
		version integer NOT NULL,
		timestamp bigint NOT NULL,
		id varchar NOT NULL,
		messageHash varchar NOT NULL,
		meta varchar,
		PRIMARY KEY (messageHash, timestamp)
	) PARTITION BY RANGE (timestamp)`,
	`CREATE INDEX ON messages (messageHash)`,
	`CREATE INDEX ON messages (timestamp)`,
	`CREATE INDEX ON messages (pubsubTopic)`,
	`CREATE INDEX ON messages (contentTopic)`,
	`CREATE TABLE messages_lookup (
		timestamp bigint NOT NULL,
		messageHash varchar NOT NULL,
		PRIMARY KEY (messageHash, timestamp)
	)`,
	`CREATE INDEX ON messages_lookup (messageHash)`,
	`CREATE INDEX ON messages_lookup (timestamp)`,
}

const (
	fleetInsert = `INSERT INTO messages (id, messageHash, pubsubTopic, contentTopic, payload, version, timestamp, meta)
		VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 = '' THEN NULL ELSE $8 END) ON CONFLICT DO NOTHING`
	fleetInsertLookup = `INSERT INTO messages_lookup (messageHash, timestamp) VALUES ($1, $2) ON CONFLICT DO NOTHING`
	fleetCursor       = `SELECT timestamp FROM messages_lookup WHERE messageHash = $1`
	fleetColumns      = `messageHash, pubsubTopic, contentTopic, payload, version, %stimestamp, meta`
)

func openFleet(ctx context.Context, url string) (*fleet, error) {
	pool := func() (*pgxpool.Pool, error) {
		cfg, err := pgxpool.ParseConfig(url)
		if err != nil {
			return nil, err
		}
		cfg.MaxConns = fleetPool
		return pgxpool.NewWithConfig(ctx, cfg)
	}
	write, err := pool()
	if err != nil {
		return nil, err
	}
	read, err := pool()
	if err != nil {
		write.Close()
		return nil, err
	}
	return &fleet{write, read}, nil
}

func (f *fleet) Close() {
	f.write.Close()
	f.read.Close()
}

// put keeps one message.
func (f *fleet) put(ctx context.Context, e store.Entry) error {
	m, hash := e.Message, hex.EncodeToString(e.Hash[:])
	_, err := f.write.Exec(ctx, fleetInsert, "0", hash, e.Shard.PubsubTopic(), m.ContentTopic,
		hex.EncodeToString(m.Payload), int32(m.Version), m.Timestamp, hex.EncodeToString(m.Meta))
	if err == nil {
		_, err = f.write.Exec(ctx, fleetInsertLookup, hash, m.Timestamp)
	}
	return err
}

// warm opens all connections and prepares their statements.
func (f *fleet) warm(ctx context.Context, list []store.Entry) error {
	var next atomic.Int64
	return inParallel(ctx, fleetPool, func(ctx context.Context) error {
		for i := next.Add(1) - 1; i < int64(len(list)); i = next.Add(1) - 1 {
			if err := f.put(ctx, list[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// query puts a question together as text, values included, which isn't prepared.
func (f *fleet) query(ctx context.Context, q store.Query) (store.Page, error) {
	if len(q.Hashes) > 0 {
		return f.byHash(ctx, q)
	}
	var where []string
	add := func(format string, args ...any) { where = append(where, fmt.Sprintf(format, args...)) }
	order, compare := "ASC", ">"
	if q.Backward {
		order, compare = "DESC", "<"
	}
	if q.Cursor != nil {
		hash := hex.EncodeToString(q.Cursor[:])
		var at int64
		if err := f.read.QueryRow(ctx, fleetCursor, hash).Scan(&at); err != nil {
			return store.Page{}, err
		}
		add("(timestamp, messageHash) %s ('%d','%s')", compare, at, hash)
	}
	if len(q.ContentTopics) > 0 {
		add("contentTopic IN (%s)", literals(q.ContentTopics))
	}
	add("pubsubTopic = %s", literals([]string{q.Shard.PubsubTopic()}))
	if !q.Start.IsZero() {
		add("timestamp >= '%d'", q.Start.UnixNano())
	}
	if !q.End.IsZero() {
		add("timestamp <= '%d'", q.End.UnixNano())
	}
	columns := fmt.Sprintf(fleetColumns, "")
	if q.HashesOnly {
		columns = "messageHash"
	}
	sql := fmt.Sprintf("SELECT %s FROM messages WHERE %s ORDER BY timestamp %s, messageHash %s LIMIT '%d'",
		columns, strings.Join(where, " AND "), order, order, q.Limit+1)
	return f.page(ctx, sql, q)
}

func (f *fleet) byHash(ctx context.Context, q store.Query) (store.Page, error) {
	var hashes []string
	for _, h := range q.Hashes {
		hashes = append(hashes, hex.EncodeToString(h[:]))
	}
	list := literals(hashes)
	sql := fmt.Sprintf(`
		WITH min_timestamp AS (SELECT MIN(timestamp) AS min_ts FROM messages_lookup WHERE messagehash IN (%s))
		SELECT m.%s FROM messages m
		INNER JOIN messages_lookup l ON m.timestamp = l.timestamp AND m.messagehash = l.messagehash
		WHERE l.timestamp >= (SELECT min_ts FROM min_timestamp) AND l.messagehash IN (%s)
		ORDER BY m.timestamp DESC, m.messagehash DESC LIMIT %d`,
		list, fmt.Sprintf(fleetColumns, "m."), list, q.Limit+1)
	return f.page(ctx, sql, q)
}

func literals(list []string) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("'" + strings.ReplaceAll(s, "'", "''") + "'")
	}
	return b.String()
}

func (f *fleet) page(ctx context.Context, sql string, q store.Query) (p store.Page, err error) {
	rows, err := f.read.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for rows.Next() {
		var e store.Entry
		if q.HashesOnly {
			err = scanHash(rows, &e)
		} else {
			err = scanEntry(rows, &e)
		}
		if err != nil {
			return p, err
		}
		p.Entries = append(p.Entries, e)
	}
	if len(p.Entries) > q.Limit {
		p.Entries = p.Entries[:q.Limit]
		last := p.Entries[q.Limit-1].Hash
		p.Cursor = &last
	}
	if q.Backward {
		slices.Reverse(p.Entries)
	}
	return p, rows.Err()
}

func scanHash(rows pgx.Rows, e *store.Entry) error {
	var hash string
	if err := rows.Scan(&hash); err != nil {
		return err
	}
	_, err := hex.Decode(e.Hash[:], []byte(hash))
	return err
}

func scanEntry(rows pgx.Rows, e *store.Entry) error {
	var hash, pubsubTopic, payload string
	var meta *string
	m := new(message.Message)
	if err := rows.Scan(&hash, &pubsubTopic, &m.ContentTopic, &payload, &m.Version, &m.Timestamp, &meta); err != nil {
		return err
	}
	_, err1 := hex.Decode(e.Hash[:], []byte(hash))
	var err2, err3, err4 error
	e.Shard, err2 = sharding.ParsePubsubTopic(pubsubTopic)
	m.Payload, err3 = hex.DecodeString(payload)
	if meta != nil {
		m.Meta, err4 = hex.DecodeString(*meta)
	}
	e.Message = m
	return errors.Join(err1, err2, err3, err4)
}

// partitions makes a partition for each hour, from the first message to some
// hours from now.
func (f *fleet) partitions(ctx context.Context, start, end time.Time) error {
	for at := start.Truncate(time.Hour); at.Before(end.Add(6 * time.Hour)); at = at.Add(time.Hour) {
		until := at.Add(time.Hour)
		if _, err := f.write.Exec(ctx, fmt.Sprintf(
			"CREATE TABLE messages_%d_%d PARTITION OF messages FOR VALUES FROM ('%d') TO ('%d')",
			at.Unix(), until.Unix(), at.UnixNano(), until.UnixNano())); err != nil {
			return err
		}
	}
	return nil
}

// fill loads the data set with COPY, in the order of time, into the tables as
// they are with all their indexes.
func (f *fleet) fill(ctx context.Context, w *workload, done *atomic.Int64) error {
	const chunk = 5000
	var next atomic.Int64
	return inParallel(ctx, 2, func(ctx context.Context) error {
		for {
			from := int(next.Add(chunk)) - chunk
			if from >= w.rows {
				return nil
			}
			list := entries(from, min(chunk, w.rows-from), w.entry)
			if err := f.copy(ctx, list); err != nil {
				return err
			}
			done.Add(int64(len(list)))
		}
	})
}

func (f *fleet) copy(ctx context.Context, list []store.Entry) error {
	_, err := f.write.CopyFrom(ctx, pgx.Identifier{"messages"},
		[]string{"id", "messagehash", "pubsubtopic", "contenttopic", "payload", "version", "timestamp", "meta"},
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
			e, m := list[i], list[i].Message
			return []any{"0", hex.EncodeToString(e.Hash[:]), e.Shard.PubsubTopic(), m.ContentTopic,
				hex.EncodeToString(m.Payload), int32(m.Version), m.Timestamp, hex.EncodeToString(m.Meta)}, nil
		}))
	if err != nil {
		return err
	}
	_, err = f.write.CopyFrom(ctx, pgx.Identifier{"messages_lookup"}, []string{"messagehash", "timestamp"},
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
			return []any{hex.EncodeToString(list[i].Hash[:]), list[i].Message.Timestamp}, nil
		}))
	return err
}

// inParallel runs n of do and returns the first error, which ends the others.
func inParallel(ctx context.Context, n int, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for range n {
		wait.Go(func() {
			if err := do(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}
