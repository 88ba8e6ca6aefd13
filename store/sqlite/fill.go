package sqlite

import (
	"database/sql"
	"fmt"
	"slices"

	"github.com/status-im/shoal/store"
)

// The statements that read messages, with what they hold and without.
var (
	fetchRows = amongst(`SELECT `+columns+` FROM shoal_messages WHERE id`, 1, fetchFirst, fetchMost)
	fetchBare = amongst(`SELECT `+bareColumns+` FROM shoal_messages WHERE id`, 1, fetchFirst, fetchMost)
)

// fetchMost are read at once, and fetchFirst while it isn't known how large they
// are.
const (
	fetchFirst = 25
	fetchMost  = store.MaxPageSize
)

// fill reads the messages of a page. asked tells whether a message is among those
// that the question is about: an index that says otherwise is damaged.
func (p *pager) fill(list []spot, asked func(*row) bool) error {
	for len(list) > 0 {
		if len(p.out) == p.query.Limit {
			p.more = true
			return nil
		}
		n := p.group(list)
		rows, err := p.fetch(list[:n])
		if err != nil {
			return err
		}
		list = list[n:]
		for i := range rows {
			if !asked(&rows[i]) {
				return errIndex
			}
			if p.behind(rows[i].key) {
				continue
			}
			if goOn, err := p.take(&rows[i]); !goOn {
				return err
			}
		}
	}
	return nil
}

// group is how many messages are read next: what there is room for, as far as is
// known, and all that are tied.
func (p *pager) group(list []spot) int {
	n := p.query.Limit - len(p.out)
	if p.from != nil && len(p.out) == 0 {
		n++
	}
	if p.query.MaxBytes > 0 && !p.query.HashesOnly {
		fit := fetchFirst
		if len(p.out) > 0 {
			fit = (p.query.MaxBytes-p.size)/(p.size/len(p.out)+1) + 1
		}
		n = min(n, max(fit, 1))
	}
	n = min(n, fetchMost)
	for n < len(list) && list[n].span == list[n-1].span {
		n++
	}
	return min(n, len(list))
}

// fetch reads messages, in the order of the walk.
func (p *pager) fetch(list []spot) ([]row, error) {
	at := make(map[int64]int, len(list))
	for i, s := range list {
		at[s.id] = i
	}
	statements := fetchRows
	if p.query.HashesOnly {
		statements = fetchBare
	}
	rows := make([]row, len(list))
	scan := newScanner(p.db.path != "", p.query.HashesOnly)
	found := 0
	for some := range slices.Chunk(list, fetchMost) {
		m := statements.fit(len(some))
		args := make([]any, m.size)
		for i, s := range some {
			args[i] = s.id
		}
		err := p.each(func(from *sql.Rows) error {
			r, err := scan.scan(from)
			if err != nil {
				return err
			}
			i, ok := at[r.id]
			if !ok || spanOf(r.key) != list[i].span {
				return errIndex
			}
			rows[i] = r
			found++
			return nil
		}, m.text, args...)
		if err != nil {
			return nil, err
		}
	}
	if found != len(list) {
		return nil, errIndex
	}
	slices.SortFunc(rows, func(x, y row) int { return p.compare(x.key, y.key) })
	return rows, nil
}

// take adds a message to the page. It returns false when the page is complete.
func (p *pager) take(r *row) (bool, error) {
	if len(p.out) == p.query.Limit ||
		len(p.out) > 0 && p.query.MaxBytes > 0 && p.size+len(r.message) > p.query.MaxBytes {
		p.more = true
		return false, nil
	}
	if p.query.HashesOnly {
		err := r.check()
		if err == nil {
			p.out = append(p.out, store.Entry{Hash: r.key.Hash})
		}
		return err == nil, err
	}
	e, err := r.entry()
	if err != nil {
		return false, err
	}
	if topics := p.query.ContentTopics; len(topics) > 0 && !slices.Contains(topics, e.Message.ContentTopic) {
		return false, fmt.Errorf("%w: message %s is filed under another content topic", errDamaged, e.Hash)
	}
	p.size += len(r.message)
	p.out = append(p.out, e)
	return true, nil
}
