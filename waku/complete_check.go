package waku

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

const (
	// sampleShare is which part of the bytes of messages looks at stores may cost while
	// all is well, sampleHashes how many hashes one look asks for, sampleEach the
	// shortest time between two, and sampleBack how far back they look.
	sampleShare  = 0.005
	sampleHashes = 20
	sampleEach   = time.Minute
	sampleBack   = 9 * time.Minute
	// sampleDelay is for messages on their way.
	sampleDelay = 30 * time.Second
	// checkInARow is how many pages of hashes one look at a time of trouble asks for, and
	// checkPages how many of the rest of that time, here and there.
	checkInARow = 100
	checkPages  = 20
	// lookBackFor is for how long after a time of trouble stores are asked about it that
	// weren't there, and goneSlack how much sooner than it is noticed a store may have
	// gone. maxPast bounds the times.
	lookBackFor = time.Hour
	goneSlack   = time.Minute
	// healing is how long after it was noticed trouble may go on elsewhere: a peer that is
	// back hasn't found all others again. Stores are asked about that time as well.
	healing = time.Minute
	// meetSlack is how soon after a reader began a store may come that isn't asked about
	// the time before.
	meetSlack  = 10 * time.Second
	maxPast    = 32
	maxRefused = 4096
)

// checking is how a gapBook finds out that messages didn't come although all seemed well:
// it asks stores for hashes.
type checking struct {
	busy   bool
	past   []*past
	stores map[peer.ID]*storeSeen
	bad    hashSet // weren't genuine
	volume uint64  // bytes of messages at the last sample
	last   time.Time
}

// past is a time about which stores are still to be asked.
type past struct {
	from, to moment
	of       peer.ID // that one alone; empty: all
	asked    map[peer.ID]bool
	since    time.Time
	after    *past // the time in which others recover; nil: they don't have to
}

// storeSeen is a store peer that is, or was there: by which connection, and when it was back
// last.
type storeSeen struct {
	gone moment
	came uint64
	met  time.Time
}

func newChecking() checking { return checking{stores: map[peer.ID]*storeSeen{}} }

func (b *gapBook) isRefused(h message.Hash) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bad.has(h)
}

func (b *gapBook) refuse(h message.Hash) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad.add(h, maxRefused)
}

// doubt says that messages may not have come since a moment.
func (b *gapBook) doubt(from moment) {
	now := b.shard.node.moment()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.running.Load() {
		return
	}
	for _, x := range b.past { // the same trouble
		if x.of == "" && x.after != nil && len(x.asked) == 0 && now.mono.Sub(x.to.mono) < goneSlack {
			x.extend(now)
			if from.mono.Before(x.from.mono) {
				x.from = from
			}
			return
		}
	}
	b.addPast(&past{from: from, to: now, asked: map[peer.ID]bool{}})
}

// lookBack has stores asked about a gap that is filled, which weren't there to fill it.
// mu is held.
func (b *gapBook) lookBack(g *gap, asked map[peer.ID]bool) {
	x := &past{from: g.from, to: g.to, asked: asked}
	if g.joining {
		b.keepPast(x)
		return
	}
	b.addPast(x)
}

// addPast has stores asked about a time of trouble, and about the time after it.
func (b *gapBook) addPast(p *past) {
	p.after = &past{of: p.of, asked: map[peer.ID]bool{}}
	p.extend(p.to)
	b.keepPast(p)
	b.keepPast(p.after)
}

// extend has trouble end later.
func (p *past) extend(to moment) {
	p.to = to
	p.after.from, p.after.to = to, to.before(-healing)
}

func (b *gapBook) keepPast(p *past) {
	p.since = time.Now()
	if len(b.past) == maxPast {
		b.past = b.past[1:]
	}
	b.past = append(b.past, p)
	b.changed()
}

// looksBack tells whether stores may still be asked about what is past. mu is held.
func (b *gapBook) looksBack() bool {
	for _, s := range b.stores {
		if !s.gone.mono.IsZero() {
			return true
		}
	}
	return len(b.past) > 0
}

// meetStores notes which stores have come and gone. mu is held.
func (b *gapBook) meetStores(read map[string]moment) {
	n := b.shard.node
	now := n.moment()
	here := n.storePeers(b.shard.shard)
	for _, p := range here {
		s := b.stores[p]
		from := now.before(sampleBack)
		least := meetSlack
		came := n.peers.cameBy(p)
		if s != nil && s.came != came && s.gone.mono.IsZero() {
			s.came = came
			if now.mono.Sub(s.met) >= healing { // before, it is asked anyway
				s.gone = now.before(goneSlack)
			}
		}
		switch {
		case s == nil:
			b.stores[p] = &storeSeen{came: came}
		case s.gone.mono.IsZero():
			continue
		default:
			from, least = s.gone, 0
			*s = storeSeen{came: came, met: now.mono}
		}
		first := now // nobody wanted anything before
		for _, asked := range read {
			if asked.mono.Before(first.mono) {
				first = asked
			}
		}
		if from.mono.Before(first.mono) {
			from = first
		}
		if now.mono.Sub(from.mono) > least {
			b.addPast(&past{from: from, to: now, of: p, asked: map[peer.ID]bool{}})
		}
	}
	for p, s := range b.stores {
		switch {
		case slices.Contains(here, p):
		case s.gone.mono.IsZero():
			s.gone = now.before(goneSlack)
		case now.mono.Sub(s.gone.mono) > lookBackFor:
			delete(b.stores, p)
		}
	}
	b.past = slices.DeleteFunc(b.past, func(x *past) bool { return time.Since(x.since) > lookBackFor })
}

// beginChecking asks a store about what is past, or for a sample, if one is due, and
// returns when to look again. mu is held.
func (b *gapBook) beginChecking(read map[string]moment) (wait time.Duration) {
	if b.busy || len(read) == 0 || b.shard.node.cfg.unfilled || !b.shard.node.gate.isOpen() {
		return 0
	}
	b.meetStores(read)
	topics := make([]string, 0, len(read))
	for name := range read {
		topics = append(topics, name)
	}
	slices.Sort(topics)
	if topics[0] == allTopics {
		topics = nil
	}
	ready := b.shard.node.readyStores(b.shard.shard)
	for _, x := range b.past {
		for _, p := range ready {
			if x.asked[p] || x.of != "" && x.of != p {
				continue
			}
			if left := gapSettle - time.Since(x.to.mono); left > 0 {
				wait = sooner(wait, left)
				continue
			}
			if len(b.gaps) > 0 { // will be answered by filling them
				continue
			}
			x.asked[p] = true
			b.busy = b.shard.node.tasks.start(func(ctx context.Context) { b.ask(ctx, p, topics, x) })
			return wait
		}
	}
	if len(b.gaps) == 0 && len(ready) > 0 && b.sampleDue() {
		b.busy = b.shard.node.tasks.start(func(ctx context.Context) { b.sample(ctx, ready[0], topics) })
	}
	return wait
}

// sampleDue tells whether a sample is allowed. mu is held.
func (b *gapBook) sampleDue() bool {
	_, volume := b.shard.node.relay.Volume(b.shard.shard)
	if time.Since(b.last) < sampleEach || sampleShare*float64(volume-b.volume) < askCost+hashCost*sampleHashes {
		return false
	}
	b.last, b.volume = time.Now(), volume
	return true
}

// owes tells whether a store is here that is still to be asked about what is past: it may
// have rested. mu is held.
func (b *gapBook) owes() bool {
	if b.busy || len(b.gaps) > 0 || len(b.past) == 0 {
		return false
	}
	here := b.shard.node.storePeers(b.shard.shard)
	return slices.ContainsFunc(b.past, func(x *past) bool {
		return slices.ContainsFunc(here, func(p peer.ID) bool { return !x.asked[p] && (x.of == "" || x.of == p) })
	})
}

// tick is called now and then, when the node is awake anyway.
func (b *gapBook) tick() {
	if !b.running.Load() {
		return
	}
	b.mu.Lock()
	_, volume := b.shard.node.relay.Volume(b.shard.shard)
	due := len(b.stores) > 0 && time.Since(b.last) >= sampleEach && sampleShare*float64(volume-b.volume) >= askCost+hashCost*sampleHashes
	due = due || time.Since(b.proof.mono) >= meshProof && len(b.topics) > 0 || b.owes()
	b.mu.Unlock()
	if due {
		b.changed()
	}
}

// ask asks a store about a time of trouble.
func (b *gapBook) ask(ctx context.Context, p peer.ID, topics []string, x *past) {
	n := b.shard.node
	window := n.cfg.window
	from, to := n.earliest(x.from).Add(-window), n.latest(x.to).Add(window)
	c := b.check(ctx, p, topics, from, to, checkPages)
	if c.failed {
		b.mu.Lock()
		delete(x.asked, p) // once it is well
		b.mu.Unlock()
	}
	b.checked(c, p, from, to)
}

// sample asks a store for a few hashes of the last minutes.
func (b *gapBook) sample(ctx context.Context, p peer.ID, topics []string) {
	now := b.shard.node.cfg.now()
	if len(topics) > store.MaxContentTopics {
		topics = slices.Clone(topics)
		rand.Shuffle(len(topics), func(i, j int) { topics[i], topics[j] = topics[j], topics[i] })
		topics = topics[:store.MaxContentTopics]
	}
	from, to := now.Add(-sampleBack), now.Add(-sampleDelay)
	from = from.Add(rand.N(to.Sub(from)))
	b.checked(b.check(ctx, p, topics, from, to, 0), p, from, to)
}

// checked draws the conclusion: a store that has what didn't come here has more of it.
func (b *gapBook) checked(c checked, p peer.ID, from, to time.Time) {
	n := b.shard.node
	read := b.shard.read()
	b.mu.Lock()
	defer b.mu.Unlock()
	read = b.wanted(read)
	b.busy = false
	b.stats.Samples++
	b.stats.SampleBytes += uint64(c.cost)
	b.stats.Messages += uint64(c.news)
	if c.news > 0 && len(read) > 0 {
		b.stats.Disagreed++
		n.cfg.logger.Info("a store has messages that didn't come", "shard", b.shard.shard, "peer", p, "messages", c.news)
		start := n.momentAt(from)
		g := &gap{topics: map[string]moment{}, from: start, to: n.moment(), why: "a store has messages that didn't come"}
		for name, asked := range read {
			if start.mono.Sub(asked.mono) >= n.cfg.window {
				asked = moment{}
			}
			g.topics[name] = asked
		}
		b.add(g)
		b.remember()
		b.beginFilling()
	}
	b.changed()
}

// checked is what came of a check.
type checked struct {
	news, cost int
	failed     bool
}

// check asks a store for hashes of a time, and for the messages that didn't come: for
// checkInARow pages, and for so many of the rest, here and there. Zero pages is a single
// short one.
func (b *gapBook) check(ctx context.Context, p peer.ID, topics []string, from, to time.Time, pages int) (out checked) {
	n := b.shard.node
	if forgotten := time.Unix(0, n.relay.Forgotten(b.shard.shard)+1); forgotten.After(from) {
		from = forgotten // what is older may have come
	}
	b.mu.Lock()
	if b.givenUp.After(from) {
		from = b.givenUp
	}
	b.mu.Unlock()
	if !from.Before(to) {
		return out
	}
	limit, inARow := store.MaxPageSize, checkInARow
	if pages == 0 {
		pages, limit, inARow = 1, sampleHashes, 0
	}
	chunks := [][]string{topics}
	if len(topics) > store.MaxContentTopics {
		chunks = slices.Collect(slices.Chunk(topics, store.MaxContentTopics))
	}
	read := b.shard.read()
	b.mu.Lock()
	read = b.wanted(read)
	b.mu.Unlock()
	for _, topics := range chunks {
		edge, rest, row := from, from, inARow
		for i := 0; i < row+pages; i++ {
			start := edge
			if i == row {
				rest = edge
			}
			if i > row {
				start = rest.Add(to.Sub(rest) / time.Duration(pages) * time.Duration(i-row))
			}
			if start.Before(edge) {
				start = edge
			}
			walk, err := n.newStoreWalk(b.shard, store.Query{
				Shard: new(b.shard.shard), Start: start, End: to, ContentTopics: topics, HashesOnly: true, Limit: limit,
			})
			if err != nil {
				return out
			}
			walk.only = p
			page, err := walk.next(ctx)
			if err != nil {
				out.failed = true
				return out
			}
			out.cost += askCost + hashCost*len(page)
			known := map[message.Hash]store.Key{}
			c := &catchUp{
				since: start, topics: topics,
				known: func(h message.Hash) (int64, bool) { return n.relay.Had(b.shard.shard, h) },
				skip:  b.isRefused, refused: b.refuse,
				hand: func(e store.Entry, from peer.ID) error {
					out.cost += bodyCost + e.Message.Size()
					asked, ok := read[e.Message.ContentTopic]
					if !ok {
						asked = read[allTopics]
					}
					if !time.Unix(0, e.Message.Timestamp).Before(n.earliest(asked)) && n.relay.Restore(b.shard.shard, from, e.Message) {
						out.news++
					}
					return nil
				},
			}
			if err := c.fetch(ctx, walk, page, known); err != nil {
				_ = walk.blamed(err)
				out.failed = true
				return out
			}
			last := edge
			for _, k := range known {
				if at := time.Unix(0, k.Time); at.After(edge) {
					edge = at
				}
			}
			if i < row && edge.Equal(last) { // it leads nowhere
				row = i + 1
			}
			if !walk.more() || out.news > 0 && pages > 1 {
				break
			}
		}
	}
	return out
}
