package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/status-im/shoal/sharding"
)

const (
	writeMark  = `INSERT OR REPLACE INTO shoal_marks (shard, time, safe, seal) VALUES (?, ?, ?, ?)`
	readMarks  = `SELECT shard, time, safe, seal FROM shoal_marks`
	readState  = `SELECT number, text FROM shoal_state WHERE name = ?`
	writeState = `INSERT OR REPLACE INTO shoal_state (name, number, text) VALUES (?, ?, ?)`
	dropState  = `DELETE FROM shoal_state WHERE name = ?`
)

// The names in shoal_state.
const (
	stateClean   = "clean"   // 1: the file was closed in order
	stateDamaged = "damaged" // since when, and what
	stateOpened  = "opened"  // when
	stateLooked  = "looked"  // when all of a large file was found in order
)

// missingName is the name of a shard whose mark a damage has put back.
func missingName(shard int64) string { return fmt.Sprintf("missing %d", shard) }

// mark is how far a shard is complete. What was put up to safe is in the file
// itself, and does not depend on the log.
type mark struct{ time, safe int64 }

func (m mark) seal(shard int64) int64 { return seal(shard, m.time, m.safe) }

// marks are the shards' marks as the database has them.
type marks struct {
	mu   sync.Mutex
	of   map[int64]mark
	safe map[int64]int64 // the marks at the last checkpoint
}

func (m *marks) get(shard int64) mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[shard]
}

func (m *marks) all() map[int64]mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.of)
}

func (m *marks) set(all map[int64]mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of, m.safe = all, map[int64]int64{}
	for shard, k := range all {
		m.safe[shard] = k.safe
	}
}

// moved takes over what a transaction has written.
func (m *marks) moved(to map[int64]mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.of, to)
}

// saved says that what was written when these were the marks is in the file itself.
func (m *marks) saved(then map[int64]mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.safe = map[int64]int64{}
	for shard, k := range m.of {
		m.safe[shard] = min(k.time, then[shard].time) // a damage may have put it back
	}
}

// next is what to write for a mark that moves.
func (m *marks) next(shard, t int64) (mark, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return mark{time: t, safe: m.safe[shard]}, t > m.of[shard].time
}

// Mark is the time up to which a shard is complete, see [store.Archive].
func (a *Archive) Mark(ctx context.Context, s sharding.Shard) (time.Time, error) {
	if a.isClosed() {
		return time.Time{}, errClosed
	}
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	if k := a.marks.get(shardNumber(s)); k.time > 0 {
		return time.Unix(0, k.time).UTC(), nil
	}
	return time.Time{}, nil
}

// SetMark moves a shard's mark forward, see [store.Archive]. A damage is over
// when the marks of all shards that were in use have passed the time it was found.
func (a *Archive) SetMark(ctx context.Context, s sharding.Shard, t time.Time) error {
	shard := shardNumber(s)
	if err := s.Valid(); err != nil {
		return err
	}
	return a.outcome(ctx, a.do(ctx, &job{work: func(w *writing) error {
		k, moves := a.marks.next(shard, t.UnixNano())
		if !moves {
			return nil
		}
		if _, err := w.stmt(writeMark).ExecContext(w.ctx, shard, k.time, k.safe, k.seal(shard)); err != nil {
			return err
		}
		w.marks[shard] = k
		return a.heal(w, shard, k.time)
	}}))
}

// heal ends a damage if the marks of all shards concerned have passed it.
func (a *Archive) heal(w *writing, shard, t int64) error {
	since, damaged := a.condition.damagedSince()
	if !damaged || t < since.UnixNano() {
		return nil
	}
	w.found = append(w.found, shard)
	if _, err := w.stmt(dropState).ExecContext(w.ctx, missingName(shard)); err != nil {
		return err
	}
	for other := range a.missing {
		if !slices.Contains(w.found, other) {
			return nil
		}
	}
	if _, err := w.stmt(dropState).ExecContext(w.ctx, stateDamaged); err != nil {
		return err
	}
	w.healed = true
	return nil
}

// load reads what an archive knows by heart.
func (a *Archive) load(ctx context.Context, d *database) error {
	all, err := loadMarks(ctx, d.writes[readMarks])
	if err != nil {
		return err
	}
	a.marks.set(all)
	since, what, err := loadState(ctx, d.writes[readState], stateDamaged)
	if err != nil || since == 0 {
		return err
	}
	a.condition.damaged(fmt.Errorf("sqlite: %s", what), time.Unix(0, since))
	a.missing = map[int64]bool{}
	for shard := range all {
		n, _, err := loadState(ctx, d.writes[readState], missingName(shard))
		if err != nil {
			return err
		}
		if n > 0 {
			a.missing[shard] = true
		}
	}
	return nil
}

func loadMarks(ctx context.Context, s *sql.Stmt) (map[int64]mark, error) {
	all := map[int64]mark{}
	err := each(ctx, s, func(rows *sql.Rows) error {
		var shard, sum int64
		var k mark
		if err := rows.Scan(&shard, &k.time, &k.safe, &sum); err != nil {
			return err
		}
		if sum != k.seal(shard) {
			return fmt.Errorf("%w: a mark", errDamaged)
		}
		all[shard] = k
		return nil
	})
	return all, err
}

func loadState(ctx context.Context, s *sql.Stmt, name string) (number int64, text string, err error) {
	err = s.QueryRowContext(ctx, name).Scan(&number, &text)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return number, text, err
}
