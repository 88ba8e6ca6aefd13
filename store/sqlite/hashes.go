package sqlite

import (
	"database/sql"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

var findHashes = amongst(`SELECT id, shard, time, prefix, rest FROM shoal_messages WHERE prefix`, 1, 10, store.MaxHashes)

// byHash looks the hashes up.
func (p *pager) byHash() error {
	m := findHashes.fit(len(p.query.Hashes))
	args := make([]any, m.size)
	wanted := make(map[message.Hash]bool, len(p.query.Hashes))
	for i, h := range p.query.Hashes {
		args[i], _ = split(h)
		wanted[h] = true
	}
	var list []spot
	var id, shard, time, prefix number
	var rest sql.RawBytes
	err := p.each(func(rows *sql.Rows) error {
		if err := rows.Scan(&id, &shard, &time, &prefix, &rest); err != nil {
			return err
		}
		h, err := join(int64(prefix), rest)
		if err == nil && wanted[h] && (p.query.Shard == nil || int64(shard) == shardNumber(*p.query.Shard)) &&
			!p.behind(store.Key{Time: int64(time), Hash: h}) {
			list = append(list, spot{span{int64(time), int64(prefix)}, int64(id)})
		}
		return err
	}, m.text, args...)
	if err != nil {
		return err
	}
	list, _ = p.first(list)
	return p.fill(list, func(r *row) bool { return wanted[r.key.Hash] })
}
