package discv5

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/netutil"
	"golang.org/x/time/rate"

	"github.com/status-im/shoal/internal/enr"
)

const (
	// A walk comes across so many records a second, after the first.
	walkRate, walkBurst = 50, 256
	// After a lookup with nothing new there is a pause, ever longer, up to the
	// second value in the first minutes.
	minPause = 500 * time.Millisecond
	maxPause = 5 * time.Second
	// A lookup has no more records than that.
	maxLookup = 512
	// After quietAfter with nothing new there is a pause of quietPause.
	quietAfter = 5 * time.Minute
	quietPause = 20 * time.Second
	// In each pause, so many nodes of the table are asked for a newer record, in
	// turns: the network takes minutes to spread a change.
	reask = 8
	// The table is empty: bootnodes are asked again, ever less often.
	minSeedPause, maxSeedPause = 50 * time.Millisecond, time.Minute
	// A record found and not fetched for so long isn't handed out; a walk that
	// has rested for so long begins anew.
	staleAfter = time.Minute
	// A lookup that takes so long for the next record is held up by a peer.
	stuckAfter = 15 * time.Second
	// maxStuck is how many of those may be left behind.
	maxStuck = 8
	// A record is found once in ten minutes, at the least.
	repeatAfter = 10 * time.Minute
	maxSeen     = 8192
)

// walker finds records for Next.
type walker struct {
	s     *Service
	turn  chan struct{} // held by a caller of Next
	want  chan struct{} // one request
	found chan finding  // its answer
	asked bool          // a request is out; for who holds turn
	poked chan struct{}

	pace  *rate.Limiter
	feet  *stepper
	seen  *recent[enode.ID, uint64] // number of the record handed out
	crowd *recent[netip.Prefix, int]
	next  *enode.Node // to be judged first
	// round are the nodes that the present lookup has come across. It names none
	// twice: one that it knows belongs to the next.
	round map[enode.ID]bool
	dull  bool // nothing new in it yet
	over  bool // a dull one has ended
	pause time.Duration
	news  time.Time // when there was something new
	asks  *recent[enode.ID, time.Time]
	// fresh are newer records that were asked for.
	fresh chan *enode.Node

	handed, unwanted, crowded, malformed atomic.Uint64
	stuck                                atomic.Int64
}

type finding struct {
	record *enr.Record
	at     time.Time
}

func newWalker(s *Service) *walker {
	return &walker{
		s:    s,
		turn: make(chan struct{}, 1), want: make(chan struct{}, 1), found: make(chan finding, 1),
		poked: make(chan struct{}, 1),
		pace:  rate.NewLimiter(walkRate, walkBurst),
		seen:  newRecent[enode.ID, uint64](repeatAfter, maxSeen),
		crowd: newRecent[netip.Prefix, int](repeatAfter, maxSeen),
		asks:  newRecent[enode.ID, time.Time](repeatAfter, maxSeen),
		fresh: make(chan *enode.Node, 4*reask),
		round: make(map[enode.ID]bool),
	}
}

// Next returns the next record that Keep wants, from random walks through the
// network: its signature is good, and it wasn't returned in the last ten minutes
// unless by another number. It waits until there is one. Calls take turns; the
// walk goes on only while there is one. The error is ErrClosed or the context's.
func (s *Service) Next(ctx context.Context) (*enr.Record, error) {
	w := s.walk
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ctx.Done():
		return nil, ErrClosed
	}
	defer func() { <-w.turn }()
	for {
		if !w.asked {
			w.want <- struct{}{}
			w.asked = true
		}
		select {
		case f := <-w.found:
			w.asked = false
			if time.Since(f.at) < staleAfter && s.cfg.Keep(f.record) {
				w.handed.Add(1)
				return f.record, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// poke ends a pause.
func (w *walker) poke() {
	select {
	case w.poked <- struct{}{}:
	default:
	}
}

func (w *walker) run() {
	last := time.Now()
	w.news = last
	defer func() { w.feet.leave() }()
	for {
		select {
		case <-w.want:
		case <-w.s.ctx.Done():
			return
		}
		if time.Since(last) > staleAfter {
			w.feet.leave()
			w.feet = nil
			w.hope()
		}
		r := w.find()
		if r == nil {
			return
		}
		last = time.Now()
		w.found <- finding{r, last}
	}
}

// find walks until there is a record to hand out; nil when closing.
func (w *walker) find() *enr.Record {
	seedPause := minSeedPause
	for w.s.ctx.Err() == nil {
		if w.feet == nil && len(w.s.udp.AllNodes()) == 0 {
			w.s.reseed(1, func() {})
			if w.wait(seedPause) {
				seedPause = minSeedPause
			} else {
				seedPause = min(2*seedPause, maxSeedPause)
			}
			continue
		}
		if w.over {
			w.over = false
			w.rest()
		}
		n := w.step()
		if n == nil {
			continue
		}
		if r := w.judge(n); r != nil {
			w.hope()
			return r
		}
	}
	return nil
}

// hope begins anew with short pauses.
func (w *walker) hope() { w.dull, w.over, w.pause, w.news = false, false, 0, time.Now() }

// note follows where lookups begin and end, which the library doesn't say.
func (w *walker) note(n *enode.Node) {
	if w.round[n.ID()] || len(w.round) >= maxLookup {
		w.over, w.dull = w.dull, true
		clear(w.round)
	}
	w.round[n.ID()] = true
}

// rest pauses, and asks for news meanwhile.
func (w *walker) rest() {
	w.pause = min(max(minPause, 2*w.pause), maxPause)
	if time.Since(w.news) > quietAfter {
		w.pause = quietPause
	}
	w.askAgain()
	w.wait(w.pause)
}

// wait returns early, and true, when there is something else to do.
func (w *walker) wait(d time.Duration) bool {
	n, late := w.await(d, nil)
	w.next = n
	return !late
}

// await returns the next node, from the walk's nodes or one that was asked for;
// none after d, when poked, when the walk has ended and when closing.
func (w *walker) await(d time.Duration, nodes <-chan *enode.Node) (n *enode.Node, late bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case n = <-nodes:
		w.feet.since = time.Time{}
		if n == nil {
			w.feet = nil
			break
		}
		w.note(n)
	case n = <-w.fresh:
	case <-w.poked:
		w.hope()
		w.feet.leave() // begin anew, where there may be others
		w.feet = nil
	case <-timer.C:
		return nil, true
	case <-w.s.ctx.Done():
	}
	return n, false
}

// askAgain asks some of the table's nodes for their records, in the background.
func (w *walker) askAgain() {
	now, last := time.Now(), make(map[enode.ID]time.Time)
	nodes := w.s.udp.AllNodes()
	for _, n := range nodes {
		last[n.ID()], _ = w.asks.get(n.ID(), now)
	}
	slices.SortFunc(nodes, func(a, b *enode.Node) int { return last[a.ID()].Compare(last[b.ID()]) })
	for _, n := range nodes[:min(reask, len(nodes))] {
		w.asks.put(n.ID(), now, now)
		w.s.begin(func() {
			ctx, cancel := context.WithTimeout(w.s.ctx, 2*time.Second)
			defer cancel()
			if newer, err := w.s.ask(ctx, n); err == nil && newer.Seq() > n.Seq() {
				select {
				case w.fresh <- newer:
				default:
				}
			}
		})
	}
}

// judge returns the record of a node if it is to be handed out.
func (w *walker) judge(n *enode.Node) *enr.Record {
	now := time.Now()
	seq, before := w.seen.get(n.ID(), now)
	if before && n.Seq() <= seq {
		return nil
	}
	r, err := enr.Verified(n.Record())
	if err != nil {
		w.malformed.Add(1)
		return nil
	}
	if !w.s.cfg.Keep(r) {
		w.unwanted.Add(1)
		return nil
	}
	if ip := n.IPAddr(); !before && (!netutil.AddrIsLAN(ip) || w.s.cfg.limits.loopback) {
		network := networkOf(ip.Unmap())
		count, _ := w.crowd.get(network, now)
		if count >= w.s.cfg.limits.crowd {
			w.crowded.Add(1)
			return nil
		}
		w.crowd.put(network, count+1, now)
	}
	w.seen.put(n.ID(), r.Seq(), now)
	return r
}

func (w *walker) stats(st *Stats) {
	st.Found = w.handed.Load()
	st.Refused = map[string]uint64{
		"unwanted": w.unwanted.Load(), "crowded": w.crowded.Load(), "malformed": w.malformed.Load(),
	}
	st.Stuck = int(w.stuck.Load())
}

// step returns the next node that a lookup comes across, or nil when something
// else has to be looked at first.
func (w *walker) step() *enode.Node {
	if n := w.next; n != nil {
		w.next = nil
		return n
	}
	if err := w.pace.Wait(w.s.ctx); err != nil {
		return nil
	}
	if w.feet == nil {
		if w.stuck.Load() >= maxStuck {
			w.wait(stuckAfter)
			return nil
		}
		if w.feet = newStepper(w.s); w.feet == nil {
			return nil
		}
	}
	nodes := w.feet.step()
	n, late := w.await(stuckAfter-time.Since(w.feet.since), nodes)
	if late {
		w.stuck.Add(1)
		w.feet.abandon(func() { w.stuck.Add(-1) })
		w.feet = nil
	}
	return n
}

// stepper drives one of the library's iterators, whose Next can't be
// interrupted: whoever has had enough leaves the stepper behind.
type stepper struct {
	want  chan struct{}
	nodes chan *enode.Node
	since time.Time // when the step began that is under way; the walker's

	mu    sync.Mutex
	it    enode.Iterator
	left  bool
	ended bool
	onEnd func()
}

// step begins a step, unless one is under way, and returns where its node
// will arrive: nil when the walk has ended.
func (p *stepper) step() <-chan *enode.Node {
	if p.since.IsZero() {
		p.since = time.Now()
		p.want <- struct{}{}
	}
	return p.nodes
}

func newStepper(s *Service) *stepper {
	p := &stepper{want: make(chan struct{}, 1), nodes: make(chan *enode.Node, 1), onEnd: func() {}}
	if !s.begin(func() { p.run(s) }) {
		return nil
	}
	return p
}

func (p *stepper) run(s *Service) {
	defer p.end()
	defer close(p.nodes)
	it := s.udp.RandomNodes() // may wait
	if !p.begin(it) {
		return
	}
	for range p.want {
		if !it.Next() {
			return
		}
		p.nodes <- it.Node()
	}
}

func (p *stepper) begin(it enode.Iterator) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.it = it
	if p.left {
		it.Close()
	}
	return !p.left
}

// leave ends the stepper when its current step has ended, and ends that if it
// can be ended.
func (p *stepper) leave() {
	if p != nil {
		p.abandon(func() {})
	}
}

// abandon is leave, with a call when the end has come.
func (p *stepper) abandon(onEnd func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		onEnd()
		return
	}
	if p.left {
		return
	}
	p.left, p.onEnd = true, onEnd
	close(p.want)
	if p.it != nil {
		p.it.Close()
	}
}

func (p *stepper) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.onEnd()
}
