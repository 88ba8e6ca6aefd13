package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
)

const (
	// Defaults of [DeliveryConfig].
	defaultGiveUp      = 5 * time.Minute
	defaultConfirm     = 5 * time.Minute
	defaultMaxMessages = 8192
	defaultMaxBytes    = 32 << 20

	// After a failed attempt the next one comes after firstRetry, doubled up to
	// longestRetry, or as soon as peers change.
	firstRetry   = 250 * time.Millisecond
	longestRetry = 15 * time.Second
	// stampLife is how old a message's stamp may be when it leaves for the first time:
	// stores take a message within twenty seconds of it.
	stampLife = 10 * time.Second
	// sameLife is how much earlier than the window's end the same bytes aren't sent
	// again any more.
	sameLife = 10 * time.Second
	// A low priority has so many messages a second, and bytes, on a relayed shard: peers
	// don't take much more, and chat needs room.
	lowEvery = time.Second / 50
	lowBytes = 1 << 20
	// While chat was pushed within lowShy, what is less urgent is pushed so seldom.
	lowShy  = 5 * time.Second
	lowRare = time.Second
	// respite is what a delivery has at least after a pause or a restart.
	respite = time.Minute
	// parting is how long Leave and Close let go what can leave at once, and partingLook
	// how often they look.
	parting     = 700 * time.Millisecond
	partingLook = time.Millisecond
)

// atOnce is how many messages of a priority service peers are pushed at a time. Relay
// has one of each, so that they keep their order.
var atOnce = [priorities]int{8, 2, 2}

// DeliveryConfig says how long, how often and how much; see [WithDelivery]. Zeros are
// the defaults.
type DeliveryConfig struct {
	// RelayPeers and ServicePeers are how many must have been handed a message, or have
	// accepted it, for it to be Propagated: either is enough. Default: 1 each.
	RelayPeers, ServicePeers int
	// GiveUp is how long a message that reached nobody is tried. Default: 5 minutes.
	GiveUp time.Duration
	// Confirm is for how long store nodes are asked whether they have a message that
	// was propagated. Negative: they aren't, and Propagated is as far as it goes.
	// Default: 5 minutes.
	Confirm time.Duration
	// MaxMessages and MaxBytes bound what waits to be sent, in all. An eighth of it is
	// for PriorityChat alone. As much again is kept of what was propagated, until it is
	// stored. Default: 8192 messages, 32 MiB.
	MaxMessages, MaxBytes int
}

func (c DeliveryConfig) withDefaults() DeliveryConfig {
	c.RelayPeers = cmp.Or(c.RelayPeers, 1)
	c.ServicePeers = cmp.Or(c.ServicePeers, 1)
	c.GiveUp = cmp.Or(c.GiveUp, defaultGiveUp)
	c.Confirm = cmp.Or(c.Confirm, defaultConfirm)
	c.MaxMessages = cmp.Or(c.MaxMessages, defaultMaxMessages)
	c.MaxBytes = cmp.Or(c.MaxBytes, defaultMaxBytes)
	return c
}

// last is the state beyond which a message isn't followed.
func (c DeliveryConfig) last(m *message.Message) DeliveryState {
	if m.Ephemeral || c.Confirm < 0 {
		return Propagated
	}
	return Stored
}

// WithDelivery sets how messages are sent and followed.
func WithDelivery(c DeliveryConfig) Option {
	return func(o *config) { o.once("WithDelivery"); o.delivery = c }
}

func (c *config) checkDelivery() error {
	d := c.delivery
	if d.RelayPeers < 0 || d.ServicePeers < 0 || d.GiveUp < 0 || d.MaxMessages < 0 || d.MaxBytes < 0 {
		return optionErrf("WithDelivery", "a number in it is negative: zero stands for the default")
	}
	c.delivery = d.withDefaults()
	return nil
}

// outgoing is what the node's outboxes share: how much is on its way.
type outgoing struct {
	mu   sync.Mutex
	wait load // to be sent
	sent load // propagated and not stored
	// unfinished are those that Close has ended.
	unfinished []*Delivery
	dirty      chan struct{} // something is to be kept

	saving sync.Mutex // one at a time
	some   bool       // something is kept
	over   bool       // nothing is saved any more
}

// changed has what is on its way kept soon.
func (g *outgoing) changed() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

type load struct{ messages, bytes int }

func (l *load) add(n, bytes int) { l.messages += n; l.bytes += n * bytes }

// room takes room in the queue.
func (g *outgoing) room(c DeliveryConfig, p Priority, size int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	messages, bytes := c.MaxMessages, c.MaxBytes
	if p > PriorityChat {
		messages, bytes = messages-messages/8, bytes-bytes/8
	}
	if g.wait.messages+1 > messages || g.wait.bytes+size > bytes {
		return &QueueFullError{Priority: p, Messages: messages, Bytes: bytes}
	}
	g.wait.add(1, size)
	return nil
}

// outbox sends the messages of one shard and follows them.
type outbox struct {
	shard *shard
	wake  chan struct{}
	anew  atomic.Bool // peers have changed

	mu      sync.Mutex
	running bool
	ended   bool
	all     map[*Delivery]struct{} // unfinished
	lanes   [priorities][]*Delivery
	sending [priorities]int
	lowNext time.Time // when a message that isn't urgent may leave
	chatted time.Time // when chat was pushed last
	due     time.Time // when to look at all of them next
	looked  time.Time // when last
	run     context.Context
	// stores are asked one question at a time.
	asking  bool
	askNext time.Time // zero: never
	askedAt time.Time // when the last question began
	asked   peer.ID   // whom it was put to
	totals  [len(deliveryWords)]uint64
	last    string // why a delivery failed or expired last
}

// job is what an outbox knows of a delivery.
type job struct {
	member *Membership // nil: restored, and the shard isn't joined yet
	msg    *message.Message
	first  message.Hash // as it was sent at first
	push   int

	lane    bool // it is in its lane
	busy    bool // it is being sent
	asked   bool // a store is being asked for it
	local   bool // this node's readers have it
	tried   bool // somebody may have it
	handed  bool // relay has had it
	maybe   bool // relay may have had it when the node was paused
	kept    bool // the state store has it as one that wasn't tried
	again   bool // to be sent once more, though it was propagated
	denied  bool // a store node didn't have it
	retries int
	asks    int
	resent  int

	retry    time.Time // Queued: when to try next
	ask      time.Time // when to ask a store
	resend   time.Time // Propagated: when to send once more
	late     time.Time
	deadline time.Time
	to       map[peer.ID]time.Time // who was sent it, and when
}

func newOutbox(s *shard) *outbox {
	return &outbox{shard: s, wake: make(chan struct{}, 1), all: map[*Delivery]struct{}{}}
}

func (o *outbox) node() *Node            { return o.shard.node }
func (o *outbox) config() DeliveryConfig { return o.node().cfg.delivery }

// nudge has the outbox look what there is to do.
func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// peersChanged has what waits for somebody tried again. It doesn't wait, and may be
// called with the table of peers locked.
func (o *outbox) peersChanged() {
	o.anew.Store(true)
	o.nudge()
}

// add begins a delivery.
func (o *outbox) add(m *Membership, msg *message.Message, cfg sendConfig) (*Delivery, error) {
	n := o.node()
	hash, size := msg.Hash(o.shard.topic), msg.Size()
	now := time.Now()
	d := &Delivery{
		Hash: hash, Timestamp: time.Unix(0, msg.Timestamp), Size: size, box: o, changed: make(chan struct{}),
		job: job{
			member: m, msg: msg, first: hash, push: cfg.push,
			retry: now, deadline: now.Add(o.config().GiveUp), to: map[peer.ID]time.Time{},
		},
		status: DeliveryStatus{
			Hash: hash, Shard: o.shard.shard, ContentTopic: msg.ContentTopic, Priority: cfg.priority, Ephemeral: msg.Ephemeral,
		},
	}
	d.last = o.config().last(msg)
	if err := n.outgoing.room(o.config(), cfg.priority, size); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := m.alive(); err != nil || o.ended {
		n.outgoing.leave(Queued, size)
		return nil, cmp.Or(err, errNodeClosed)
	}
	o.adopt(d)
	d.job.lane = true
	o.lanes[cfg.priority] = append(o.lanes[cfg.priority], d)
	if !o.start() {
		o.forget(d)
		return nil, errNodeClosed
	}
	return d, nil
}

// adopt takes a delivery on. mu is held.
func (o *outbox) adopt(d *Delivery) {
	o.all[d] = struct{}{}
	d.update(func(s *DeliveryStatus) { s.State = max(s.State, Queued) })
	o.totals[Queued]++
	o.soon(d.job.deadline)
	o.node().outgoing.changed()
}

// start has the outbox work. mu is held.
func (o *outbox) start() bool {
	if !o.running {
		o.running = o.node().tasks.start(o.work)
	}
	o.nudge()
	return o.running
}

// lookShare is the pause between two looks for each message on its way.
const lookShare = 20 * time.Microsecond

// soon has all deliveries looked at by then. mu is held.
func (o *outbox) soon(t time.Time) {
	// A look goes through all that is on its way: the more that is, the seldomer.
	if rest := o.looked.Add(time.Duration(len(o.all)) * lookShare); t.Before(rest) {
		t = rest
	}
	if o.due.IsZero() || t.Before(o.due) {
		o.due = t
	}
}

// work sends and asks until there is nothing left.
func (o *outbox) work(ctx context.Context) {
	for {
		run, ok := o.node().gate.pass(ctx)
		if !ok {
			return
		}
		wait, idle := o.step(run)
		if idle {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-o.wake:
		case <-run.Done():
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// step does what is due and returns how long nothing will be.
func (o *outbox) step(run context.Context) (wait time.Duration, idle bool) {
	s, n := o.shard, o.node()
	light := s.isLight() || s.isServed()
	now := time.Now()
	var peers stores
	if o.asks(now) {
		peers = stores{all: n.storePeers(s.shard), ready: n.readyStores(s.shard)}
		peers.all = slices.DeleteFunc(peers.all, n.stores.on("").isLiar)
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	if o.run != nil && o.run != run {
		o.resumed(now)
	}
	o.run = run
	if o.anew.Swap(false) {
		o.retryNow(now)
	}
	if !o.due.IsZero() && !now.Before(o.due) {
		o.look(now)
	}
	next := o.send(run, light, now)
	next = sooner(next, o.confirm(run, peers, now))
	if len(o.all) == 0 {
		o.running = false
		return 0, true
	}
	if !o.due.IsZero() {
		next = sooner(next, max(o.due.Sub(now), time.Millisecond))
	}
	return cmp.Or(next, time.Hour), false
}

// resumed gives all deliveries time after a pause, which isn't theirs. mu is held.
func (o *outbox) resumed(now time.Time) {
	for d := range o.all {
		if least := now.Add(respite); d.job.deadline.Before(least) {
			d.job.deadline = least
		}
	}
	o.retryNow(now)
}

// retryNow lets what waits try at once. mu is held.
func (o *outbox) retryNow(now time.Time) {
	for d := range o.all {
		if d.job.retries > 0 {
			d.job.retry = now
		}
	}
	o.due = now
}

// look looks at all deliveries for what has come due. mu is held.
func (o *outbox) look(now time.Time) {
	o.due, o.looked = time.Time{}, now
	var ready []*Delivery
	for d := range o.all {
		j := &d.job
		if j.busy || j.asked || j.member == nil {
			continue // looked at when it ends
		}
		state := d.State()
		if !now.Before(j.deadline) {
			o.giveUp(d, state)
			continue
		}
		o.soon(j.deadline)
		if !j.late.IsZero() {
			if !now.Before(j.late) {
				o.isLate(d)
			} else {
				o.soon(j.late)
			}
		}
		when := j.retry
		if state == Propagated {
			when = j.resend
		}
		switch {
		case j.lane || when.IsZero():
		case now.Before(when):
			o.soon(when)
		default:
			j.lane, j.again = true, state == Propagated
			ready = append(ready, d)
		}
	}
	slices.SortFunc(ready, byTime)
	for _, d := range ready {
		p := d.status.Priority
		o.lanes[p] = append(o.lanes[p], d)
	}
	for p := range o.lanes {
		if len(ready) > 0 && !slices.IsSortedFunc(o.lanes[p], byTime) {
			slices.SortStableFunc(o.lanes[p], byTime)
		}
	}
}

func byTime(a, b *Delivery) int {
	return cmp.Or(cmp.Compare(a.job.resent, b.job.resent), a.Timestamp.Compare(b.Timestamp))
}

// send begins to send what may leave, the most urgent first. mu is held.
func (o *outbox) send(run context.Context, light bool, now time.Time) (wait time.Duration) {
	for p := range o.lanes {
		limit := 1
		if light {
			limit = atOnce[p]
		}
		for len(o.lanes[p]) > 0 && o.sending[p] < limit {
			if p > int(PriorityChat) {
				if light && now.Sub(o.chatted) < lowShy && o.lowNext.Before(o.chatted.Add(lowRare)) {
					o.lowNext = o.chatted.Add(lowRare)
				}
				if left := o.lowNext.Sub(now); left > 0 {
					return sooner(wait, left)
				}
			}
			d := o.lanes[p][0]
			o.lanes[p] = o.lanes[p][1:]
			d.job.lane = false
			if _, in := o.all[d]; !in {
				continue
			}
			o.pace(d, p, light, now)
			d.job.busy = true
			o.sending[p]++
			if !o.node().tasks.start(func(ctx context.Context) { o.attempt(ctx, run, d, light) }) {
				d.job.busy = false
				o.sending[p]--
				return wait
			}
		}
		if len(o.lanes[p]) > 0 {
			break // what is less urgent waits for it
		}
		o.lanes[p] = nil
	}
	return wait
}

// pace notes that a message leaves. mu is held.
func (o *outbox) pace(d *Delivery, p int, light bool, now time.Time) {
	switch {
	case p == int(PriorityChat):
		if light {
			o.chatted = now
		}
	case !light:
		o.lowNext = now.Add(max(lowEvery, time.Duration(d.Size)*time.Second/lowBytes))
	case now.Sub(o.chatted) < lowShy:
		o.lowNext = now.Add(lowRare)
	}
}

// giveUp ends a delivery whose time is over. mu is held.
func (o *outbox) giveUp(d *Delivery, state DeliveryState) {
	err := d.Status().Err
	switch {
	case state == Propagated && d.job.denied:
		o.finish(d, Expired, ErrNotStored)
	case state == Propagated:
		o.finish(d, Expired, cmp.Or(err, ErrNoStorePeer))
	default:
		o.finish(d, Failed, cmp.Or(err, ErrNobody))
	}
}

// isLate notes that a message should have been stored by now. mu is held.
func (o *outbox) isLate(d *Delivery) {
	d.job.late = time.Time{}
	d.update(func(s *DeliveryStatus) { s.Late = true })
	reason := ""
	if err := d.Status().Err; errors.Is(err, ErrNoStorePeer) {
		return
	} else if err != nil {
		reason = line(err)
	}
	o.node().emit(Event{Kind: DeliveryLate, Shard: o.shard.shard, Hash: d.Hash, Reason: reason})
}

// finish ends a delivery. mu is held.
func (o *outbox) finish(d *Delivery, state DeliveryState, err error) {
	if !o.forget(d) {
		return
	}
	d.update(func(s *DeliveryStatus) { s.State, s.Err = state, err })
	o.totals[state]++
	if state == Failed || state == Expired {
		o.last = line(err)
		if errors.Is(err, ErrNoStorePeer) {
			return // where there is no store node it would be said of every message
		}
		o.node().emit(Event{Kind: DeliveryFailed, Shard: o.shard.shard, Hash: d.Hash, Delivery: state, Reason: o.last})
		o.node().cfg.logger.Debug("delivery", "shard", o.shard.shard, "hash", d.Hash, "state", state.String(), "err", o.last)
	}
}

// forget takes a delivery out; it returns false if it wasn't in. mu is held.
func (o *outbox) forget(d *Delivery) bool {
	if _, in := o.all[d]; !in {
		return false
	}
	delete(o.all, d)
	o.node().outgoing.leave(d.State(), d.Size)
	o.node().outgoing.changed()
	d.job.msg = nil
	o.nudge()
	return true
}

// leave frees the room of a delivery in a state.
func (g *outgoing) leave(state DeliveryState, size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if state == Propagated {
		g.sent.add(-1, size)
	} else {
		g.wait.add(-1, size)
	}
}

// propagated notes that a message has left.
func (g *outgoing) propagated(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wait.add(-1, size)
	g.sent.add(1, size)
}

// full tells whether more is propagated and not stored than is kept.
func (g *outgoing) full(c DeliveryConfig) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sent.messages > c.MaxMessages || g.sent.bytes > c.MaxBytes
}

// propagated notes that somebody has the message. mu is held.
func (o *outbox) propagated(d *Delivery) {
	if d.State() != Queued {
		return
	}
	now := time.Now()
	o.totals[Propagated]++
	o.node().outgoing.propagated(d.Size)
	d.update(func(s *DeliveryStatus) { s.State, s.Err = Propagated, nil })
	if d.last == Propagated {
		o.forget(d)
		return
	}
	d.job.asks = 0
	o.askSoon(d, now.Add(askFirst))
	d.job.late = now.Add(lateAfter)
	d.job.deadline = now.Add(o.config().Confirm)
	o.node().outgoing.changed()
	for o.node().outgoing.full(o.config()) && o.dropOldest(d) {
	}
}

// dropOldest stops following the message that has been propagated for longest. mu is held.
func (o *outbox) dropOldest(not *Delivery) bool {
	var oldest *Delivery
	for d := range o.all {
		if d != not && d.State() == Propagated && (oldest == nil || d.job.deadline.Before(oldest.job.deadline)) {
			oldest = d
		}
	}
	if oldest == nil {
		return false
	}
	o.finish(oldest, Expired, cmp.Or(oldest.Status().Err, errCrowded))
	return true
}

var errCrowded = errors.New("waku: more messages wait to be stored than the node keeps")

// memberLeft ends the deliveries of a membership.
func (o *outbox) memberLeft(m *Membership, why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for d := range o.all {
		if d.job.member == m {
			o.end(d, why)
		}
	}
}

// end ends a delivery before its time. mu is held.
func (o *outbox) end(d *Delivery, why error) {
	if d.State() == Propagated {
		o.finish(d, Expired, why)
	} else {
		o.finish(d, Failed, why)
	}
}

// idle tells whether nothing can leave at once.
func (o *outbox) idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for p := range o.lanes {
		if len(o.lanes[p]) > 0 || o.sending[p] > 0 {
			return false
		}
	}
	return true
}

// Deliveries are those that the node still works at, the oldest first; after Close those
// that it left unfinished. Those of an earlier run are among them ([WithStateStore]),
// and go on as soon as their shard is joined.
func (n *Node) Deliveries() []*Delivery {
	var all []*Delivery
	for _, s := range n.shards.all() {
		s.outbox.mu.Lock()
		for d := range s.outbox.all {
			all = append(all, d)
		}
		s.outbox.mu.Unlock()
	}
	n.outgoing.mu.Lock()
	all = append(all, n.outgoing.unfinished...)
	n.outgoing.mu.Unlock()
	slices.SortFunc(all, func(a, b *Delivery) int { return a.Timestamp.Compare(b.Timestamp) })
	return all
}

// flush waits a moment for what can leave at once.
func (n *Node) flush(shards ...*shard) {
	deadline := time.Now().Add(parting)
	for _, s := range shards {
		for n.gate.isOpen() && !s.outbox.idle() && time.Now().Before(deadline) {
			time.Sleep(partingLook)
		}
	}
}

// endDeliveries ends all deliveries, for the node is being closed.
func (n *Node) endDeliveries() {
	kept := n.keepDeliveries(keepLast)
	var unfinished []*Delivery
	for _, s := range n.shards.all() {
		o := s.outbox
		o.mu.Lock()
		o.ended = true
		for d := range o.all {
			unfinished = append(unfinished, d)
			if !kept[d] {
				o.end(d, errNodeClosed)
				continue
			}
			o.forget(d)
			d.update(func(s *DeliveryStatus) { s.Kept, s.Err = true, errNodeClosed })
		}
		o.mu.Unlock()
	}
	if len(unfinished) == 0 {
		return
	}
	n.outgoing.mu.Lock()
	n.outgoing.unfinished = unfinished
	n.outgoing.mu.Unlock()
	n.cfg.logger.Warn("closed with unfinished deliveries", "count", len(unfinished), "kept", len(kept))
	n.emit(Event{Kind: DeliveriesUnfinished, Count: len(unfinished), Reason: fmt.Sprintf("the node was closed; %d go on with the next run", len(kept))})
}
