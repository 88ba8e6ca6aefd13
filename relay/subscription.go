package relay

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// Envelope is a message that passed its shard's rules.
type Envelope struct {
	Shard   sharding.Shard
	Message *message.Message
	// Hash is the deterministic message hash (14/WAKU2-MESSAGE).
	Hash message.Hash
	// From is the peer that handed the message over, not its author; it is
	// this node's own id for messages published here.
	From peer.ID
	// ReceivedAt is the relay's clock at the last verdict.
	ReceivedAt time.Time
	// Stored is true for what [Relay.Restore] brought.
	Stored bool
}

// LossError tells a reader that messages were dropped because it read too
// slowly. The Subscription goes on.
type LossError struct {
	// Count is the number of messages lost since the last LossError.
	Count uint64
	// Hashes are those of the messages, the last few thousand if they were more.
	Hashes []message.Hash
}

// Error implements error.
func (e *LossError) Error() string {
	return fmt.Sprintf("relay: reader too slow, %d messages lost", e.Count)
}

// SubscribeConfig holds what a Subscription can be told. The zero value works.
type SubscribeConfig struct {
	// Buffer is the number of messages held for a reader. When it is full, the
	// oldest is dropped and counted. Zero: 1024.
	Buffer int
	// ContentTopics are the topics delivered. Empty: all, for as long as none
	// is added.
	ContentTopics []string
	// Passive doesn't join the shard's mesh and doesn't keep it: it gets what
	// comes while others do, and what [Relay.Deliver] brings.
	Passive bool
	// Service is for what isn't a reader of the application: what only such have got
	// doesn't count as had, and goes to readers when it comes again.
	Service bool
}

// Subscription is one reader of a shard. Its methods are safe for concurrent
// use.
type Subscription struct {
	relay   *Relay
	st      *shardState
	buffer  int
	passive bool
	service bool
	topics  atomic.Pointer[map[string]struct{}]
	total   atomic.Uint64

	mu    sync.Mutex
	queue []*Envelope // a ring once it has grown to buffer
	head  int
	count int
	lost  uint64
	// dropped are the hashes of those, a ring when it is full.
	dropped []message.Hash
	told    []error
	stalled bool // takes nothing
	ended   bool
	wake    chan struct{}
	done    chan struct{}
}

// Subscribe joins the shard's mesh, if this is the first Subscription that isn't
// passive, and starts delivering what passes the shard's rules, own messages included.
// While the Relay is paused the mesh is joined by Resume.
func (r *Relay) Subscribe(s sharding.Shard, cfg SubscribeConfig) (*Subscription, error) {
	if err := s.Valid(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if cfg.Buffer == 0 {
		cfg.Buffer = 1024
	}
	if cfg.Buffer < 0 {
		return nil, fmt.Errorf("relay: Buffer is %d, want a positive number of messages", cfg.Buffer)
	}
	st := r.shards.ensure(s)
	sub := &Subscription{
		relay:  r,
		st:     st,
		buffer: cfg.Buffer, passive: cfg.Passive, service: cfg.Service,
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	if len(cfg.ContentTopics) > 0 {
		sub.AddTopics(cfg.ContentTopics...)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if r.closed.Load() {
		return nil, errClosed
	}
	if !cfg.Passive {
		if err := r.join(st); err != nil {
			return nil, err
		}
	}
	if !cfg.Passive {
		st.holders.Add(1)
	}
	readers := append(slices.Clone(st.currentReaders()), sub)
	st.readers.Store(&readers)
	sub.takeOver()
	if r.closed.Load() { // Close may have passed this shard already
		sub.end()
	}
	return sub, nil
}

// join joins a shard's mesh, unless that is joined, or there is no router. st.mu is
// held.
func (r *Relay) join(st *shardState) error {
	rt := r.router.Load()
	if rt == nil || st.leave != nil {
		return nil
	}
	if err := rt.join(st); err != nil && rt.ctx.Err() == nil {
		return err
	}
	return nil
}

func (r *router) join(st *shardState) error {
	if st.handle == nil {
		handle, err := r.ps.Join(st.topic)
		if err != nil {
			return fmt.Errorf("relay: joining %s: %w", st.shard, err)
		}
		if err := handle.SetScoreParams(topicScoreParams()); err != nil {
			return fmt.Errorf("relay: joining %s: %w", st.shard, err)
		}
		st.handle = handle
	}
	leave, err := st.handle.Relay()
	if err != nil {
		return fmt.Errorf("relay: joining %s: %w", st.shard, err)
	}
	st.leave = leave
	return nil
}

// AddTopics adds content topics to what is delivered. The first call on a
// Subscription without topics narrows it from all topics to these.
func (s *Subscription) AddTopics(topics ...string) {
	s.changeTopics(func(set map[string]struct{}) {
		for _, t := range topics {
			set[t] = struct{}{}
		}
	})
}

// RemoveTopics removes content topics. When none is left, nothing is delivered.
func (s *Subscription) RemoveTopics(topics ...string) {
	s.changeTopics(func(set map[string]struct{}) {
		for _, t := range topics {
			delete(set, t)
		}
	})
}

// Topics returns the content topics delivered. All is true for a Subscription of
// all topics.
func (s *Subscription) Topics() (topics []string, all bool) {
	set := s.topics.Load()
	if set == nil {
		return nil, true
	}
	return slices.Collect(maps.Keys(*set)), false
}

func (s *Subscription) changeTopics(change func(map[string]struct{})) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]struct{}{}
	if old := s.topics.Load(); old != nil {
		next = maps.Clone(*old)
	}
	change(next)
	s.topics.Store(&next)
	defer s.takeOver()
	for t := range next {
		s.st.traffic.ask(t)
	}
}

func (s *Subscription) wants(contentTopic string) bool {
	topics := s.topics.Load()
	if topics == nil {
		return true
	}
	_, ok := (*topics)[contentTopic]
	return ok
}

// push never blocks: a reader who doesn't read harms nobody else.
func (s *Subscription) push(env *Envelope) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	firstLoss := false
	switch {
	case s.count < len(s.queue):
		s.queue[(s.head+s.count)%len(s.queue)] = env
		s.count++
	case len(s.queue) < s.buffer:
		s.grow()
		s.queue[(s.head+s.count)%len(s.queue)] = env
		s.count++
	default:
		s.drop(s.queue[s.head].Hash)
		s.queue[s.head] = env
		s.head = (s.head + 1) % len(s.queue)
		firstLoss = s.lost == 0
		s.lost++
		s.total.Add(1)
		s.st.traffic.lost.Add(1)
	}
	s.mu.Unlock()
	s.signal()
	if firstLoss {
		s.relay.emit(Event{Kind: ReaderLost, Shard: s.st.shard})
	}
}

// maxDropped bounds the hashes of one LossError.
const maxDropped = 4096

// drop notes which message is lost. mu is held, and lost isn't counted yet.
func (s *Subscription) drop(h message.Hash) {
	switch {
	case s.service:
	case len(s.dropped) < maxDropped:
		s.dropped = append(s.dropped, h)
	default:
		s.dropped[s.lost%maxDropped] = h
	}
}

// Offer gives the Subscription's reader a message that it lost. It returns false if there
// is no room for it.
func (s *Subscription) Offer(env *Envelope) bool {
	s.mu.Lock()
	full := s.count >= s.buffer
	s.mu.Unlock()
	if full {
		return false
	}
	s.push(env)
	return true
}

func (s *Subscription) grow() {
	next := make([]*Envelope, min(s.buffer, max(8, 2*len(s.queue))))
	for i := range s.count {
		next[i] = s.queue[(s.head+i)%len(s.queue)]
	}
	s.queue, s.head = next, 0
}

func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next returns the next message. When messages were lost it returns a
// *LossError once, before the oldest one left. It fails with ctx's error, and
// with one that is net.ErrClosed after Close.
func (s *Subscription) Next(ctx context.Context) (*Envelope, error) {
	for {
		env, err := s.take()
		if env != nil || err != nil {
			return env, err
		}
		select {
		case <-s.wake:
		case <-s.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Subscription) take() (*Envelope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return nil, fmt.Errorf("relay: subscription: %w", net.ErrClosed)
	case len(s.told) > 0:
		err := s.told[0]
		s.told = s.told[1:]
		s.signal()
		return nil, err
	case s.lost > 0:
		err := &LossError{Count: s.lost, Hashes: s.dropped}
		s.lost, s.dropped = 0, nil
		s.signal()
		return nil, err
	case s.count == 0:
		return nil, nil
	}
	return s.pop(), nil
}

// takeMore returns nil when there is no message, or a loss comes before it.
func (s *Subscription) takeMore() *Envelope {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.lost > 0 || len(s.told) > 0 || s.count == 0 {
		return nil
	}
	return s.pop()
}

// pop takes the oldest message. mu is held.
func (s *Subscription) pop() *Envelope {
	env := s.queue[s.head]
	s.queue[s.head] = nil
	s.stalled = false
	s.head = (s.head + 1) % len(s.queue)
	s.count--
	if s.count > 0 {
		s.signal() // for another reader of the same Subscription
	}
	return env
}

// Batch is Next for several messages at once: it waits for the first one and
// returns what is there, at most limit. What is there is returned even when ctx
// has ended already.
func (s *Subscription) Batch(ctx context.Context, limit int) ([]*Envelope, error) {
	first, err := s.Next(ctx)
	if err != nil {
		return nil, err
	}
	batch := []*Envelope{first}
	for len(batch) < limit {
		env := s.takeMore()
		if env == nil {
			break
		}
		batch = append(batch, env)
	}
	return batch, nil
}

// All iterates over the messages until ctx ends or the Subscription is closed.
// A *LossError is yielded like a message and doesn't end the iteration; any
// other error does and is yielded last.
func (s *Subscription) All(ctx context.Context) iter.Seq2[*Envelope, error] {
	return func(yield func(*Envelope, error) bool) {
		for {
			env, err := s.Next(ctx)
			if !yield(env, err) {
				return
			}
			if _, lossy := err.(*LossError); err != nil && !lossy {
				return
			}
		}
	}
}

// Lost is the number of messages this Subscription has lost so far.
func (s *Subscription) Lost() uint64 { return s.total.Load() }

// Close ends the Subscription at once, whatever its reader does, and leaves the
// shard's mesh if it was the last that isn't passive. It is idempotent.
func (s *Subscription) Close() error {
	s.st.mu.Lock()
	defer s.st.mu.Unlock()
	s.end()
	readers := s.st.currentReaders()
	i := slices.Index(readers, s)
	if i < 0 {
		return nil
	}
	readers = slices.Delete(slices.Clone(readers), i, i+1)
	s.st.readers.Store(&readers)
	if !s.passive && s.st.holders.Add(-1) == 0 && s.st.leave != nil {
		s.st.leave()
		s.st.leave = nil
	}
	return nil
}

func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		s.leaveUnread()
		s.queue, s.count = nil, 0
		close(s.done)
	}
}

// takeOver forgets what earlier readers left of what this one wants from now on.
func (s *Subscription) takeOver() {
	if s.service {
		return
	}
	s.st.unreadMu.Lock()
	defer s.st.unreadMu.Unlock()
	s.st.unread = slices.DeleteFunc(s.st.unread, func(u unread) bool { return s.wants(u.topic) })
}

// leaveUnread notes what nobody takes any more. mu is held.
func (s *Subscription) leaveUnread() {
	if s.service {
		return
	}
	s.st.unreadMu.Lock()
	defer s.st.unreadMu.Unlock()
	for i := range s.count {
		if len(s.st.unread) < maxUnread {
			s.st.unread = append(s.st.unread, s.st.unreadOf(s.relay, s.queue[(s.head+i)%len(s.queue)]))
		}
	}
}
