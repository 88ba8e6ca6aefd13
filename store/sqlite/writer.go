package sqlite

import (
	"context"
	"database/sql"
	"net"
	"slices"
	"time"
)

const (
	// groupRows and groupBytes bound what shares a transaction.
	groupRows  = 500
	groupBytes = 4 << 20
)

// job is work for the writer.
type job struct {
	ctx  context.Context
	rows []filed               // to be kept
	work func(*writing) error  // or something else to be done
	solo func(*database) error // or without a transaction
	long bool                  // it shares its transaction with nothing
	done chan error            // takes one error without waiting
}

// writing is a transaction of the writer, with what it does to the counts.
type writing struct {
	ctx     context.Context
	db      *database
	tx      *sql.Tx
	changes map[bucketID]count
	topics  map[topicID]int64 // made in this transaction
	dropped []topicID
	marks   map[int64]mark
	found   []int64 // shards of which nothing is missing any more
	healed  bool
}

func (w *writing) stmt(text string) *sql.Stmt {
	return w.tx.StmtContext(w.ctx, w.db.writes[text])
}

// write runs the archive's only transactions that write.
func (a *Archive) write() {
	defer close(a.written)
	idle := time.NewTimer(logTime)
	defer idle.Stop()
	for {
		select {
		case j := <-a.jobs:
			a.run(j)
			idle.Reset(logTime)
		case d := <-a.damaged:
			a.replace(d)
		case <-idle.C:
			a.retry()
		case <-a.ctx.Done():
			for {
				select {
				case j := <-a.jobs:
					a.run(j)
				default:
					return
				}
			}
		}
	}
}

// run does a job, along with those that wait already.
func (a *Archive) run(first *job) {
	for first != nil {
		if db := a.current(); db != nil && db.ctx.Err() != nil {
			a.replace(db) // before anything is entrusted to it
		}
		group, next := a.gather(first)
		if first.solo != nil {
			first.done <- a.alone(first)
		} else {
			a.commit(group)
		}
		first = next
	}
}

// gather adds the jobs that wait already and may share a transaction, and returns
// the one that it met and may not.
func (a *Archive) gather(first *job) (group []*job, next *job) {
	group = []*job{first}
	rows, bytes := 0, 0
	for last := first; ; {
		rows += len(last.rows)
		for i := range last.rows {
			bytes += len(last.rows[i].encoded)
		}
		if first.single() || rows >= groupRows || bytes >= groupBytes {
			return group, nil
		}
		select {
		case last = <-a.jobs:
			if last.single() {
				return group, last
			}
			group = append(group, last)
		default:
			return group, nil
		}
	}
}

func (j *job) single() bool { return j.long || j.solo != nil }

// alone does a job that needs no transaction.
func (a *Archive) alone(j *job) error {
	db := a.current()
	switch {
	case j.ctx.Err() != nil:
		return j.ctx.Err()
	case db == nil:
		return errReplacing
	}
	err := j.solo(db)
	a.judge(db, err)
	return err
}

func (a *Archive) commit(group []*job) {
	var due []*job
	for _, j := range group {
		if err := j.ctx.Err(); err != nil {
			j.done <- err
			continue
		}
		due = append(due, j)
	}
	if len(due) == 0 {
		return
	}
	err := a.transact(due)
	if a.path != "" && classify(err) == faultDamaged {
		a.replace(a.current())
		err = a.transact(due)
	}
	if err != nil && len(due) > 1 && classify(err) == faultFull {
		// What is too much together may find room one by one.
		for _, j := range due {
			j.done <- a.transact([]*job{j})
		}
		return
	}
	for _, j := range due {
		j.done <- err
	}
}

// transact does jobs in one transaction.
func (a *Archive) transact(group []*job) error {
	a.retry()
	db := a.current()
	if db == nil {
		return errReplacing
	}
	if slices.ContainsFunc(group, func(j *job) bool { return len(j.rows) > 0 }) {
		if err := a.room.reserve(); err != nil {
			a.judge(db, err)
			return err
		}
	}
	// What is acknowledged together doesn't end with one caller's context.
	ctx := context.Background()
	var w *writing
	err := db.transact(ctx, func(tx *sql.Tx) error {
		w = &writing{ctx: ctx, db: db, tx: tx,
			changes: map[bucketID]count{}, topics: map[topicID]int64{}, marks: map[int64]mark{}}
		for _, j := range group {
			if j.work != nil {
				if err := j.work(w); err != nil {
					return err
				}
				continue
			}
			for i := range j.rows {
				if err := a.insert(w, &j.rows[i]); err != nil {
					return err
				}
			}
		}
		return a.account(w)
	})
	a.judge(db, err)
	if err != nil {
		return err
	}
	a.committed(w)
	if len(w.changes) > 0 {
		a.condition.room(nil, time.Time{})
	}
	return nil
}

// committed takes over what a transaction has changed.
func (a *Archive) committed(w *writing) {
	for id, n := range w.topics {
		if len(a.topics) >= maxTopics {
			clear(a.topics)
		}
		a.topics[id] = n
	}
	for _, id := range w.dropped {
		delete(a.topics, id)
	}
	written := int64(1)
	for _, c := range w.changes {
		written += max(c.messages, -c.messages)
	}
	a.marks.moved(w.marks)
	if w.healed {
		a.condition.damaged(nil, time.Time{})
	}
	for _, shard := range w.found {
		delete(a.missing, shard)
	}
	a.wrote(written)
}

// do has the writer do something, and waits for it.
func (a *Archive) do(ctx context.Context, j *job) error {
	j.ctx, j.done = ctx, make(chan error, 1)
	if err := ctx.Err(); err != nil {
		return err
	}
	a.enter.RLock()
	if a.closed {
		a.enter.RUnlock()
		return net.ErrClosed
	}
	select {
	case a.jobs <- j:
		a.enter.RUnlock()
	case <-ctx.Done():
		a.enter.RUnlock()
		return ctx.Err()
	}
	if j.rows == nil {
		// What it does is the caller's to see, and is nobody's before it is over. It
		// doesn't begin once ctx has ended.
		return <-j.done
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
