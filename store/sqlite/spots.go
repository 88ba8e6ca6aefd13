package sqlite

import (
	"cmp"
	"slices"
	"strings"
)

// merged is how many topics or shards one statement reads in order.
const merged = 10

// The statements read nothing but an index, one stretch of it for each topic or
// shard, which SQLite merges row by row. They have no LIMIT: they are left where
// the page is complete.
var (
	topicSpots = spotFamilies(`SELECT time, prefix, id FROM shoal_messages INDEXED BY shoal_messages_topic WHERE topic = ?`)
	shardSpots = spotFamilies(`SELECT time, prefix, id FROM shoal_messages INDEXED BY shoal_messages_shard WHERE shard = ?`)
)

func spotFamilies(from string) (f [2]family) {
	const between = ` AND (time, prefix) >= (?, ?) AND (time, prefix) <= (?, ?)`
	for i, order := range []string{` ORDER BY time, prefix`, ` ORDER BY time DESC, prefix DESC`} {
		f[i] = newFamily(func(n int) string {
			return from + between + strings.Repeat(` UNION ALL `+from+between, n-1) + order
		}, 1, 3, merged)
	}
	return f
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

// spot is where an index says that a message stands. Messages at the same span
// are tied: which comes first only their hashes tell.
type spot struct {
	span
	id int64
}

// spots reads where the messages of some topics or shards stand, in the order of
// the walk, as far as the page needs.
func (p *pager) spots(families [2]family, of []int64, low, high span) ([]spot, error) {
	f := families[0]
	if p.query.Backward {
		f = families[1]
	}
	var list []spot
	for some := range slices.Chunk(of, merged) {
		found, err := p.merge(f, some, low, high)
		if err != nil {
			return nil, err
		}
		var complete bool
		if list, complete = p.first(append(list, found...)); !complete {
			continue
		}
		// Of the others, nothing behind the end of the page is needed.
		if end := list[len(list)-1].span; p.query.Backward {
			low = end
		} else {
			high = end
		}
	}
	return list, nil
}

// merge reads with one statement, which puts what it finds in order.
func (p *pager) merge(f family, of []int64, low, high span) (list []spot, err error) {
	m := f.fit(len(of))
	args := make([]any, 0, 5*m.size)
	for i := range m.size {
		var n any
		if i < len(of) {
			n = of[i]
		}
		args = append(args, n, low.time, low.prefix, high.time, high.prefix)
	}
	rows, err := p.ask(m.text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // nothing was written
	var time, prefix, id number
	need := need{pager: p}
	for rows.Next() {
		if err := rows.Scan(&time, &prefix, &id); err != nil {
			return nil, err
		}
		s := spot{span{int64(time), int64(prefix)}, int64(id)}
		if !need.takes(s) {
			return list, nil
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// first puts messages in the order of the walk and leaves out what the page
// doesn't need. It returns whether that is complete.
func (p *pager) first(list []spot) ([]spot, bool) {
	slices.SortFunc(list, func(s, other spot) int {
		if p.query.Backward {
			s, other = other, s
		}
		return s.compare(other.span)
	})
	need := need{pager: p}
	n := slices.IndexFunc(list, func(s spot) bool { return !need.takes(s) })
	if n >= 0 {
		list = list[:n]
	}
	return list, need.counted > p.query.Limit
}

// need tells what a page needs of the messages in the order of the walk: one more
// than it has room for, to say that there is more, and all that are tied with that.
// Those that are tied with the cursor may be behind it.
type need struct {
	pager   *pager
	counted int
	last    span
}

func (n *need) takes(s spot) bool {
	if n.counted > n.pager.query.Limit && s.span != n.last {
		return false
	}
	if from := n.pager.from; from == nil || s.span != spanOf(*from) {
		n.counted++
	}
	n.last = s.span
	return true
}
