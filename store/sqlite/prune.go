package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/status-im/shoal/store"
)

const (
	oldest = `SELECT id, time, prefix FROM shoal_messages INDEXED BY shoal_messages_shard
		WHERE shard = ? AND time < ? ORDER BY time, prefix LIMIT ?`
	readGone     = `SELECT shard, topic, time, length(message) FROM shoal_messages WHERE id = ?`
	rememberGone = `INSERT OR REPLACE INTO shoal_expired (day, prefix, rest, time)
		SELECT ?, prefix, rest, time FROM shoal_messages WHERE id = ?`
	deleteMessage = `DELETE FROM shoal_messages WHERE id = ?`
	nameTopic     = `SELECT shard, name FROM shoal_topics
		WHERE id = ? AND NOT EXISTS (SELECT 1 FROM shoal_messages WHERE topic = ?)`
	deleteTopic   = `DELETE FROM shoal_topics WHERE id = ?`
	someForgotten = `SELECT day, prefix FROM shoal_expired WHERE day < ? ORDER BY day, prefix LIMIT 1 OFFSET 500`
	forget        = `DELETE FROM shoal_expired WHERE day < ? AND (day, prefix) <= (?, ?)`
)

// What Prune deletes at once takes pruneTime or so, in which Put has to wait.
const (
	pruneTime                       = 15 * time.Millisecond
	pruneFew, pruneTight, pruneMany = 8, 64, 512
)

// Prune applies the policy now, see [store.Archive]. It deletes little at a time
// and lets others write in between.
func (a *Archive) Prune(ctx context.Context) (store.Pruned, error) {
	a.pruning.Lock()
	defer a.pruning.Unlock()
	p := &pruner{archive: a, ctx: ctx, chunk: 4 * pruneFew}
	err := p.run()
	if err == nil {
		err = a.shrink(ctx)
	}
	if p.gone.Messages > 0 {
		a.condition.room(nil, time.Time{})
	}
	a.room.take()
	return p.gone, a.outcome(ctx, err)
}

type pruner struct {
	archive *Archive
	ctx     context.Context
	chunk   int
	tight   bool // there is no room but what was kept back
	gone    store.Pruned
}

func (p *pruner) run() error {
	now := p.archive.cfg.Now()
	policy := p.archive.cfg.Policy
	shards, _, err := p.kept()
	if err != nil {
		return err
	}
	for _, shard := range shards {
		s, err := numberShard(shard)
		if err != nil {
			return err
		}
		if age := policy.For(s).MaxAge; age > 0 {
			if err := p.remove([]int64{shard}, now.Add(-age).UnixNano(), nil); err != nil {
				return err
			}
		}
	}
	_, kept, err := p.kept()
	if err != nil {
		return err
	}
	cuts, _ := policy.Cuts(kept)
	for s, cut := range cuts {
		if err := p.cut([]int64{shardNumber(s)}, cut); err != nil {
			return err
		}
	}
	// What is too much altogether is certain only now.
	if shards, kept, err = p.kept(); err != nil {
		return err
	}
	if _, total := policy.Cuts(kept); total != (store.Cut{}) {
		if err := p.cut(shards, total); err != nil {
			return err
		}
	}
	return p.forget(dayOf(now) - 1)
}

// kept counts what there is.
func (p *pruner) kept() (shards []int64, kept []store.Bucket, err error) {
	err = p.archive.do(p.ctx, &job{work: func(w *writing) error {
		kept, err = buckets(w.ctx, w.stmt(readBuckets))
		return err
	}})
	for _, b := range kept {
		if n := shardNumber(b.Shard); !slices.Contains(shards, n) {
			shards = append(shards, n)
		}
	}
	return shards, kept, err
}

func (p *pruner) cut(shards []int64, c store.Cut) error {
	if c.Before > 0 {
		if err := p.remove(shards, c.Before, nil); err != nil {
			return err
		}
	}
	if c.Messages <= 0 && c.Bytes <= 0 {
		return nil
	}
	return p.remove(shards, math.MaxInt64, &c)
}

// remove deletes the oldest messages of some shards from before a time: all, or
// what a cut takes.
func (p *pruner) remove(shards []int64, before int64, cut *store.Cut) error {
	for {
		var gone store.Pruned
		var took time.Duration
		complete := false
		err := p.do(func(w *writing) (err error) {
			began := time.Now()
			defer func() { took = time.Since(began) }()
			gone, complete, err = p.some(w, shards, before, cut)
			return err
		})
		if err != nil {
			return err
		}
		p.gone.Messages += gone.Messages
		p.gone.Bytes += gone.Bytes
		if cut != nil {
			cut.Messages, cut.Bytes = cut.Messages-gone.Messages, cut.Bytes-gone.Bytes
		}
		if complete {
			return nil
		}
		switch {
		case p.tight:
			p.chunk = pruneTight
		case took > pruneTime:
			p.chunk = max(p.chunk/2, pruneFew)
		case took < pruneTime/2:
			p.chunk = min(p.chunk*2, pruneMany)
		}
	}
}

// do has the writer do one step. On a full disk, what is kept back makes room for
// it, and the log is emptied after each.
func (p *pruner) do(work func(*writing) error) error {
	err := p.archive.do(p.ctx, &job{work: work, long: true})
	if classify(err) == faultFull && !p.tight {
		p.tight = p.archive.room.release()
		p.chunk = pruneFew
		p.empty()
		err = p.archive.do(p.ctx, &job{work: work, long: true})
	}
	if err == nil && p.tight {
		p.empty()
	}
	return err
}

// empty empties the log. If it can't, there will be an error soon enough.
func (p *pruner) empty() {
	_ = p.archive.do(p.ctx, &job{solo: p.archive.emptyLog})
}

// candidate is a message that may have to go.
type candidate struct{ id, shard, time, prefix int64 }

// some deletes one chunk.
func (p *pruner) some(w *writing, shards []int64, before int64, cut *store.Cut) (gone store.Pruned, complete bool, err error) {
	var found []candidate
	for _, shard := range shards {
		err := each(w.ctx, w.stmt(oldest), func(rows *sql.Rows) error {
			c := candidate{shard: shard}
			found = append(found, c)
			last := &found[len(found)-1]
			return rows.Scan(&last.id, &last.time, &last.prefix)
		}, shard, before, p.chunk)
		if err != nil {
			return gone, false, err
		}
	}
	slices.SortFunc(found, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.time, y.time), cmp.Compare(x.prefix, y.prefix))
	})
	complete = len(found) < p.chunk
	topics := map[int64]bool{}
	for i, c := range found {
		if i == p.chunk {
			break
		}
		if cut != nil && gone.Messages >= cut.Messages && gone.Bytes >= cut.Bytes {
			complete = true
			break
		}
		topic, size, err := p.one(w, c)
		if err != nil {
			return gone, false, err
		}
		topics[topic] = true
		gone.Messages++
		gone.Bytes += size
	}
	return gone, complete, p.topics(w, slices.Collect(maps.Keys(topics)))
}

// one deletes a message and remembers where it stood.
func (p *pruner) one(w *writing, c candidate) (topic, size int64, err error) {
	var shard, time int64
	if err := w.stmt(readGone).QueryRowContext(w.ctx, c.id).Scan(&shard, &topic, &time, &size); err != nil {
		return 0, 0, err
	}
	if shard != c.shard || time != c.time {
		return 0, 0, errIndex
	}
	if _, err := w.stmt(rememberGone).ExecContext(w.ctx, dayOf(p.archive.cfg.Now()), c.id); err != nil {
		return 0, 0, err
	}
	if _, err := w.stmt(deleteMessage).ExecContext(w.ctx, c.id); err != nil {
		return 0, 0, err
	}
	w.count(c.shard, c.time, -1, -size)
	return topic, size, nil
}

// topics drops the names of those of which nothing is left.
func (p *pruner) topics(w *writing, ids []int64) error {
	for _, id := range ids {
		var name topicID
		err := w.stmt(nameTopic).QueryRowContext(w.ctx, id, id).Scan(&name.shard, &name.name)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err == nil {
			_, err = w.stmt(deleteTopic).ExecContext(w.ctx, id)
		}
		if err != nil {
			return err
		}
		w.dropped = append(w.dropped, name)
	}
	return nil
}

// forget drops the places of messages that went before a day.
func (p *pruner) forget(day int64) error {
	for more := true; more; {
		err := p.do(func(w *writing) error {
			last, prefix := day, int64(math.MaxInt64)
			err := w.stmt(someForgotten).QueryRowContext(w.ctx, day).Scan(&last, &prefix)
			more = err == nil
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			_, err = w.stmt(forget).ExecContext(w.ctx, day, last, prefix)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
