package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/status-im/shoal/message"
)

const (
	// A batch is what one statement inserts.
	batchRecords = 400
	batchBytes   = 4 << 20
	// pace is how often one worker inserts while there is little: a steady stream
	// of single messages makes batches, and a message that comes alone goes at
	// once.
	pace = 20 * time.Millisecond

	// Between tries that fail.
	shortestPause = 50 * time.Millisecond
	longestPause  = time.Second
	// insertFor bounds one insertion. The server gives up before.
	insertFor = 30 * time.Second
)

// insertRows inserts what isn't there, into both tables or none.
const insertRows = `
WITH new AS (
	INSERT INTO shoal_messages (ts, shard, size, hash, topic, message)
	SELECT ts, shard, octet_length(message), hash, topic, message
	FROM unnest($1::int8[], $2::int4[], $3::bytea[], $4::bytea[], $5::bytea[]) AS r (ts, shard, hash, topic, message)
	ON CONFLICT DO NOTHING
	RETURNING ts, shard, hash)
INSERT INTO shoal_times (head, tail, ts, shard)
SELECT encode(substr(hash, 1, 16), 'hex')::uuid, encode(substr(hash, 17, 16), 'hex')::uuid, ts, shard FROM new`

// A shard is listed before its first message is.
const insertShards = `INSERT INTO shoal_shards (shard) SELECT unnest($1::int4[]) ON CONFLICT DO NOTHING`

// drain moves messages from the spool to the database until Close.
func (a *Archive) drain() {
	pause, failures := shortestPause, 0
	for {
		if a.link.await(a.ctx) != nil {
			return
		}
		batch, err := a.spool.Next(a.ctx, batchRecords, batchBytes)
		if err != nil {
			if a.ctx.Err() == nil {
				a.log.Error("postgres: reading the spool", "err", err)
				a.health.drainStuck(err)
				a.sleep(longestPause)
				continue
			}
			return
		}
		began := time.Now()
		err = a.insertBatch(batch.Records)
		if err == nil {
			a.health.drained() // before Flush may return
			batch.Done()
			if s := a.spool.Stats(); s.Records == 0 || s.DiskBytes < a.cfg.SpoolBytes*3/4 {
				a.health.spoolTook() // or would
			}
			pause, failures = shortestPause, 0
			if len(batch.Records) < batchRecords/4 {
				a.sleep(pace - time.Since(began))
			}
			continue
		}
		batch.Return()
		if a.ctx.Err() != nil {
			return
		}
		if broken(err) && !a.link.alive(a.ctx) {
			continue
		}
		if failures++; failures > 1 && !contended(err) {
			a.health.drainStuck(err)
		}
		a.sleep(pause)
		pause = min(2*pause, longestPause)
	}
}

// sleep waits, or until Close.
func (a *Archive) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.ctx.Done():
	}
}

// insertBatch inserts records, apart from those that can't be inserted at all.
func (a *Archive) insertBatch(records [][]byte) error {
	rows := make([]row, 0, len(records))
	f := ageFloors(a.cfg.Policy, a.cfg.Now())
	for _, b := range records {
		r, err := decodeRecord(b)
		if err != nil {
			a.health.unstorable.Add(1)
			a.log.Error("postgres: a record of the spool can't be read", "err", err)
			continue
		}
		if r.ts >= f.of(r.shard) { // else it has expired in the spool
			rows = append(rows, r)
		}
	}
	// All nodes insert in one order, so that none waits for another that waits
	// for it.
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.ts, b.ts), bytes.Compare(a.hash, b.hash))
	})
	return a.insert(rows)
}

// insert inserts rows. A row that the database refuses for its own sake is found
// by halving, and given up.
func (a *Archive) insert(rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	err := a.insertOnce(rows)
	for try := 0; sqlState(err) == stateCheckViolation && try < tableTries; try++ {
		a.tables.forget() // somebody dropped a partition
		err = a.insertOnce(rows)
	}
	if !poison(err) {
		return err
	}
	if len(rows) == 1 {
		a.health.unstorable.Add(1)
		a.log.Error("postgres: the database refuses a message, which is lost",
			"hash", message.Hash(rows[0].hash), "shard", shardOf(rows[0].shard), "err", err)
		return nil
	}
	half := len(rows) / 2
	return errors.Join(a.insert(rows[:half]), a.insert(rows[half:]))
}

func (a *Archive) insertOnce(rows []row) error {
	return a.again(a.ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, insertFor)
		defer cancel()
		partitions, shards := a.tables.unknown(rows)
		if err := a.ensure(ctx, partitions); err != nil {
			return err
		}
		if len(shards) > 0 {
			if _, err := a.writes.Exec(ctx, insertShards, shards); err != nil {
				return err
			}
			a.tables.know(nil, shards)
		}
		c := newColumns(len(rows))
		for _, r := range rows {
			c.add(r)
		}
		_, err := a.writes.Exec(ctx, insertRows, c.ts, c.shards, c.hashes, c.topics, c.messages)
		return err
	})
}

// columns are rows as a statement takes them.
type columns struct {
	ts       []int64
	shards   []int32
	hashes   [][]byte
	topics   [][]byte
	messages [][]byte
}

func newColumns(n int) *columns {
	return &columns{make([]int64, 0, n), make([]int32, 0, n), make([][]byte, 0, n), make([][]byte, 0, n), make([][]byte, 0, n)}
}

func (c *columns) add(r row) {
	c.ts = append(c.ts, r.ts)
	c.shards = append(c.shards, r.shard)
	c.hashes = append(c.hashes, r.hash)
	c.topics = append(c.topics, r.topic)
	c.messages = append(c.messages, r.message)
}
