package relay

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// Known is a message that readers had, by a sum of its hash that only this Relay, or one
// with the same Config.MemoryKey, makes.
type Known struct {
	Sum       uint64
	Timestamp int64 // Unix nanoseconds
}

// Memory is what a Relay remembers of a shard's messages.
type Memory struct {
	// Had are the messages that readers have taken, and Forgotten a time, in Unix
	// nanoseconds: of messages with later timestamps nothing is forgotten.
	Had       []Known
	Forgotten int64
	// Unread holds for each content topic the oldest timestamp of messages that wait for
	// readers, or waited when those were closed.
	Unread map[string]int64
}

// maxUnread bounds what is remembered of readers that were closed.
const maxUnread = 1 << 13

// unread is a message that nobody took.
type unread struct {
	sum   uint64
	topic string
	at    int64
}

// Memory returns what is remembered of messages with timestamps from since on, at one
// moment between two deliveries.
func (r *Relay) Memory(s sharding.Shard, since time.Time) Memory {
	st := r.shards.ensure(s)
	st.delivering.Lock()
	defer st.delivering.Unlock()
	m := Memory{Unread: map[string]int64{}}
	left := map[uint64]bool{}
	note := func(u unread) {
		left[u.sum] = true
		if at, ok := m.Unread[u.topic]; !ok || u.at < at {
			m.Unread[u.topic] = u.at
		}
	}
	st.unreadMu.Lock()
	for _, u := range st.unread {
		note(u)
	}
	st.unreadMu.Unlock()
	for _, sub := range st.currentReaders() {
		sub.mu.Lock()
		for i := range sub.count {
			if !sub.service {
				note(st.unreadOf(r, sub.queue[(sub.head+i)%len(sub.queue)]))
			}
		}
		sub.mu.Unlock()
	}
	k := &st.known
	k.mu.Lock()
	defer k.mu.Unlock()
	m.Forgotten = k.forgotten
	for _, h := range []half{k.old, k.young} {
		for sum, e := range h.m {
			if e.had && !left[sum] && e.timestamp >= since.UnixNano() {
				m.Had = append(m.Had, Known{sum, e.timestamp})
			}
		}
	}
	return m
}

func (st *shardState) unreadOf(r *Relay, env *Envelope) unread {
	return unread{r.key().sum(env.Hash), env.Message.ContentTopic, env.Message.Timestamp}
}

// Recall adds to the memory what an earlier Relay with the same Config.MemoryKey had.
func (r *Relay) Recall(s sharding.Shard, m Memory) {
	k := &r.shards.ensure(s).known
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young.m == nil {
		k.turn(time.Now())
	}
	for _, x := range m.Had {
		if len(k.young.m) >= maxKnown {
			break
		}
		k.young.m[x.Sum] = knownEntry{x.Timestamp, true}
		k.young.newest = max(k.young.newest, x.Timestamp)
	}
	k.forgotten = max(k.forgotten, m.Forgotten)
}

// Forgotten is a time, in Unix nanoseconds: of messages with later timestamps none is
// forgotten that was delivered on the shard. Zero: none at all.
func (r *Relay) Forgotten(s sharding.Shard) int64 {
	k := &r.shards.ensure(s).known
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.forgotten
}

// Restore is [Relay.Deliver] for a message that a store kept. It is for readers: those of
// a service (SubscribeConfig.Service) don't get it.
func (r *Relay) Restore(s sharding.Shard, from peer.ID, m *message.Message) bool {
	st := r.shards.get(s.PubsubTopic())
	if st == nil || r.closed.Load() {
		return false
	}
	return r.deliver(st, from, m, delivery{stored: true})
}

// Freeze ends all delivery, at once and for good, and closes the Subscriptions of
// readers: nobody takes a message that [Relay.Memory] doesn't know of.
func (r *Relay) Freeze() {
	for _, st := range r.shards.all() {
		st.delivering.Lock()
		st.frozen = true
		for _, sub := range st.currentReaders() {
			if !sub.service {
				sub.end()
			}
		}
		st.delivering.Unlock()
	}
}

// Volume counts the messages delivered on a shard, and their bytes.
func (r *Relay) Volume(s sharding.Shard) (messages, bytes uint64) {
	t := &r.shards.ensure(s).traffic
	return t.delivered.Load(), t.bytes.Load()
}

const (
	// roomLook is how often is looked whether readers have room.
	roomLook = 20 * time.Millisecond
	// roomPatience is for how long a reader may take nothing and be waited for.
	roomPatience = 30 * time.Second
)

// AwaitRoom waits until every reader has room for n messages, or for half as many as it
// holds. Who takes nothing for half a minute isn't waited for. It fails with ctx's error.
func (r *Relay) AwaitRoom(ctx context.Context, s sharding.Shard, n int) error {
	st := r.shards.get(s.PubsubTopic())
	if st == nil {
		return nil
	}
	crowded := func() (waiting int) {
		for _, sub := range st.currentReaders() {
			waiting += sub.crowded(n)
		}
		return waiting
	}
	err := awaitRoom(ctx, crowded)
	if err == nil && crowded() > 0 {
		for _, sub := range st.currentReaders() {
			sub.giveUp(n)
		}
	}
	return err
}

// giveUp has nobody wait for a reader that takes nothing, until it takes something.
func (s *Subscription) giveUp(n int) {
	if s.crowded(n) > 0 {
		s.mu.Lock()
		s.stalled = true
		s.mu.Unlock()
	}
}

// AwaitRoom is [Relay.AwaitRoom] for one reader alone. After Close it fails.
func (s *Subscription) AwaitRoom(ctx context.Context, n int) error {
	err := awaitRoom(ctx, func() int { return s.crowded(n) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.ended {
		return errClosed
	}
	return err
}

// awaitRoom waits until no messages wait where there must be room, or nobody takes any.
func awaitRoom(ctx context.Context, waiting func() int) error {
	held, since := 0, time.Now()
	for {
		most := waiting()
		if most == 0 {
			return nil
		}
		if most != held {
			held, since = most, time.Now()
		} else if time.Since(since) >= roomPatience {
			return nil
		}
		timer := time.NewTimer(roomLook)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// crowded is how many messages wait in a Subscription that has no room for n more; zero:
// it has.
func (s *Subscription) crowded(n int) int {
	if s.service {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.stalled || s.buffer-s.count >= min(n, (s.buffer+1)/2) {
		return 0
	}
	return s.count
}

// Tell has the Subscription's reader get an error from Next, before the messages that
// wait. Of more than a few the first are kept. The Subscription goes on.
func (s *Subscription) Tell(err error) {
	s.mu.Lock()
	if !s.ended && len(s.told) < maxTold {
		s.told = append(s.told, err)
	}
	s.mu.Unlock()
	s.signal()
}

const maxTold = 16

func newKey(given func() [16]byte) *knownKey {
	var k knownKey
	if given != nil {
		k = given()
	} else {
		_, _ = rand.Read(k[:])
	}
	return &k
}
