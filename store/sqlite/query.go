package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"slices"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const (
	findTime    = `SELECT ` + bareColumns + ` FROM shoal_messages WHERE prefix = ? AND rest = ? LIMIT 1`
	findExpired = `SELECT time FROM shoal_expired WHERE day IN (?, ?, ?) AND prefix = ? AND rest = ?`
	nextShard   = `SELECT min(shard) FROM shoal_buckets WHERE shard > ?`
)

var findTopics = amongst(`SELECT id, shard, name, seal FROM shoal_topics WHERE shard = ? AND name`, 1, 3, store.MaxContentTopics)

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
	p := &pager{query: q, db: db, ctx: bound, uncut: context.WithoutCancel(bound), today: dayOf(a.cfg.Now())}
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
	uncut context.Context // ctx that doesn't end
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

// ask runs a statement. None takes so long that the context need be watched
// meanwhile, for which drivers and database/sql begin goroutines.
func (p *pager) ask(text string, args ...any) (*sql.Rows, error) {
	if err := p.ctx.Err(); err != nil {
		return nil, err
	}
	return p.tx.StmtContext(p.uncut, p.db.reads[text]).QueryContext(p.uncut, args...)
}

// each hands over the rows of an answer.
func (p *pager) each(f func(*sql.Rows) error, text string, args ...any) error {
	rows, err := p.ask(text, args...)
	if err != nil {
		return err
	}
	return drain(rows, f)
}

// place finds where a message stands, or stood.
func (p *pager) place(h message.Hash) (at *store.Key, err error) {
	prefix, rest := split(h)
	err = p.each(func(rows *sql.Rows) error {
		r, err := newScanner(p.db.path != "", true).scan(rows)
		at = &r.key
		return cmp.Or(err, r.check())
	}, findTime, prefix, rest)
	if err != nil || at != nil {
		return at, err
	}
	err = p.each(func(rows *sql.Rows) error {
		at = &store.Key{Hash: h}
		return rows.Scan(&at.Time)
	}, findExpired, p.today-1, p.today, p.today+1, prefix, rest)
	if err == nil && at == nil {
		err = store.ErrUnknownCursor
	}
	return at, err
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

// byTime reads along the indexes: that of the content topics, or else that of the
// shards.
func (p *pager) byTime() error {
	low, high, some := p.stretch()
	if !some {
		return nil
	}
	of, families := []int64(nil), shardSpots
	var err error
	switch {
	case len(p.query.ContentTopics) > 0:
		families = topicSpots
		of, err = p.topics()
	case p.query.Shard != nil:
		of = []int64{shardNumber(*p.query.Shard)}
	default:
		of, err = p.shards()
	}
	if err != nil {
		return err
	}
	list, err := p.spots(families, of, low, high)
	if err != nil {
		return err
	}
	return p.fill(list, func(r *row) bool {
		if len(p.query.ContentTopics) > 0 {
			return slices.Contains(of, r.topic)
		}
		return slices.Contains(of, r.shard)
	})
}

// stretch is what the page has to be in, if there is anything.
func (p *pager) stretch() (low, high span, some bool) {
	low, high = span{math.MinInt64, math.MinInt64}, span{math.MaxInt64, math.MaxInt64}
	start, end := p.query.Bounds()
	low.time = start
	if end == math.MinInt64 {
		return low, high, false
	}
	if !p.query.End.IsZero() {
		high.time = end - 1
	}
	if p.from != nil {
		if at := spanOf(*p.from); p.query.Backward {
			high = high.min(at)
		} else {
			low = low.max(at)
		}
	}
	return low, high, true
}

// topics finds the numbers of the content topics that are asked for.
func (p *pager) topics() (of []int64, err error) {
	m := findTopics.fit(len(p.query.ContentTopics))
	args := make([]any, 1+m.size)
	args[0] = shardNumber(*p.query.Shard)
	for i, name := range p.query.ContentTopics {
		args[1+i] = name
	}
	err = p.each(func(rows *sql.Rows) error {
		var id, shard, sum number
		var name string
		if err := rows.Scan(&id, &shard, &name, &sum); err != nil {
			return err
		}
		if int64(sum) != sealTopic(int64(id), int64(shard), name) {
			return errTopic
		}
		of = append(of, int64(id))
		return nil
	}, m.text, args...)
	return of, err
}

// shards lists those of which anything is kept.
func (p *pager) shards() (list []int64, err error) {
	var n sql.NullInt64
	for last := int64(-1); ; last = n.Int64 {
		err := p.each(func(rows *sql.Rows) error { return rows.Scan(&n) }, nextShard, last)
		if err != nil || !n.Valid {
			return list, err
		}
		list = append(list, n.Int64)
	}
}

// each hands over the rows of an answer.
func each(ctx context.Context, s *sql.Stmt, f func(*sql.Rows) error, args ...any) error {
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	return drain(rows, f)
}

func drain(rows *sql.Rows, f func(*sql.Rows) error) error {
	defer func() { _ = rows.Close() }() // rows.Err has told
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
