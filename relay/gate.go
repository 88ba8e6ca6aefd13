package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// gate is the router's only validator. It dispatches to the shard's rules by a
// table of ours, so no topic is ever without them, and delivers what it accepts,
// be it that the router has been stopped meanwhile.
func (r *Relay) gate(ctx context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	st := r.shards.get(msg.GetTopic())
	if st == nil || !st.joined() || r.closed.Load() {
		return pubsub.ValidationIgnore
	}
	if own, ok := msg.ValidatorData.(*ownMessage); ok {
		own.fresh = true // judged by Publish
		r.deliver(st, from, own.in.Message, delivery{lent: true})
		return pubsub.ValidationAccept
	}
	m, err := message.Decode(msg.Data)
	if err != nil { // the inspector was there before
		return pubsub.ValidationIgnore
	}
	in := &message.Received{PubsubTopic: st.topic, Message: m, From: string(from), At: r.cfg.Now()}
	verdict := message.Ignore
	if st.pending.Add(1) <= int64(st.rules.Load().MaxPending) {
		verdict, _ = r.judgeStable(ctx, st, in)
	} else {
		r.overloaded(st)
	}
	st.pending.Add(-1)
	switch verdict {
	case message.Accept:
		r.peers.accepted(from, st.topic, messageKey(msg.ID), len(msg.Data))
		r.deliver(st, from, m, delivery{lent: true})
		r.keep(ctx, st, m, len(msg.Data))
		return pubsub.ValidationAccept
	case message.Reject:
		st.traffic.rejected.Add(1)
		r.fault(from, "invalid messages")
	default:
		st.traffic.ignored.Add(1)
	}
	r.peers.refused(st.topic, messageKey(msg.ID))
	return pubsub.ValidationIgnore
}

// keep keeps an accepted message from going on for the profile's ForwardDelay. When
// many are kept already, there are better ways to save than waiting.
func (r *Relay) keep(ctx context.Context, st *shardState, m *message.Message, size int) {
	delay := r.profile.ForwardDelay
	if delay <= 0 || size < r.profile.IDontWantSize {
		return
	}
	if age := time.Duration(r.cfg.Now().UnixNano() - m.Timestamp); st.ages.young(age, r.profile.EagerShare) {
		return
	}
	defer r.kept.Add(-1)
	if r.kept.Add(1) > maxKept {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-r.life.Done():
	}
}

// ages finds the age below which a share of a shard's messages are when they come. It
// follows them a small step at a time, so that a few wrong clocks don't matter.
type ages struct {
	mu    sync.Mutex
	bound time.Duration // beyond ageBegin
}

const (
	ageBegin = 300 * time.Millisecond
	ageStep  = 20 * time.Millisecond
	ageMost  = 5 * time.Second
)

func (a *ages) young(age time.Duration, share float64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	young := age < ageBegin+a.bound
	if young {
		a.bound -= time.Duration((1 - share) * float64(ageStep))
	} else {
		a.bound += time.Duration(share * float64(ageStep))
	}
	a.bound = min(max(a.bound, -ageBegin), ageMost)
	return young && share > 0
}

// judgeStable asks again when the rules were replaced meanwhile: what the old ones
// accepted isn't delivered under the new ones.
func (r *Relay) judgeStable(ctx context.Context, st *shardState, in *message.Received) (message.Verdict, error) {
	for {
		rules := st.rules.Load()
		verdict, err := r.judge(ctx, st, rules, in)
		if err != nil || st.rules.Load() == rules {
			return verdict, err
		}
	}
}

func (r *Relay) overloaded(st *shardState) {
	st.traffic.overload.Add(1)
	if st.overloads.due(r.cfg.Now(), time.Second) {
		r.emit(Event{Kind: Overload, Shard: st.shard, Count: int(st.pending.Load())})
	}
}

// judge asks the shard's Validator, within the shard's bounds. The error is ctx's,
// or that of a closed relay, and says that there is no verdict.
func (r *Relay) judge(ctx context.Context, st *shardState, rules *ruleSet, in *message.Received) (verdict message.Verdict, err error) {
	if rules.Validator == nil {
		return message.Accept, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	ended := func() error {
		if r.life.Err() != nil {
			return errClosed
		}
		return ctx.Err()
	}
	select {
	case rules.slots <- struct{}{}:
		defer func() { <-rules.slots }()
	case <-ctx.Done():
		return message.Ignore, ended()
	}
	if !r.judging.enter(st) {
		return message.Ignore, errClosed
	}
	defer r.judging.leave(st)
	defer r.contain(st, &verdict)
	switch v := rules.Validator(ctx, in); v {
	case message.Accept, message.Reject:
		return v, nil
	default:
		return message.Ignore, ended()
	}
}

// contain, deferred, turns a panic of somebody's rule into Ignore.
func (r *Relay) contain(st *shardState, verdict *message.Verdict) {
	p := recover()
	if p == nil {
		return
	}
	*verdict = message.Ignore
	st.traffic.panics.Add(1)
	if st.panics.due(r.cfg.Now(), time.Second) {
		r.emit(Event{Kind: ValidatorPanic, Shard: st.shard, Reason: fmt.Sprint(p)})
		r.log.Error("validator panicked", "shard", st.shard, "panic", p)
	}
}

// Deliver hands a message that came another way than through the mesh (filter,
// store) to the shard's Subscriptions, unless it was delivered within the last ten
// minutes, whichever way: it returns whether it was news. The caller has judged
// it by the shard's rules, which aren't asked, and doesn't change it any more.
func (r *Relay) Deliver(s sharding.Shard, from peer.ID, m *message.Message) bool {
	st := r.shards.get(s.PubsubTopic())
	if st == nil || r.closed.Load() {
		return false
	}
	return r.deliver(st, from, m, delivery{})
}

// Delivered tells whether a message was delivered within the last ten minutes at
// least, and its timestamp, in Unix nanoseconds.
func (r *Relay) Delivered(s sharding.Shard, h message.Hash) (timestamp int64, yes bool) {
	if st := r.shards.get(s.PubsubTopic()); st != nil {
		timestamp, yes, _ = st.known.get(r.key().sum(h))
	}
	return timestamp, yes
}

// Had is Delivered for messages that a reader wanted when they came.
func (r *Relay) Had(s sharding.Shard, h message.Hash) (timestamp int64, yes bool) {
	if st := r.shards.get(s.PubsubTopic()); st != nil {
		timestamp, _, yes = st.known.get(r.key().sum(h))
	}
	return timestamp, yes
}

// Know has a message pass for delivered from now on, without delivering it: readers
// have had what it says.
func (r *Relay) Know(s sharding.Shard, h message.Hash, timestamp int64) {
	if st := r.shards.get(s.PubsubTopic()); st != nil {
		st.known.add(r.key().sum(h), timestamp, true, time.Now())
	}
}

// Remember sets whether what was delivered on a shard is remembered however long ago
// it was, as far as there is room (a quarter of a million messages at least), for as
// long as older messages may still come by [Relay.Deliver].
func (r *Relay) Remember(s sharding.Shard, on bool) { r.shards.ensure(s).known.keep(on) }

// delivery says of a message that its bytes are the router's, or that it comes from a
// store.
type delivery struct{ lent, stored bool }

// deliver gives a message to those who want it. What came while no reader wanted it goes
// to readers when it comes again.
func (r *Relay) deliver(st *shardState, from peer.ID, m *message.Message, d delivery) bool {
	hash, now := m.Hash(st.topic), r.cfg.Now()
	st.delivering.RLock()
	defer st.delivering.RUnlock()
	if st.frozen {
		return false
	}
	readers := st.currentReaders()
	wanted := slices.ContainsFunc(readers, func(s *Subscription) bool { return !s.service && s.wants(m.ContentTopic) })
	news, first := st.known.add(r.key().sum(hash), m.Timestamp, wanted, time.Now())
	if !news && !first {
		st.traffic.duplicates.Add(1)
		return false
	}
	if news {
		st.traffic.deliver(m)
	}
	var env *Envelope
	for _, sub := range readers {
		if !sub.wants(m.ContentTopic) || sub.service && (!news || d.stored) {
			continue
		}
		if env == nil {
			if d.lent {
				m = m.Clone()
			}
			env = &Envelope{Shard: st.shard, Message: m, Hash: hash, From: from, ReceivedAt: now, Stored: d.stored}
		}
		sub.push(env)
	}
	return true
}

// pace keeps what could be said of every message from being said too often.
type pace struct{ last atomic.Int64 }

func (p *pace) due(now time.Time, every time.Duration) bool {
	last, at := p.last.Load(), now.UnixNano()
	return (last == 0 || at-last >= int64(every) || at < last) && p.last.CompareAndSwap(last, at)
}

// inflight counts running validators per shard, so that Close can wait for them
// and name those that don't end.
type inflight struct {
	mu      sync.Mutex
	running map[*shardState]int
	ended   bool
	idle    chan struct{}
}

func (f *inflight) enter(st *shardState) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	if f.running == nil {
		f.running = map[*shardState]int{}
	}
	f.running[st]++
	return true
}

func (f *inflight) leave(st *shardState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[st]--; f.running[st] == 0 {
		delete(f.running, st)
	}
	if f.ended && len(f.running) == 0 {
		close(f.idle)
	}
}

func (f *inflight) wait(timeout time.Duration) error {
	f.mu.Lock()
	f.ended = true
	if len(f.running) == 0 {
		f.mu.Unlock()
		return nil
	}
	f.idle = make(chan struct{})
	f.mu.Unlock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-f.idle:
		return nil
	case <-timer.C:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for st, n := range f.running {
		errs = append(errs, fmt.Errorf("relay: %d validator calls on shard %s ignore their context and still run", n, st.shard))
	}
	return errors.Join(errs...)
}
