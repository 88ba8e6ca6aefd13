package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// schemaVersion counts the layouts there have been.
const schemaVersion = 1

// pageSize is that of a new file. Rows of 2 KiB fill a page of 16 KiB to 98 %; of
// the default pages, of 4 KiB, each would have one for itself.
const pageSize = 16 << 10

// applicationID marks a file as ours: "Shoa".
const applicationID = 0x53686f61

// migrations make each layout from the one before.
//
// A message's hash is kept in two parts: prefix is its first eight bytes, as a
// number that sorts as they do, and rest the others. The indexes hold the prefix
// alone, which makes them half as large; who reads by them compares rest. A
// shard is a number, the cluster times 65,536 plus the index, and a topic is a
// shard's content topic, named once in shoal_topics. A seal sums up the rest of
// its row: the hash doesn't cover all of a message, and nothing else would tell
// that a number has changed. That of a message's row has two halves, for its place
// and for the message, so that a place is checked without the message.
var migrations = [schemaVersion][]string{{
	`CREATE TABLE shoal_schema (version INTEGER NOT NULL)`,
	`CREATE TABLE shoal_state (name TEXT PRIMARY KEY, number INTEGER NOT NULL, text TEXT NOT NULL)`,
	`CREATE TABLE shoal_topics (
		id INTEGER PRIMARY KEY, shard INTEGER NOT NULL, name TEXT NOT NULL, seal INTEGER NOT NULL)`,
	`CREATE UNIQUE INDEX shoal_topics_name ON shoal_topics (shard, name)`,
	`CREATE TABLE shoal_messages (
		id      INTEGER PRIMARY KEY,
		shard   INTEGER NOT NULL,
		topic   INTEGER NOT NULL,
		time    INTEGER NOT NULL,
		prefix  INTEGER NOT NULL,
		rest    BLOB    NOT NULL,
		seal    INTEGER NOT NULL,
		message BLOB    NOT NULL)`,
	`CREATE INDEX shoal_messages_hash ON shoal_messages (prefix)`,
	`CREATE INDEX shoal_messages_shard ON shoal_messages (shard, time, prefix)`,
	`CREATE INDEX shoal_messages_topic ON shoal_messages (topic, time, prefix)`,
	// What is kept of a shard within an hour.
	`CREATE TABLE shoal_buckets (
		shard INTEGER NOT NULL, hour INTEGER NOT NULL,
		messages INTEGER NOT NULL, bytes INTEGER NOT NULL, seal INTEGER NOT NULL,
		PRIMARY KEY (shard, hour)) WITHOUT ROWID`,
	// Where messages stood that are gone: days count since 1970.
	`CREATE TABLE shoal_expired (
		day INTEGER NOT NULL, prefix INTEGER NOT NULL, rest BLOB NOT NULL, time INTEGER NOT NULL,
		PRIMARY KEY (day, prefix, rest)) WITHOUT ROWID`,
	// safe is the mark that held when the last checkpoint was made.
	`CREATE TABLE shoal_marks (
		shard INTEGER PRIMARY KEY, time INTEGER NOT NULL, safe INTEGER NOT NULL, seal INTEGER NOT NULL)`,
}}

// What is prepared: for the writer, and for questions.
var (
	writeStatements = []string{
		insertMessage, findTopic, insertTopic, sealNewTopic, readBucket, writeBucket, deleteBucket, readBuckets,
		writeMark, readMarks, readState, writeState, dropState,
		oldest, readGone, rememberGone, deleteMessage, nameTopic, deleteTopic, someForgotten, forget,
	}
	readStatements = slices.Concat(
		[]string{findTime, findExpired, nextShard, readBuckets, oldestTime, newestTime},
		findTopics.texts(), findHashes.texts(), fetchRows.texts(), fetchBare.texts(),
		topicSpots[0].texts(), topicSpots[1].texts(), shardSpots[0].texts(), shardSpots[1].texts())
)

// SchemaError says that a database was written by a newer version of this
// package.
type SchemaError struct {
	// Version is what the database has, and Known the newest that this package
	// knows.
	Version, Known int
}

// Error implements error.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("sqlite: the database has schema %d, and this version knows schemas up to %d", e.Version, e.Known)
}

// version reads the schema's version; 0 is an empty database.
func version(ctx context.Context, tx *sql.Tx) (int, error) {
	var tables, v int
	err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'shoal_schema'`).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, err
	}
	var rows int
	err = tx.QueryRowContext(ctx, `SELECT count(*), coalesce(max(version), 0) FROM shoal_schema`).Scan(&rows, &v)
	if err == nil && (rows != 1 || v < 1) {
		err = fmt.Errorf("%w: shoal_schema has %d rows, the newest version is %d", errDamaged, rows, v)
	}
	return v, err
}

// migrate brings the schema up to date, in one transaction. In a file of our own
// the version is kept in the header as well, so that a bit that flips in either
// isn't taken for a newer version.
func migrate(ctx context.Context, db *sql.DB, own bool) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, finish(tx, err)) }()
	v, err := version(ctx, tx)
	if err != nil {
		return err
	}
	if own {
		var header int
		if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&header); err != nil {
			return err
		}
		if header != v {
			return fmt.Errorf("%w: schema %d in the header, %d in its table", errDamaged, header, v)
		}
	}
	switch {
	case v > schemaVersion:
		return &SchemaError{Version: v, Known: schemaVersion}
	case v == schemaVersion:
		return nil
	}
	for _, step := range migrations[v:] {
		for _, statement := range step {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
	}
	last := []string{
		`DELETE FROM shoal_schema`,
		fmt.Sprintf(`INSERT INTO shoal_schema (version) VALUES (%d)`, schemaVersion),
	}
	if own {
		last = append(last,
			fmt.Sprintf(`PRAGMA user_version = %d`, schemaVersion),
			fmt.Sprintf(`PRAGMA application_id = %d`, applicationID))
	}
	for _, statement := range last {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// finish ends a transaction as its outcome says.
func finish(tx *sql.Tx, err error) error {
	if err == nil {
		return tx.Commit()
	}
	_ = tx.Rollback() // err says why
	return nil
}
