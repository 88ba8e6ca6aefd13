package postgres

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// A place is found in the map even if its message is gone.
const selectPlace = `SELECT ts FROM shoal_times WHERE head = $1 AND tail = $2 LIMIT 1`

// Query implements [store.Archive].
func (a *Archive) Query(ctx context.Context, q store.Query) (store.Page, error) {
	inner, leave, err := a.enter(ctx)
	if err != nil {
		return store.Page{}, err
	}
	defer leave()
	if q, err = q.Check(); err != nil {
		return store.Page{}, err
	}
	var page store.Page
	var known bool
	err = a.again(inner, func(ctx context.Context) error {
		// The server has its own bound on statements. This one is for connections
		// that lead nowhere.
		ctx, cancel := context.WithTimeout(ctx, 4*a.cfg.StatementTimeout+lifeless)
		defer cancel()
		conn, err := a.reads.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		page, known, err = a.query(ctx, conn.Conn(), q)
		return err
	})
	switch {
	case err != nil:
		return store.Page{}, a.failed(ctx, err)
	case !known:
		return store.Page{}, store.ErrUnknownCursor
	}
	return page, nil
}

// query answers a question whose cursor is known.
func (a *Archive) query(ctx context.Context, conn *pgx.Conn, q store.Query) (p store.Page, known bool, err error) {
	s := stretch{backward: q.Backward}
	s.start, s.end = q.Bounds()
	if q.Backward {
		s.place = store.Key{Time: s.end}
	} else {
		s.place = store.Key{Time: s.start}
	}
	if q.Cursor != nil {
		var at int64
		err := conn.QueryRow(ctx, selectPlace, head(*q.Cursor), tail(*q.Cursor)).Scan(&at)
		if errors.Is(err, pgx.ErrNoRows) {
			return p, false, nil
		}
		if err != nil {
			return p, false, err
		}
		s.goOn(store.Key{Time: at, Hash: *q.Cursor})
	}
	if s.start < s.end {
		p, err = a.page(ctx, conn, q, s)
	}
	return p, true, err
}

// stretch is where a page lies: beyond place, and from start on and before end.
type stretch struct {
	backward   bool
	place      store.Key // with an empty hash, which is before all others
	start, end int64
	hashed     bool // place has a hash
}

// goOn narrows the stretch to what is beyond a cursor.
func (s *stretch) goOn(k store.Key) {
	switch {
	case s.backward && k.Time < s.end:
		s.place, s.hashed = k, true
		s.end = k.Time + 1
	case !s.backward && k.Time >= s.start:
		s.place, s.hashed = k, true
		s.start = k.Time
	}
}

// placeHash is place's hash as the database is asked.
func (s stretch) placeHash() []byte {
	if s.hashed {
		return s.place.Hash[:]
	}
	return []byte{}
}

// found is a row of a page.
type found struct {
	key     store.Key
	shard   int32
	message []byte // nil: not asked for, or the page is full
}

func (a *Archive) page(ctx context.Context, conn *pgx.Conn, q store.Query, s stretch) (store.Page, error) {
	kind := shape{backward: q.Backward, data: !q.HashesOnly}
	var shard *int32
	if q.Shard != nil {
		shard = new(shardKey(*q.Shard))
	}
	among := [][]byte{}
	switch {
	case len(q.Hashes) > 0:
		kind.by = byHash
		for _, h := range q.Hashes {
			among = append(among, h[:])
		}
	case q.Shard == nil:
		kind.by = anyShard
	case len(q.ContentTopics) > 0:
		kind.by = byTopic
		if len(q.ContentTopics) > 2 { // of two, twice a share is all
			kind.by = byTopics
		}
		among = topicKeys(q.ContentTopics)
	}
	size := int64(math.MaxInt64)
	if q.MaxBytes > 0 {
		size = int64(q.MaxBytes)
	}
	rows, err := conn.Query(ctx, statements[kind], shard, among, s.place.Time, s.placeHash(), s.start, s.end, q.Limit+1, size)
	if err != nil {
		return store.Page{}, err
	}
	list, err := pgx.CollectRows(rows, scanFound)
	if err != nil {
		return store.Page{}, err
	}
	return a.assemble(q, list), nil
}

func scanFound(row pgx.CollectableRow) (found, error) {
	var f found
	var hash []byte
	if err := row.Scan(&f.shard, &f.key.Time, &hash, &f.message); err != nil {
		return f, err
	}
	if copy(f.key.Hash[:], hash) != len(hash) {
		return f, errors.New("a hash is too long")
	}
	return f, nil
}

// assemble makes a page of what was found, in the order of the walk. The first
// row that isn't part of it only shows that there is more.
func (a *Archive) assemble(q store.Query, list []found) store.Page {
	var p store.Page
	for i, f := range list {
		if i == q.Limit || !q.HashesOnly && f.message == nil {
			p.Cursor = new(list[i-1].key.Hash)
			break
		}
		if q.HashesOnly {
			p.Entries = append(p.Entries, store.Entry{Hash: f.key.Hash})
			continue
		}
		e, err := f.entry()
		if err != nil {
			a.health.damaged.Add(1)
			a.log.Error("postgres: a damaged message is left out", "hash", f.key.Hash, "shard", shardOf(f.shard), "err", err)
			continue
		}
		p.Entries = append(p.Entries, e)
	}
	if q.Backward {
		slices.Reverse(p.Entries)
	}
	return p
}

// entry is the message, if it is the one it is filed as.
func (f found) entry() (store.Entry, error) {
	m, err := message.Decode(f.message)
	if err != nil {
		return store.Entry{}, err
	}
	e := store.NewEntry(shardOf(f.shard), m)
	if e.Hash != f.key.Hash {
		return store.Entry{}, store.ErrHashMismatch
	}
	return e, nil
}
