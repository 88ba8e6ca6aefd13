package waku

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const (
	// hashCost and bodyCost are what one hash and one message cost on the wire beside
	// the message, about; a question costs askCost.
	hashCost, bodyCost, askCost = 36, 64, 600
	// mostlyNews is from which share of unknown hashes on asking for them first doesn't
	// pay, and fewNews below which share of news it does again; of fewer than newsFrom
	// nothing is concluded.
	mostlyNews, fewNews = 0.9, 0.5
	newsFrom            = 20
)

// errTooMuch ends the filling of a gap that costs more than it may.
var errTooMuch = errors.New("more than may be read back")

// beginFilling has gaps filled from stores. mu is held.
func (b *gapBook) beginFilling() {
	if b.filling || len(b.gaps) == 0 || b.shard.node.cfg.unfilled {
		return
	}
	b.filling = b.shard.node.tasks.start(b.fill)
}

// fill fills one gap after the other.
func (b *gapBook) fill(ctx context.Context) {
	n := b.shard.node
	for wait := gapPause; ; {
		if _, ok := n.gate.pass(ctx); !ok {
			return
		}
		g := b.nextGap()
		if g == nil {
			return
		}
		if d := time.Until(g.since.Add(gapSettle)); d > 0 {
			if !n.gate.rest(ctx, d, nil) {
				return
			}
			continue // others may have come that are filled with it
		}
		var err error = ErrNoStorePeer
		if len(n.storePeers(b.shard.shard)) > 0 {
			err = b.fillGap(ctx, g)
		}
		if ctx.Err() != nil {
			return
		}
		if b.filled(g, err) {
			wait = gapPause
			continue
		}
		select { // what changed before doesn't count
		case <-b.again:
		default:
		}
		if !n.gate.rest(ctx, gapPause, nil) || !n.gate.rest(ctx, wait, b.again) {
			return
		}
		wait = min(2*wait, longestRest)
	}
}

// nextGap returns the oldest gap; nil: there is none, and filling has ended. What
// nobody reads any more isn't missed.
func (b *gapBook) nextGap() *gap {
	b.mu.Lock()
	defer b.mu.Unlock()
	read := b.shard.read()
	if _, all := read[allTopics]; !all {
		for _, g := range b.gaps {
			maps.DeleteFunc(g.topics, func(t string, _ moment) bool { _, ok := read[t]; return !ok })
		}
	}
	b.gaps = slices.DeleteFunc(b.gaps, func(g *gap) bool { return len(g.topics) == 0 })
	if len(b.gaps) == 0 {
		b.gaps, b.filling, b.failure = nil, false, ""
		b.remember()
		return nil
	}
	return b.gaps[0]
}

// filled notes what came of filling a gap, and returns whether it is done with.
func (b *gapBook) filled(g *gap, err error) bool {
	n := b.shard.node
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failure = ""
	tooMuch := errors.Is(err, errTooMuch)
	if err == nil || tooMuch {
		b.gaps = slices.DeleteFunc(b.gaps, func(x *gap) bool { return x == g })
		if err == nil {
			b.stats.Filled++
		} else if to := n.latest(g.to); to.After(b.givenUp) {
			b.givenUp = to
		}
	}
	gone := b.public(g)
	switch {
	case err == nil && (g.told || !g.joining):
		n.emit(Event{Kind: GapFilled, Shard: b.shard.shard, From: g.from.wall, To: g.to.wall, Reason: g.why})
	case err == nil:
	default:
		gone.Failure = line(err)
		if !tooMuch {
			b.failure = gone.Failure
		}
		if tooMuch || !g.told && !g.joining && time.Since(g.since) >= gapPatience {
			g.told = true
			n.emit(Event{Kind: GapOpen, Shard: b.shard.shard, From: gone.From, To: gone.To, Reason: g.why + "; " + gone.Failure})
			b.shard.tell(&GapError{Gap: gone, Final: tooMuch})
		}
	}
	b.remember()
	b.changed() // the mark has moved
	return err == nil || tooMuch
}

// tell gives an error to the readers of the topics concerned.
func (s *shard) tell(e *GapError) {
	s.mu.Lock()
	members := slices.Collect(maps.Keys(s.members))
	s.mu.Unlock()
	for _, m := range members {
		m.mu.Lock()
		for r := range m.readers {
			read := map[string]moment{}
			r.earliest(read)
			_, all := read[allTopics]
			if !r.apart && (all || len(e.Topics) == 0 || slices.ContainsFunc(e.Topics, func(t string) bool { _, ok := read[t]; return ok })) {
				r.sub.Tell(e)
			}
		}
		m.mu.Unlock()
	}
}

// gapFill is one attempt to fill a gap.
type gapFill struct {
	*gapBook
	g      *gap
	topics []string             // nil: all
	asked  map[string]time.Time // what is older wasn't asked for
	end    time.Time
	walked map[peer.ID]bool // whose answers were used
	news   int
	cost   int64
}

// fillGap delivers what stores have of a gap and wasn't delivered: from one, and then
// what another one names beyond that.
func (b *gapBook) fillGap(ctx context.Context, g *gap) error {
	n := b.shard.node
	f := b.newFill(g)
	since := f.begin()
	err := f.chunks(func() error { return f.walk(ctx, since, "") })
	if err == nil {
		for _, p := range n.readyStores(b.shard.shard) {
			if !f.walked[p] {
				err = f.chunks(func() error { return f.hashes(ctx, since, p) })
				break
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Messages += uint64(f.news)
	b.stats.Bytes += uint64(f.cost)
	g.bytes += f.cost
	if err == nil {
		b.lookBack(g, f.walked)
	}
	return err
}

func (b *gapBook) newFill(g *gap) *gapFill {
	n := b.shard.node
	f := &gapFill{gapBook: b, g: g, asked: map[string]time.Time{}, walked: map[peer.ID]bool{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, asked := range g.topics {
		if !asked.mono.IsZero() {
			f.asked[name] = n.earliest(asked)
		}
		f.topics = append(f.topics, name)
	}
	if _, all := g.topics[allTopics]; all {
		f.topics = nil
	}
	slices.Sort(f.topics)
	// What came since is known, so the end matters only for a gap that is over long
	// since. A clock that was set while away may have it too early.
	if time.Since(g.to.mono) > n.cfg.window {
		f.end = n.latest(g.to).Add(n.cfg.window)
	}
	return f
}

// begin is from when on messages may be missing.
func (f *gapFill) begin() time.Time {
	n := f.shard.node
	f.mu.Lock()
	from, done, givenUp := n.earliest(f.g.from), f.g.done, f.givenUp
	f.mu.Unlock()
	since := from.Add(-n.cfg.window)
	if oldest := n.cfg.now().Add(-n.cfg.gapAge); since.Before(oldest) {
		since = oldest
	}
	if len(f.asked) == len(f.g.topics) { // nobody asked for anything older
		first := time.Time{}
		for _, t := range f.asked {
			if first.IsZero() || t.Before(first) {
				first = t
			}
		}
		if first.After(since) {
			since = first
		}
	}
	if forgotten := time.Unix(0, n.relay.Forgotten(f.shard.shard)+1); forgotten.After(since) {
		since = forgotten // what is older might come twice
	}
	for _, t := range []time.Time{done, givenUp} {
		if t.After(since) {
			since = t
		}
	}
	return since
}

// chunks calls fill for as many topics at a time as a question may name.
func (f *gapFill) chunks(fill func() error) error {
	all := f.topics
	defer func() { f.topics = all }()
	if len(all) <= store.MaxContentTopics {
		return fill()
	}
	for topics := range slices.Chunk(all, store.MaxContentTopics) {
		f.topics = topics
		if err := fill(); err != nil {
			return err
		}
	}
	return nil
}

// reached notes how far the gap is filled, so that nothing is asked twice.
func (f *gapFill) reached(at int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := time.Unix(0, at)
	if whole := len(f.g.topics) <= store.MaxContentTopics || len(f.topics) == 0; whole && t.After(f.g.done) {
		f.g.done = t
	}
}

func (f *gapFill) query(since time.Time, hashesOnly bool) store.Query {
	return store.Query{
		Shard: new(f.shard.shard), Start: since, End: f.end, ContentTopics: f.topics,
		HashesOnly: hashesOnly, Limit: store.MaxPageSize,
	}
}

// walk goes through a time from one store to the next as they fail: by hashes while most
// of the messages are known, and else by messages.
func (f *gapFill) walk(ctx context.Context, since time.Time, only peer.ID) error {
	for {
		next, err := f.walkHashes(ctx, since, only, true)
		if err != nil || next.IsZero() {
			return err
		}
		if next, err = f.walkMessages(ctx, next, only); err != nil || next.IsZero() {
			return err
		}
		since = next
	}
}

// hashes goes through a time by one store's hashes.
func (f *gapFill) hashes(ctx context.Context, since time.Time, only peer.ID) error {
	_, err := f.walkHashes(ctx, since, only, false)
	return err
}

// walkHashes asks for hashes, and for the messages that are missing. It returns from when
// on asking for messages is better; zero: it has come to the end.
func (f *gapFill) walkHashes(ctx context.Context, since time.Time, only peer.ID, mayTurn bool) (time.Time, error) {
	n := f.shard.node
	walk, err := n.newStoreWalk(f.shard, f.query(since, true))
	if err != nil {
		return time.Time{}, err
	}
	walk.only = only
	c := f.catchUp(since)
	var order hashOrder
	edge := since // where the next page begins
	for walk.more() {
		page, err := walk.next(ctx)
		if err != nil {
			return time.Time{}, err
		}
		f.walked[walk.peer] = true
		f.pay(askCost + hashCost*len(page))
		unknown := 0
		for _, e := range page {
			if _, ok := c.known(e.Hash); !ok {
				unknown++
			}
		}
		if mayTurn && len(page) >= newsFrom && float64(unknown) >= mostlyNews*float64(len(page)) {
			return edge, nil
		}
		if err := f.room(ctx, unknown); err != nil {
			return time.Time{}, err
		}
		known := map[message.Hash]store.Key{}
		err = c.fetch(ctx, walk, page, known)
		if err == nil {
			err = order.check(page, known)
		}
		if err != nil {
			return time.Time{}, walk.blamed(err)
		}
		if order.edge != nil {
			edge = time.Unix(0, order.edge.Time)
			f.reached(order.edge.Time)
		}
	}
	return time.Time{}, nil
}

// walkMessages asks for messages, known or not. It returns from when on asking for hashes
// is better; zero: it has come to the end.
func (f *gapFill) walkMessages(ctx context.Context, since time.Time, only peer.ID) (time.Time, error) {
	walk, err := f.shard.node.newStoreWalk(f.shard, f.query(since, false))
	if err != nil {
		return time.Time{}, err
	}
	walk.only = only
	c := f.catchUp(since)
	for walk.more() {
		if err := f.room(ctx, store.MaxPageSize); err != nil {
			return time.Time{}, err
		}
		page, err := walk.next(ctx)
		if err != nil {
			return time.Time{}, err
		}
		f.walked[walk.peer] = true
		f.pay(askCost)
		before := f.news
		for _, e := range page {
			if err := c.hand(e, walk.peer); err != nil {
				return time.Time{}, err
			}
		}
		if len(page) == 0 {
			continue
		}
		last := page[len(page)-1].Message.Timestamp
		f.reached(last)
		if len(page) >= newsFrom && float64(f.news-before) < fewNews*float64(len(page)) {
			return time.Unix(0, last), nil
		}
	}
	return time.Time{}, nil
}

func (f *gapFill) pay(bytes int) { f.cost += int64(bytes) }

// room waits until readers have room for so many messages, and fails when the gap costs
// more than it may.
func (f *gapFill) room(ctx context.Context, messages int) error {
	f.mu.Lock()
	spent := f.g.bytes + f.cost
	f.mu.Unlock()
	if most := f.shard.node.cfg.gapBytes; most > 0 && spent > most {
		return fmt.Errorf("%w: %d bytes", errTooMuch, most)
	}
	if messages == 0 {
		return nil
	}
	return f.shard.node.relay.AwaitRoom(ctx, f.shard.shard, messages)
}

// catchUp takes what wasn't delivered.
func (f *gapFill) catchUp(since time.Time) *catchUp {
	s := f.shard
	return &catchUp{
		since: since, topics: f.topics,
		known:   func(h message.Hash) (int64, bool) { return s.node.relay.Had(s.shard, h) },
		refused: f.refuse,
		hand: func(e store.Entry, from peer.ID) error {
			f.pay(bodyCost + e.Message.Size())
			asked, ok := f.asked[e.Message.ContentTopic]
			if !ok && len(f.topics) == 0 {
				asked = f.asked[allTopics]
			}
			if time.Unix(0, e.Message.Timestamp).Before(asked) {
				return nil
			}
			if s.node.relay.Restore(s.shard, from, e.Message) {
				f.news++
			}
			return nil
		},
	}
}
