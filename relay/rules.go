package relay

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	pubsub "github.com/libp2p/go-libp2p-pubsub"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// Rules are what one shard's messages are held against, in this order: the
// relay's own structure checks, Screen, Validator.
type Rules struct {
	// Screen refuses what is cheap to refuse: it runs on the router's event
	// loop, before other peers are told that the message arrived, and must not
	// block. Nil accepts.
	Screen message.Screen
	// Validator has the last word. It may take its time within its context,
	// which ends with the Relay. Nil accepts.
	Validator message.Validator
	// Concurrency is how many messages of the shard the Validator judges at
	// once. Zero: 4, or the number of CPUs if that is more.
	Concurrency int
	// MaxPending is how many messages of peers may wait for or be with the
	// Validator; further ones are refused, before the mesh is told if possible,
	// and may come again. Zero: 2048.
	MaxPending int
}

// ruleSet is Rules in force.
type ruleSet struct {
	Rules
	slots chan struct{}
}

func newRuleSet(r Rules) *ruleSet {
	if r.Concurrency <= 0 {
		r.Concurrency = max(4, runtime.GOMAXPROCS(0))
	}
	if r.MaxPending <= 0 {
		r.MaxPending = 2048
	}
	return &ruleSet{Rules: r, slots: make(chan struct{}, r.Concurrency)}
}

// crowded is from where on the inspector refuses, without harm, so that the gate
// seldom has to: what it refuses was called off at other peers.
func (rs *ruleSet) crowded() int { return rs.MaxPending - rs.MaxPending/4 }

// SetRules puts rules in force for a shard, for every message judged from now
// on. They may be set before the first Subscribe, and they stay when the last
// Subscription is closed: a shard is never without the rules it was given.
// Without rules a shard takes any well-formed message.
func (r *Relay) SetRules(s sharding.Shard, rules Rules) {
	r.shards.ensure(s).rules.Store(newRuleSet(rules))
}

// shardState is what the relay knows of one shard. It is never removed: an
// application names its shards, strangers don't.
type shardState struct {
	shard   sharding.Shard
	topic   string
	rules   atomic.Pointer[ruleSet]
	pending atomic.Int64
	readers atomic.Pointer[[]*Subscription]
	traffic shardTraffic
	known   known
	ages    ages
	holders atomic.Int64 // Subscriptions that aren't passive

	overloads, panics, fewPeers pace

	// delivering is held while a message is noted and given to readers, and alone to see
	// both at one moment. It guards frozen, after which nothing is delivered. unread is
	// what readers that were closed hadn't taken.
	delivering sync.RWMutex
	frozen     bool
	unreadMu   sync.Mutex
	unread     []unread

	mu     sync.Mutex // orders joining and leaving
	handle *pubsub.Topic
	leave  pubsub.RelayCancelFunc
}

func (st *shardState) joined() bool { return st.holders.Load() > 0 }

func (st *shardState) currentReaders() []*Subscription {
	if readers := st.readers.Load(); readers != nil {
		return *readers
	}
	return nil
}

func (st *shardState) closeAll() {
	for _, sub := range st.currentReaders() {
		sub.end()
	}
}

// shardTable maps pubsub topics to shards; reading takes no lock.
type shardTable struct {
	mu sync.Mutex
	m  atomic.Pointer[map[string]*shardState]
}

func (t *shardTable) get(topic string) *shardState {
	if m := t.m.Load(); m != nil {
		return (*m)[topic]
	}
	return nil
}

func (t *shardTable) ensure(s sharding.Shard) *shardState {
	topic := s.PubsubTopic()
	t.mu.Lock()
	defer t.mu.Unlock()
	if st := t.get(topic); st != nil {
		return st
	}
	next := map[string]*shardState{}
	if m := t.m.Load(); m != nil {
		next = maps.Clone(*m)
	}
	st := &shardState{shard: s, topic: topic}
	st.rules.Store(newRuleSet(Rules{}))
	next[topic] = st
	t.m.Store(&next)
	return st
}

func (t *shardTable) all() []*shardState {
	if m := t.m.Load(); m != nil {
		return slices.Collect(maps.Values(*m))
	}
	return nil
}
