package waku

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

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
	// fillPeers is how many store nodes are asked for one gap. When fillTries
	// attempts have brought an answer of some, that is enough.
	fillPeers = 5
	fillTries = 3
)

// keepComplete fills gaps from other store nodes and otherwise notes that there
// are none.
func (k *shardArchive) keepComplete() {
	wait, tries := firstFillPause, 0
	last := k.node.cfg.now()
	for {
		if _, ok := k.node.gate.pass(k.ctx); !ok {
			return
		}
		now := k.node.cfg.now()
		k.mu.Lock()
		gap, gaps := k.gap, k.gaps
		k.mu.Unlock()
		if gap == "" {
			if slept := now.Sub(last).Abs(); slept > 2*markPeriod {
				k.missing("the node slept, or its clock was set")
				last = now
				continue
			}
			last = now
			wait, tries = firstFillPause, 0
			k.mark(k.ctx)
			k.node.gate.rest(k.ctx, markPeriod, k.wake)
			continue
		}
		if k.cfg.resume == 0 {
			k.closeGap(gaps) // nobody is to fill it
			continue
		}
		tries++
		err := k.fill(tries >= fillTries)
		if k.ctx.Err() != nil {
			return
		}
		last = k.node.cfg.now()
		if err == nil {
			k.closeGap(gaps)
			continue
		}
		k.mu.Lock()
		k.failure = line(err)
		k.mu.Unlock()
		k.node.gate.rest(k.ctx, wait, nil)
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
// published meanwhile comes by relay, which must therefore work before. No single
// node is believed to have everything: the gap is filled when all that are
// connected, up to fillPeers, have answered; or one, if some is enough.
func (k *shardArchive) fill(some bool) error {
	if err := k.awaitMesh(); err != nil {
		return err
	}
	f := &filling{shardArchive: k, began: k.node.cfg.now()}
	var err error
	if f.from, err = k.gapStart(f.began); err != nil {
		return err
	}
	peers := k.node.readyStores(k.shard.shard)
	if len(peers) == 0 {
		return ErrNoStorePeer
	}
	peers = peers[:min(len(peers), fillPeers)]
	var failed []error
	for i, p := range peers {
		f.last = i == len(peers)-1 && len(failed) == 0
		if err := f.ask(p); err != nil {
			failed = append(failed, err)
		}
		if k.ctx.Err() != nil {
			return k.ctx.Err()
		}
	}
	if some && len(failed) < len(peers) {
		return nil
	}
	return errors.Join(failed...)
}

// gapStart is from when on messages may be missing.
func (k *shardArchive) gapStart(now time.Time) (time.Time, error) {
	from, err := k.cfg.archive.Mark(k.ctx, k.shard.shard)
	if err != nil {
		return from, err
	}
	age := k.cfg.resume
	if kept := k.cfg.archive.Retention(k.shard.shard).MaxAge; kept > 0 {
		age = min(age, kept)
	}
	// A mark of the future was set by a clock that was ahead: it says nothing.
	if oldest := now.Add(-age); from.Before(oldest) || from.After(now) {
		from = oldest
	}
	return from, nil
}

// filling fills one gap.
type filling struct {
	*shardArchive
	from, began time.Time
	// last is set when everybody else has been asked: how far this one leads is
	// how far the gap is filled.
	last bool
}

// ask takes from one store node what the archive doesn't have.
func (f *filling) ask(p peer.ID) error {
	q := store.Query{
		Shard: new(f.shard.shard), Start: f.from, End: f.began.Add(f.cfg.window), Limit: store.MaxPageSize, HashesOnly: true,
	}
	walk, err := f.node.newStoreWalk(f.shard, q)
	if err != nil {
		return err
	}
	walk.only = p
	var order hashOrder
	for first := true; walk.more(); first = false {
		page, err := walk.next(f.ctx)
		if err != nil {
			return err
		}
		known, err := f.known(page)
		if err != nil {
			return err
		}
		if first && len(known) < len(page)/2 { // asking for hashes first doesn't pay
			return f.takeAll(p, q)
		}
		if err := f.take(walk, page, known); err != nil {
			return err
		}
		reached := order.edge // a page counts when the next one goes well with it
		if err := order.check(page, known); err != nil {
			err = &store.AnswerError{Peer: p, Err: err}
			f.node.storeFailed(p, err)
			return err
		}
		if reached != nil {
			if err := f.filled(reached.Time); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeAll takes everything that a store node has.
func (f *filling) takeAll(p peer.ID, q store.Query) error {
	q.HashesOnly = false
	walk, err := f.node.newStoreWalk(f.shard, q)
	if err != nil {
		return err
	}
	walk.only = p
	for walk.more() {
		page, err := walk.next(f.ctx)
		if err != nil {
			return err
		}
		if err := f.keepOld(page); err != nil {
			return err
		}
		if len(page) > 0 {
			if err := f.filled(page[len(page)-1].Message.Timestamp); err != nil {
				return err
			}
		}
	}
	return nil
}

// known returns the places of those of page that the archive has.
func (f *filling) known(page []store.Entry) (map[message.Hash]store.Key, error) {
	known := map[message.Hash]store.Key{}
	if len(page) == 0 {
		return known, nil
	}
	var hashes []message.Hash
	for _, e := range page {
		hashes = append(hashes, e.Hash)
	}
	have, err := f.cfg.archive.Query(f.ctx, store.Query{
		Shard: new(f.shard.shard), Hashes: hashes, Limit: store.MaxPageSize,
	})
	for _, e := range have.Entries {
		known[e.Hash] = e.Key()
	}
	return known, err
}

// take takes what is missing of a page of hashes, and adds it to known.
func (f *filling) take(walk *storeWalk, page []store.Entry, known map[message.Hash]store.Key) error {
	var missing []message.Hash
	for _, e := range page {
		if _, ok := known[e.Hash]; !ok {
			missing = append(missing, e.Hash)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	entries, err := walk.lookup(f.ctx, missing)
	if err != nil {
		return err
	}
	for _, e := range entries {
		known[e.Hash] = e.Key()
	}
	return f.keepOld(entries)
}

// hashOrder checks that pages of hashes lead on: of those whose places are known,
// each must come after the one before. Hashes can be made up without end, and
// those of real messages named again and again.
type hashOrder struct {
	edge  *store.Key // the last place known
	blind int        // pages since
}

// maxBlind is how many pages in a row may name nothing but messages that can't be
// had or aren't genuine.
const maxBlind = 100

func (o *hashOrder) check(page []store.Entry, known map[message.Hash]store.Key) error {
	o.blind++
	for _, e := range page {
		k, ok := known[e.Hash]
		if !ok {
			continue
		}
		if o.edge != nil && k.Compare(*o.edge) <= 0 {
			return fmt.Errorf("%w: %s", store.ErrOrder, e.Hash)
		}
		o.edge, o.blind = &k, 0
	}
	if o.blind > maxBlind {
		return store.ErrEndless
	}
	return nil
}

// awaitMesh returns when the shard's mesh has stood for a while.
func (k *shardArchive) awaitMesh() error {
	for !stood(k.shard.meshSince(), settleTime) {
		if k.shard.mesh.Load() == 0 {
			k.mu.Lock()
			k.failure = "no peer in the shard's mesh"
			k.mu.Unlock()
		}
		if !k.node.gate.rest(k.ctx, time.Second, nil) {
			return k.ctx.Err()
		}
	}
	return nil
}

// keepOld keeps what another store gave.
func (f *filling) keepOld(page []store.Entry) error {
	var entries []store.Entry
	for _, e := range page {
		if f.archivable(e.Message, f.began) {
			entries = append(entries, e)
		}
	}
	kept, _, err := f.put(f.ctx, entries)
	f.resumed.Add(uint64(kept))
	return err
}

// filled notes how far the gap is filled.
func (f *filling) filled(last int64) error {
	if !f.last {
		return nil
	}
	done := time.Unix(0, last-1) // others of the same nanosecond may follow
	if sure := f.began.Add(-f.cfg.window); done.After(sure) {
		done = sure
	}
	return f.cfg.archive.SetMark(f.ctx, f.shard.shard, done)
}
