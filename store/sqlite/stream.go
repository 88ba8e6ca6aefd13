package sqlite

import (
	"cmp"
	"database/sql"
	"slices"
)

const (
	topicStream = iota
	shardStream
)

// The statements of streams are bounded on both sides and have no LIMIT: they are
// left where the page is complete.
const (
	fromTopic = `SELECT ` + columns + ` FROM shoal_messages INDEXED BY shoal_messages_topic WHERE topic = ?`
	fromShard = `SELECT ` + columns + ` FROM shoal_messages INDEXED BY shoal_messages_shard WHERE shard = ?`

	between   = ` AND (time, prefix) >= (?, ?) AND (time, prefix) <= (?, ?)`
	ascending = between + ` ORDER BY time, prefix`
	descends  = between + ` ORDER BY time DESC, prefix DESC`
)

var streamStatements = []string{
	fromTopic + ascending, fromTopic + descends,
	fromShard + ascending, fromShard + descends,
}

// span is one end of a stretch, in the order of the indexes.
type span struct{ time, prefix int64 }

func (s span) compare(other span) int {
	return cmp.Or(cmp.Compare(s.time, other.time), cmp.Compare(s.prefix, other.prefix))
}

func (s span) min(other span) span {
	if other.compare(s) < 0 {
		return other
	}
	return s
}

func (s span) max(other span) span {
	if other.compare(s) > 0 {
		return other
	}
	return s
}

// stream reads the messages of a topic or a shard, one by one in the direction of
// the walk.
type stream struct {
	pager *pager
	rows  *sql.Rows
	own   *sql.Stmt // to be closed, if it isn't a prepared one

	head  *row   // nil: there is no more
	tied  []*row // follow head; they share its time and the prefix of its hash
	ahead *row   // follows those
}

// stream begins to read. Side by side, streams need a statement each: slot says
// which.
func (p *pager) stream(kind, slot int, n int64, low, high span) (*stream, error) {
	text := streamStatements[2*kind]
	if p.query.Backward {
		text = streamStatements[2*kind+1]
	}
	s := &stream{pager: p}
	var err error
	var statement *sql.Stmt
	if slot < slots {
		statement = p.tx.StmtContext(p.ctx, p.db.reads[text][slot])
	} else {
		statement, err = p.tx.PrepareContext(p.ctx, text)
		s.own = statement
	}
	if err != nil {
		return nil, err
	}
	if s.rows, err = statement.QueryContext(p.ctx, n, low.time, low.prefix, high.time, high.prefix); err == nil {
		if s.ahead, err = s.read(); err == nil {
			err = s.advance()
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// read returns the next row in the order of the index.
func (s *stream) read() (*row, error) {
	if !s.rows.Next() {
		return nil, s.rows.Err()
	}
	r := new(row)
	return r, r.scan(s.rows)
}

// advance moves on by one. The index doesn't order those that are tied.
func (s *stream) advance() error {
	if len(s.tied) == 0 && s.ahead != nil {
		first := s.ahead
		s.ahead = nil
		s.tied = append(s.tied, first)
		for {
			r, err := s.read()
			if err != nil {
				return err
			}
			if r == nil || !first.tiedWith(r) {
				s.ahead = r
				break
			}
			s.tied = append(s.tied, r)
		}
		slices.SortFunc(s.tied, func(x, y *row) int { return s.pager.compare(x.key, y.key) })
	}
	s.head = nil
	if len(s.tied) > 0 {
		s.head, s.tied = s.tied[0], s.tied[1:]
	}
	return nil
}

// tiedWith tells whether the index says nothing about the order of two rows.
func (r *row) tiedWith(other *row) bool {
	return r.key.Time == other.key.Time && [8]byte(r.key.Hash[:8]) == [8]byte(other.key.Hash[:8])
}

func (s *stream) close() {
	if s.rows != nil {
		_ = s.rows.Close() // nothing was written
	}
	if s.own != nil {
		_ = s.own.Close()
	}
}
