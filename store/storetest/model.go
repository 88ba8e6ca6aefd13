package storetest

import (
	"cmp"
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// Remembered is how long a cursor marks its place, at least, after its message
// has been pruned.
const Remembered = 24 * time.Hour

// Model is an archive in memory: what the suite measures others by, and an
// archive for other packages' tests. It is slow, exact, and prunes when it is
// told to.
type Model struct {
	policy store.Policy
	now    func() time.Time
	data   *modelData

	mu     sync.Mutex
	closed bool
}

// modelData is what survives a Close.
type modelData struct {
	mu    sync.Mutex
	rows  []row // ascending by key, then by shard
	gone  map[message.Hash]gone
	marks map[sharding.Shard]time.Time
}

type row struct {
	store.Entry
	size int64
}

// gone is the place of a message that was pruned, and when.
type gone struct {
	key store.Key
	at  time.Time
}

var _ store.Archive = (*Model)(nil)

// NewModel returns an empty archive. A Now that is nil is time.Now.
func NewModel(c Config) *Model {
	return (&Model{data: &modelData{
		gone:  make(map[message.Hash]gone),
		marks: make(map[sharding.Shard]time.Time),
	}}).Reopen(c)
}

// Reopen returns another archive on the same data, which may be used beside the
// first one and after that was closed.
func (m *Model) Reopen(c Config) *Model {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Model{policy: c.Policy, now: c.Now, data: m.data}
}

// enter locks the data, unless the archive is closed or the context at its end.
func (m *Model) enter(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return net.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.data.mu.Lock()
	return nil
}

// Put implements store.Archive.
func (m *Model) Put(ctx context.Context, entries []store.Entry) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.data.mu.Unlock()
	if err := m.policy.CheckEntries(entries, m.now()); err != nil {
		return err
	}
	for _, e := range entries {
		own, err := message.Decode(e.Message.Encode())
		if err != nil {
			return &store.EntryError{Hash: e.Hash, Err: err}
		}
		e.Message = own
		m.data.file(e)
	}
	return nil
}

// file puts an entry in its place, unless it is there.
func (d *modelData) file(e store.Entry) {
	r := row{Entry: e, size: int64(e.Message.Size())}
	if at, found := slices.BinarySearchFunc(d.rows, r, row.compare); !found {
		d.rows = slices.Insert(d.rows, at, r)
	}
}

// Query implements store.Archive.
func (m *Model) Query(ctx context.Context, q store.Query) (store.Page, error) {
	q, err := q.Check()
	if err != nil {
		return store.Page{}, err
	}
	if err := m.enter(ctx); err != nil {
		return store.Page{}, err
	}
	defer m.data.mu.Unlock()
	return m.data.query(q, func(g gone) bool { return m.now().Sub(g.at) <= Remembered })
}

// query answers q. Known tells whether the place of a pruned message still counts.
func (d *modelData) query(q store.Query, known func(gone) bool) (p store.Page, err error) {
	var cursor *store.Key
	if q.Cursor != nil {
		if cursor = d.place(*q.Cursor, known); cursor == nil {
			return p, store.ErrUnknownCursor
		}
	}
	bytes := 0
	for r := range d.along(q.Backward) {
		if !admits(q, r.Entry) || cursor != nil && !beyond(q.Backward, r.Key(), *cursor) {
			continue
		}
		full := q.MaxBytes > 0 && len(p.Entries) > 0 && bytes+int(r.size) > q.MaxBytes
		if full || len(p.Entries) == q.Limit {
			p.Cursor = new(p.Entries[len(p.Entries)-1].Hash)
			break
		}
		bytes += int(r.size)
		if q.HashesOnly {
			r.Entry = store.Entry{Hash: r.Hash}
		}
		p.Entries = append(p.Entries, r.Entry)
	}
	if q.Backward {
		slices.Reverse(p.Entries)
	}
	return p, nil
}

// along are the rows in the direction of a walk.
func (d *modelData) along(backward bool) func(yield func(row) bool) {
	if !backward {
		return slices.Values(d.rows)
	}
	return func(yield func(row) bool) {
		for _, r := range slices.Backward(d.rows) {
			if !yield(r) {
				return
			}
		}
	}
}

// beyond tells whether a walk that has come to cursor has k still before it.
func beyond(backward bool, k, cursor store.Key) bool {
	if backward {
		return k.Compare(cursor) < 0
	}
	return k.Compare(cursor) > 0
}

// place is where a cursor points.
func (d *modelData) place(h message.Hash, known func(gone) bool) *store.Key {
	for _, r := range d.rows {
		if r.Hash == h {
			return new(r.Key())
		}
	}
	if g, ok := d.gone[h]; ok && known(g) {
		return &g.key
	}
	return nil
}

// admits tells whether an entry is among what q asks for.
func admits(q store.Query, e store.Entry) bool {
	start, end := q.Bounds()
	at := e.Message.Timestamp
	return (q.Shard == nil || *q.Shard == e.Shard) &&
		(len(q.Hashes) == 0 || slices.Contains(q.Hashes, e.Hash)) &&
		(len(q.ContentTopics) == 0 || slices.Contains(q.ContentTopics, e.Message.ContentTopic)) &&
		start <= at && at < end
}

// Prune implements store.Archive.
func (m *Model) Prune(ctx context.Context) (store.Pruned, error) { return m.pruneBy(ctx, m.policy) }

func (m *Model) pruneBy(ctx context.Context, policy store.Policy) (p store.Pruned, err error) {
	if err := m.enter(ctx); err != nil {
		return p, err
	}
	defer m.data.mu.Unlock()
	rows := survivors(m.data.rows, policy, m.now())
	for _, r := range m.data.rows {
		if _, stays := slices.BinarySearchFunc(rows, r, row.compare); !stays {
			m.data.gone[r.Hash] = gone{r.Key(), m.now()}
			p.Messages++
			p.Bytes += r.size
		}
	}
	m.data.rows = rows
	return p, nil
}

// survivors are the rows that a policy keeps: message by message, first by age,
// then by each shard's bounds, then by all shards' together.
func survivors(rows []row, p store.Policy, now time.Time) []row {
	shards := make(map[sharding.Shard][]row)
	for _, r := range rows {
		if age := p.For(r.Shard).MaxAge; age <= 0 || r.Message.Timestamp >= now.Add(-age).UnixNano() {
			shards[r.Shard] = append(shards[r.Shard], r)
		}
	}
	var rest []row
	for s, rows := range shards {
		rest = append(rest, newest(rows, p.For(s))...)
	}
	slices.SortFunc(rest, row.compare)
	return newest(rest, p.Total)
}

// newest are as many of the newest rows as number and size allow.
func newest(rows []row, r store.Retention) []row {
	var messages, size int64
	for i, x := range slices.Backward(rows) {
		messages++
		size += x.size
		if r.MaxMessages > 0 && messages > r.MaxMessages || r.MaxBytes > 0 && size > r.MaxBytes {
			return rows[i+1:]
		}
	}
	return rows
}

// Stats implements store.Archive.
func (m *Model) Stats(ctx context.Context) (s store.Stats, err error) {
	if err := m.enter(ctx); err != nil {
		return s, err
	}
	defer m.data.mu.Unlock()
	shards := make(map[sharding.Shard]*store.ShardStats)
	for _, r := range m.data.rows {
		at := time.Unix(0, r.Message.Timestamp)
		x := shards[r.Shard]
		if x == nil {
			x = &store.ShardStats{Shard: r.Shard, Oldest: at}
			shards[r.Shard] = x
		}
		x.Messages++
		x.Bytes += r.size
		x.Newest = at
		s.Messages++
		s.Bytes += r.size
	}
	for _, shard := range slices.SortedFunc(maps.Keys(shards), compareShards) {
		s.Shards = append(s.Shards, *shards[shard])
	}
	s.DiskBytes = s.Bytes
	return s, nil
}

// Condition implements store.Archive. A model is always ready.
func (m *Model) Condition() store.Condition { return store.Condition{} }

// Retention implements store.Archive.
func (m *Model) Retention(s sharding.Shard) store.Retention { return m.policy.For(s) }

// Mark implements store.Archive.
func (m *Model) Mark(ctx context.Context, s sharding.Shard) (time.Time, error) {
	if err := m.enter(ctx); err != nil {
		return time.Time{}, err
	}
	defer m.data.mu.Unlock()
	return m.data.marks[s], nil
}

// SetMark implements store.Archive.
func (m *Model) SetMark(ctx context.Context, s sharding.Shard, t time.Time) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.data.mu.Unlock()
	if t.After(m.data.marks[s]) {
		m.data.marks[s] = t
	}
	return nil
}

// Flush implements store.Archive. There is nothing to wait for.
func (m *Model) Flush(ctx context.Context) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	m.data.mu.Unlock()
	return nil
}

// Close implements store.Archive. The data stay, for Reopen.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (r row) compare(other row) int {
	return cmp.Or(r.Key().Compare(other.Key()), compareShards(r.Shard, other.Shard))
}

func compareShards(a, b sharding.Shard) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Index, b.Index))
}
