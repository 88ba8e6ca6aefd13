package waku

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const (
	// askEvery is how often a store node is asked about what is on its way on a shard,
	// and askFirst how long a message has to get there. Then each is asked for after
	// twice as long, up to askLongest.
	askEvery   = 3 * time.Second
	askFirst   = 3 * time.Second
	askLongest = 30 * time.Second
	// askBatch is how many messages are asked for at once. With the one that nobody can
	// have it is what stores like.
	askBatch = 49
	// lateAfter is when a message should have been stored.
	lateAfter = 10 * time.Second
	// proofMost is how many messages a store node has to hand out at once, and
	// proofBytes how long they may be in all.
	proofMost  = 16
	proofBytes = 4 << 20
)

var (
	errInvented = errors.New("it says that it has a message that doesn't exist")
	errNoProof  = errors.New("it says that it has messages that it can't hand out")
)

// stores are a shard's store peers, but for liars, and those that may be asked now.
type stores struct{ all, ready []peer.ID }

// question is what a store node is asked about.
type question struct {
	peer   peer.ID
	second []peer.ID // who else may be asked, those first who know nothing from here
	batch  []*Delivery
	hashes []message.Hash // of batch
	sole   []bool         // of batch: there is only who had it from here
}

// asks tells whether it is time to ask a store node.
func (o *outbox) asks(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.asking && !o.askNext.IsZero() && !now.Before(o.askNext)
}

// askSoon has a store node asked about a delivery by then, and not before the last
// question is askEvery ago. mu is held.
func (o *outbox) askSoon(d *Delivery, t time.Time) {
	d.job.ask = t
	if t.Before(o.askedAt.Add(askEvery)) {
		t = o.askedAt.Add(askEvery)
	}
	if o.askNext.IsZero() || t.Before(o.askNext) {
		o.askNext = t
	}
}

// confirm begins to ask a store node, if it is time. mu is held.
func (o *outbox) confirm(run context.Context, s stores, now time.Time) (wait time.Duration) {
	if o.asking || o.askNext.IsZero() {
		return 0
	}
	if left := o.askNext.Sub(now); left > 0 {
		return left
	}
	o.askNext, o.askedAt = time.Time{}, now
	var due []*Delivery
	for d := range o.all {
		switch j := &d.job; {
		case j.ask.IsZero() || j.asked || j.member == nil:
		case !now.Before(j.ask):
			due = append(due, d)
		default:
			o.askSoon(d, j.ask)
		}
	}
	if len(due) == 0 {
		return 0
	}
	slices.SortFunc(due, byTime)
	q, ok := o.question(s, due, now)
	for _, d := range due {
		if !slices.Contains(q.batch, d) {
			o.askSoon(d, d.job.ask) // the next time
		}
	}
	if !ok {
		return askEvery
	}
	for _, d := range q.batch {
		d.job.asked = true
	}
	o.asking = o.node().tasks.start(func(ctx context.Context) { o.ask(ctx, run, q) })
	return askEvery
}

// question chooses whom to ask about what: one that the message wasn't handed to by this
// node, if there is one. mu is held.
func (o *outbox) question(s stores, due []*Delivery, now time.Time) (question, bool) {
	for _, d := range due {
		if len(s.all) == 0 {
			d.job.ask = now.Add(backoff(askFirst, askLongest, d.job.asks))
			d.job.asks++
			d.update(func(s *DeliveryStatus) { s.Err = cmp.Or(s.Err, ErrNoStorePeer) })
		}
	}
	q := question{}
	may := func(d *Delivery, p peer.ID) (yes, sole bool) {
		if _, had := d.job.to[p]; !had {
			return true, false
		}
		sole = !slices.ContainsFunc(s.all, func(p peer.ID) bool { _, had := d.job.to[p]; return !had })
		return sole, sole
	}
	for _, p := range s.ready {
		if yes, _ := may(due[0], p); yes && (q.peer == "" || q.peer == o.asked) {
			q.peer = p // another one than the last time, if there is one
		}
	}
	if q.peer == "" {
		return q, false
	}
	o.asked = q.peer
	for _, p := range s.ready {
		if p != q.peer {
			q.second = append(q.second, p)
		}
	}
	for _, d := range due {
		if yes, sole := may(d, q.peer); yes && len(q.batch) < askBatch {
			q.batch = append(q.batch, d)
			q.hashes = append(q.hashes, d.Status().Hash)
			q.sole = append(q.sole, sole)
		}
	}
	return q, true
}

// ask asks, and notes what the answers mean.
func (o *outbox) ask(ctx, run context.Context, q question) {
	asking, done := during(ctx, run)
	defer done()
	by, denied, err := o.witnesses(asking, q)
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = false
	o.soon(now)
	defer o.nudge()
	for i, d := range q.batch {
		d.job.asked = false
		if _, in := o.all[d]; !in {
			continue
		}
		if witnesses := by[q.hashes[i]]; len(witnesses) > 0 {
			o.stored(d, witnesses, q.sole[i])
			continue
		}
		o.askSoon(d, now.Add(askEvery))
		if err != nil {
			d.update(func(s *DeliveryStatus) { s.Err = &HistoryError{Shard: o.shard.shard, Peer: q.peer, Err: err} })
			continue
		}
		if !denied[q.hashes[i]] {
			continue // its turn comes
		}
		o.askSoon(d, now.Add(backoff(askFirst, askLongest, d.job.asks)))
		d.job.asks++
		d.job.denied = true
		d.update(func(s *DeliveryStatus) {
			if s.State == Propagated {
				s.Err = ErrNotStored
			}
		})
		if d.State() == Propagated && d.job.resend.IsZero() && !d.job.lane {
			o.planResend(d, now)
		}
	}
}

// stored notes that a store node has the message. mu is held.
func (o *outbox) stored(d *Delivery, by []peer.ID, sole bool) {
	o.propagated(d) // who has stored it has got it
	d.update(func(s *DeliveryStatus) { s.StoredBy, s.SoleStore = by, sole && len(by) == 1 })
	o.finish(d, Stored, nil)
}

// witnesses asks who has which messages. A store node's word alone isn't enough: another
// one must say the same, or it hands the message out.
func (o *outbox) witnesses(ctx context.Context, q question) (by map[message.Hash][]peer.ID, denied map[message.Hash]bool, err error) {
	n := o.node()
	has, err := n.has(ctx, q.peer, q.hashes)
	if err != nil {
		return nil, nil, err
	}
	by, denied = map[message.Hash][]peer.ID{}, map[message.Hash]bool{}
	var claimed []message.Hash
	for _, h := range q.hashes {
		if has[h] {
			claimed = append(claimed, h)
		} else {
			denied[h] = true
		}
	}
	if len(claimed) == 0 {
		return by, denied, nil
	}
	if len(q.second) > 0 {
		if also, err := n.has(ctx, q.second[0], claimed); err == nil {
			claimed = slices.DeleteFunc(claimed, func(h message.Hash) bool {
				if also[h] {
					by[h] = []peer.ID{q.peer, q.second[0]}
				}
				return also[h]
			})
		}
	}
	claimed = o.provable(q, claimed)
	if len(claimed) == 0 {
		return by, denied, nil
	}
	entries, err := n.storeClient.Lookup(ctx, q.peer, claimed)
	n.telemetry.entries(&o.shard.shard, entries, nil, false)
	if err != nil {
		if ctx.Err() == nil {
			n.storeFailed(q.peer, err)
		}
		return by, denied, nil // they are asked for again
	}
	for _, e := range entries {
		by[e.Hash] = []peer.ID{q.peer}
	}
	if slices.ContainsFunc(claimed, func(h message.Hash) bool { return len(by[h]) == 0 && o.isGenuine(q, h) }) {
		n.storeFailed(q.peer, &store.AnswerError{Peer: q.peer, Err: errNoProof})
	}
	for _, h := range claimed {
		denied[h] = len(by[h]) == 0
	}
	return by, denied, nil
}

// provable are as many of the hashes as may be asked for with their messages.
func (o *outbox) provable(q question, hashes []message.Hash) (some []message.Hash) {
	bytes := 0
	for i, h := range q.hashes {
		if !slices.Contains(hashes, h) {
			continue
		}
		if bytes += q.batch[i].Size; len(some) > 0 && (len(some) == proofMost || bytes > proofBytes) {
			break
		}
		some = append(some, h)
	}
	return some
}

// isGenuine tells whether a message of a question would be taken from a store still.
func (o *outbox) isGenuine(q question, h message.Hash) bool {
	i := slices.Index(q.hashes, h)
	o.mu.Lock()
	msg := q.batch[i].job.msg
	o.mu.Unlock()
	return msg != nil && o.node().verifyHistory(o.shard.topic, msg) == nil
}

// has asks a store node which messages it has, and for one that nobody can have: who
// says yes to everything gives himself away.
func (n *Node) has(ctx context.Context, p peer.ID, hashes []message.Hash) (map[message.Hash]bool, error) {
	var trap message.Hash
	_, _ = rand.Read(trap[:])
	asked := append(slices.Clone(hashes), trap)
	slices.SortFunc(asked, func(a, b message.Hash) int { return slices.Compare(a[:], b[:]) })
	has, err := n.storeClient.Has(ctx, p, asked)
	if err == nil && has[trap] {
		err = &store.AnswerError{Peer: p, Err: errInvented}
	}
	if err != nil {
		if ctx.Err() == nil {
			n.storeFailed(p, err)
		}
		return nil, err
	}
	n.stores.answered(p)
	return has, nil
}
