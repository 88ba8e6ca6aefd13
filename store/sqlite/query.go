package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const (
	findTime    = `SELECT time FROM shoal_messages WHERE prefix = ? AND rest = ?`
	findExpired = `SELECT time FROM shoal_expired WHERE day IN (?, ?, ?) AND prefix = ? AND rest = ?`
	findHash    = `SELECT id, shard, time FROM shoal_messages WHERE prefix = ? AND rest = ?`
	readMessage = `SELECT ` + columns + ` FROM shoal_messages WHERE id = ?`
	nextShard   = `SELECT min(shard) FROM shoal_buckets WHERE shard > ?`
)

// Query returns one page, see [store.Archive]. It doesn't wait for what is being
// written. Each message that it returns has the hash that it was filed under:
// where one hasn't, the archive is damaged, which [Archive.Condition] tells.
func (a *Archive) Query(ctx context.Context, q store.Query) (store.Page, error) {
	q, err := q.Check()
	if err != nil {
		return store.Page{}, err
	}
	db, leave, err := a.use(ctx)
	if err != nil {
		return store.Page{}, err
	}
	defer leave()
	bound, cancel := db.bind(ctx)
	defer cancel()
	p := &pager{query: q, db: db, ctx: bound, today: dayOf(a.cfg.Now())}
	err = p.run()
	a.judge(db, err)
	if err != nil {
		return store.Page{}, a.outcome(ctx, err)
	}
	return p.page(), nil
}

// pager makes one page, from one snapshot of the database.
type pager struct {
	query store.Query
	db    *database
	ctx   context.Context
	tx    *sql.Tx
	today int64

	from *store.Key // the cursor's place
	out  []store.Entry
	size int
	more bool
}

func (p *pager) run() (err error) {
	if p.tx, err = p.db.read.BeginTx(p.ctx, nil); err != nil {
		return err
	}
	defer func() { _ = p.tx.Rollback() }() // nothing was written
	if p.query.Cursor != nil {
		if p.from, err = p.place(*p.query.Cursor); err != nil {
			return err
		}
	}
	if len(p.query.Hashes) > 0 {
		return p.byHash()
	}
	return p.byTime()
}

func (p *pager) stmt(text string) *sql.Stmt {
	return p.tx.StmtContext(p.ctx, p.db.reads[text][0])
}

// place finds where a message stands, or stood.
func (p *pager) place(h message.Hash) (*store.Key, error) {
	prefix, rest := split(h)
	key := &store.Key{Hash: h}
	err := p.stmt(findTime).QueryRowContext(p.ctx, prefix, rest).Scan(&key.Time)
	if errors.Is(err, sql.ErrNoRows) {
		err = p.stmt(findExpired).QueryRowContext(p.ctx, p.today-1, p.today, p.today+1, prefix, rest).Scan(&key.Time)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, store.ErrUnknownCursor
	}
	return key, err
}

// compare orders keys in the direction of the walk.
func (p *pager) compare(k, other store.Key) int {
	if p.query.Backward {
		return other.Compare(k)
	}
	return k.Compare(other)
}

// behind tells whether the walk has passed a key.
func (p *pager) behind(k store.Key) bool { return p.from != nil && p.compare(k, *p.from) <= 0 }

// take adds a message to the page. It returns false when the page is complete.
func (p *pager) take(r *row) (bool, error) {
	if len(p.out) == p.query.Limit ||
		len(p.out) > 0 && p.query.MaxBytes > 0 && p.size+len(r.message) > p.query.MaxBytes {
		p.more = true
		return false, nil
	}
	e, err := r.entry()
	if err != nil {
		return false, err
	}
	if topics := p.query.ContentTopics; len(topics) > 0 && !slices.Contains(topics, e.Message.ContentTopic) {
		return false, fmt.Errorf("%w: message %s is filed under another content topic", errDamaged, e.Hash)
	}
	p.size += len(r.message)
	if p.query.HashesOnly {
		e = store.Entry{Hash: e.Hash}
	}
	p.out = append(p.out, e)
	return true, nil
}

func (p *pager) page() store.Page {
	var page store.Page
	if p.more {
		last := p.out[len(p.out)-1].Hash
		page.Cursor = &last
	}
	if p.query.Backward {
		slices.Reverse(p.out)
	}
	page.Entries = p.out
	return page
}

// byHash looks each hash up, and reads the messages of those on the page.
func (p *pager) byHash() error {
	var found []row
	find := p.stmt(findHash)
	// Each statement is too short to be worth watching the context for it.
	ctx := context.WithoutCancel(p.ctx)
	for _, h := range p.query.Hashes {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		prefix, rest := split(h)
		err := each(ctx, find, func(rows *sql.Rows) error {
			r := row{key: store.Key{Hash: h}}
			if err := rows.Scan(&r.id, &r.shard, &r.key.Time); err != nil {
				return err
			}
			if !p.behind(r.key) && (p.query.Shard == nil || r.shard == shardNumber(*p.query.Shard)) {
				found = append(found, r)
			}
			return nil
		}, prefix, rest)
		if err != nil {
			return err
		}
	}
	slices.SortFunc(found, func(x, y row) int { return p.compare(x.key, y.key) })
	read := p.stmt(readMessage)
	for _, f := range found {
		var r row
		if err := r.scan(read.QueryRowContext(ctx, f.id)); err != nil {
			return err
		}
		if r.key != f.key {
			return errIndex
		}
		if goOn, err := p.take(&r); !goOn {
			return err
		}
	}
	return nil
}

// byTime merges streams, each of which is in order: one for each content topic,
// or else for each shard. No stream is read further than the page needs.
func (p *pager) byTime() error {
	streams, err := p.open()
	defer func() {
		for _, s := range streams {
			s.close()
		}
	}()
	if err != nil {
		return err
	}
	for {
		var next *stream
		for _, s := range streams {
			if s.head != nil && (next == nil || p.compare(s.head.key, next.head.key) < 0) {
				next = s
			}
		}
		if next == nil {
			return nil
		}
		if !p.behind(next.head.key) {
			if goOn, err := p.take(next.head); !goOn {
				return err
			}
		}
		if err := next.advance(); err != nil {
			return err
		}
	}
}

// open begins the streams that a question asks for.
func (p *pager) open() (streams []*stream, err error) {
	low, high := span{math.MinInt64, math.MinInt64}, span{math.MaxInt64, math.MaxInt64}
	start, end := p.query.Bounds()
	low.time = start
	if end == math.MinInt64 {
		return nil, nil
	}
	if !p.query.End.IsZero() {
		high.time = end - 1
	}
	if p.from != nil {
		at := span{time: p.from.Time}
		at.prefix, _ = split(p.from.Hash)
		if p.query.Backward {
			high = high.min(at)
		} else {
			low = low.max(at)
		}
	}
	begin := func(kind int, n int64) error {
		s, err := p.stream(kind, len(streams), n, low, high)
		if err == nil {
			streams = append(streams, s)
		}
		return err
	}
	if len(p.query.ContentTopics) > 0 {
		for _, name := range p.query.ContentTopics {
			var id int64
			err := p.stmt(findTopic).QueryRowContext(p.ctx, shardNumber(*p.query.Shard), name).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err == nil {
				err = begin(topicStream, id)
			}
			if err != nil {
				return streams, err
			}
		}
		return streams, nil
	}
	if p.query.Shard != nil {
		return streams, begin(shardStream, shardNumber(*p.query.Shard))
	}
	shards, err := shardsKept(p.ctx, p.stmt(nextShard))
	for _, n := range shards {
		if err == nil {
			err = begin(shardStream, n)
		}
	}
	return streams, err
}

// shardsKept lists the shards of which anything is kept.
func shardsKept(ctx context.Context, next *sql.Stmt) (shards []int64, err error) {
	var n sql.NullInt64
	for last := int64(-1); ; last = n.Int64 {
		if err := next.QueryRowContext(ctx, last).Scan(&n); err != nil || !n.Valid {
			return shards, err
		}
		shards = append(shards, n.Int64)
	}
}

// each hands over the rows of an answer.
func each(ctx context.Context, s *sql.Stmt, f func(*sql.Rows) error, args ...any) error {
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err has told
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
