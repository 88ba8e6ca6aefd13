package waku

import (
	"slices"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const (
	// settleTime is how long a mesh must have stood before others' stores are
	// asked for what came before it.
	settleTime = 10 * time.Second
	// resumeDefault is how far back is asked where retention isn't limited.
	resumeDefault = 30 * 24 * time.Hour
	// After a failure the next try comes after firstFillPause, doubled up to
	// longestFillPause.
	firstFillPause   = 5 * time.Second
	longestFillPause = 2 * time.Minute
)

// keepComplete fills gaps from other store nodes and otherwise notes that there
// are none.
func (k *shardArchive) keepComplete() {
	wait := firstFillPause
	for k.ctx.Err() == nil {
		k.mu.Lock()
		gap, gaps := k.gap, k.gaps
		k.mu.Unlock()
		if gap == "" {
			wait = firstFillPause
			k.mark(k.ctx)
			pause(k.ctx, markPeriod, k.wake)
			continue
		}
		if k.cfg.resume == 0 {
			k.closeGap(gaps) // nobody is to fill it
			continue
		}
		err := k.fill()
		if k.ctx.Err() != nil {
			return
		}
		if err == nil {
			k.closeGap(gaps)
			continue
		}
		k.mu.Lock()
		k.failure = line(err)
		k.mu.Unlock()
		pause(k.ctx, wait, nil)
		wait = min(2*wait, longestFillPause)
	}
}

// closeGap notes that nothing is missing any more, unless a new gap has opened.
func (k *shardArchive) closeGap(gaps uint64) {
	k.mu.Lock()
	if k.gaps == gaps {
		k.gap = ""
	}
	k.failure = ""
	k.mu.Unlock()
}

// fill asks other store nodes for what was published since the mark. What is
// published meanwhile comes by relay, which must therefore work before.
func (k *shardArchive) fill() error {
	if err := k.awaitMesh(); err != nil {
		return err
	}
	a := k.cfg.archive
	began := k.node.cfg.now()
	from, err := a.Mark(k.ctx, k.shard.shard)
	if err != nil {
		return err
	}
	age := k.cfg.resume
	if kept := a.Retention(k.shard.shard).MaxAge; kept > 0 {
		age = min(age, kept)
	}
	if oldest := began.Add(-age); from.Before(oldest) {
		from = oldest
	}
	q := store.Query{
		Shard: new(k.shard.shard), Start: from, End: began.Add(k.cfg.window), Limit: store.MaxPageSize, HashesOnly: true,
	}
	walk, err := k.node.newStoreWalk(k.shard, q)
	if err != nil {
		return err
	}
	for first := true; walk.more(); first = false {
		page, err := walk.next(k.ctx)
		if err != nil {
			return err
		}
		missing, err := k.unknown(page)
		if err != nil {
			return err
		}
		if first && len(missing) > len(page)/2 { // asking for hashes first doesn't pay
			return k.fillAll(q, began)
		}
		if err := k.fillFrom(walk, page, missing, began); err != nil {
			return err
		}
	}
	return nil
}

// fillAll takes everything that another store has.
func (k *shardArchive) fillAll(q store.Query, began time.Time) error {
	q.HashesOnly = false
	walk, err := k.node.newStoreWalk(k.shard, q)
	if err != nil {
		return err
	}
	for walk.more() {
		page, err := walk.next(k.ctx)
		if err != nil {
			return err
		}
		if err := k.resume(page, began); err != nil {
			return err
		}
		if len(page) > 0 {
			if err := k.filled(page[len(page)-1].Message.Timestamp, began); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknown returns the hashes of page that the archive doesn't have.
func (k *shardArchive) unknown(page []store.Entry) ([]message.Hash, error) {
	if len(page) == 0 {
		return nil, nil
	}
	missing := map[message.Hash]bool{}
	var hashes []message.Hash
	for _, e := range page {
		hashes = append(hashes, e.Hash)
		missing[e.Hash] = true
	}
	have, err := k.cfg.archive.Query(k.ctx, store.Query{Hashes: hashes, HashesOnly: true, Limit: store.MaxPageSize})
	if err != nil {
		return nil, err
	}
	for _, e := range have.Entries {
		delete(missing, e.Hash)
	}
	return slices.DeleteFunc(hashes, func(h message.Hash) bool { return !missing[h] }), nil
}

// fillFrom takes what is missing of a page of hashes.
func (k *shardArchive) fillFrom(walk *storeWalk, page []store.Entry, missing []message.Hash, began time.Time) error {
	if len(page) == 0 {
		return nil
	}
	if len(missing) > 0 {
		entries, err := walk.lookup(k.ctx, missing)
		if err != nil {
			return err
		}
		if err := k.resume(entries, began); err != nil {
			return err
		}
	}
	// The last one's time says how far this went, if the archive has it.
	last := page[len(page)-1].Hash
	have, err := k.cfg.archive.Query(k.ctx, store.Query{Hashes: []message.Hash{last}})
	if err != nil || len(have.Entries) == 0 {
		return err
	}
	return k.filled(have.Entries[0].Message.Timestamp, began)
}

// awaitMesh returns when the shard's mesh has stood for a while.
func (k *shardArchive) awaitMesh() error {
	for !k.shard.meshStood(settleTime) {
		if k.shard.mesh.Load() == 0 {
			k.mu.Lock()
			k.failure = "no peer in the shard's mesh"
			k.mu.Unlock()
		}
		if !pause(k.ctx, time.Second, nil) {
			return k.ctx.Err()
		}
	}
	return nil
}

// resume keeps what another store gave.
func (k *shardArchive) resume(page []store.Entry, began time.Time) error {
	var entries []store.Entry
	for _, e := range page {
		if k.archivable(e.Message, began) {
			entries = append(entries, e)
		}
	}
	if _, err := k.put(k.ctx, entries); err != nil {
		return err
	}
	k.resumed.Add(uint64(len(entries)))
	return nil
}

// filled notes how far the gap is filled.
func (k *shardArchive) filled(last int64, began time.Time) error {
	done := time.Unix(0, last-1) // others of the same nanosecond may follow
	if sure := began.Add(-k.cfg.window); done.After(sure) {
		done = sure
	}
	return k.cfg.archive.SetMark(k.ctx, k.shard.shard, done)
}
