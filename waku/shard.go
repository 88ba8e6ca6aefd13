package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

// shard is what the node knows of one shard. It outlives memberships: keys,
// replay memory and rules stay.
type shard struct {
	node    *Node
	shard   sharding.Shard
	topic   string
	plugins []*plugin
	budget  *dosguard.PeerBudget
	keys    *dosguard.Registry
	signed  *dosguard.Signed
	// protected never goes back to false.
	protected atomic.Bool
	// configured is true for a shard of WithProtectedShard.
	configured bool

	mu      sync.Mutex // orders joining, leaving and changes of keys
	members map[*Membership]struct{}
	holds   int             // memberships in the mesh
	expired map[string]bool // keys whose end was told
	alarm   *time.Timer     // the next key's end

	// archive keeps the shard's messages while it is joined.
	archive atomic.Pointer[shardArchive]
	// feed gives the shard's messages to subscribers of the filter service while
	// the shard is relayed. mu guards it.
	feed *filterFeed
	// light takes part in the shard without relaying.
	light *lightShard
	// outbox sends messages.
	outbox *outbox
	// gaps knows which messages may be missing.
	gaps *gapBook
	// standsIn is true while light does so although the shard is relayed, because
	// there is no mesh; mu guards since when.
	standsIn  atomic.Bool
	lacksMesh time.Time

	// mesh and meshUp are written from relay's event loop, which mustn't wait for
	// mu. meshUp is since when there is a mesh.
	mesh   atomic.Int64
	meshUp atomic.Pointer[time.Time]
}

// shardTable maps shards to what is known of them.
type shardTable struct {
	mu sync.Mutex
	m  map[sharding.Shard]*shard
}

func (t *shardTable) get(s sharding.Shard) *shard {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[s]
}

func (t *shardTable) all() []*shard {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*shard
	for _, s := range t.m {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *shard) int { return compareShards(a.shard, b.shard) })
	return out
}

// joined returns the shards with a membership, in order.
func (t *shardTable) joined() []*shard {
	return slices.DeleteFunc(t.all(), func(s *shard) bool { return s.memberships() == 0 })
}

func compareShards(a, b sharding.Shard) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Index, b.Index))
}

// ensureShard returns a shard's entry, made with its rules in force.
func (n *Node) ensureShard(id sharding.Shard) *shard {
	n.shards.mu.Lock()
	defer n.shards.mu.Unlock()
	if s := n.shards.m[id]; s != nil {
		return s
	}
	s := &shard{
		node:    n,
		shard:   id,
		topic:   id.PubsubTopic(),
		budget:  dosguard.NewPeerBudget(n.cfg.peerBudget),
		keys:    dosguard.NewRegistry(),
		members: map[*Membership]struct{}{},
		expired: map[string]bool{},
	}
	s.light, s.gaps = newLightShard(s), newGapBook(s)
	s.outbox = newOutbox(s)
	cfg := dosguard.SignedConfig{
		Keys:            s.keys,
		Window:          n.cfg.window,
		Now:             n.cfg.now,
		OnOutsideWindow: n.clock.outside,
		Counters:        new(dosguard.Counters),
	}
	s.signed = dosguard.NewSigned(cfg)
	for _, v := range n.cfg.validators {
		if v.shard == id {
			s.plugins = append(s.plugins, newPlugin(n, v))
		}
	}
	rules := relay.Rules{Screen: s.screen, Validator: s.validate}
	if len(s.plugins) > 0 {
		rules.Concurrency = maxStuck // waiting, more than working
	}
	n.relay.SetRules(id, rules)
	n.shards.m[id] = s
	return s
}

// screen refuses what is cheap to refuse. What blames its bringer comes first.
func (s *shard) screen(in *message.Received) message.Verdict {
	if s.protected.Load() {
		if v := s.signed.Screen(in); v != message.Accept {
			if v == message.Ignore {
				s.watchCopies(in)
			}
			return v
		}
	}
	return s.budget.Screen(in)
}

// watchCopies tells the clock watch who brings what is outside the window.
func (s *shard) watchCopies(in *message.Received) {
	if in.From == "" || in.Message == nil {
		return
	}
	t := time.Unix(0, in.Message.Timestamp)
	if s.node.cfg.now().Sub(t).Abs() > s.node.cfg.window {
		s.node.clock.copied(t, in.From)
	}
}

// validate has the last word.
func (s *shard) validate(ctx context.Context, in *message.Received) message.Verdict {
	protected := s.protected.Load()
	if protected {
		if v := s.signed.Validate(ctx, in); v != message.Accept {
			return v
		}
		if in.From != "" {
			s.node.clock.inside()
		}
	}
	for _, p := range s.plugins {
		if v := p.validate(ctx, in); v != message.Accept {
			return v
		}
	}
	if !protected && s.protected.Load() {
		return message.Ignore // protected while this one was judged
	}
	if protected && len(s.plugins) > 0 && s.signed.Verify(in.PubsubTopic, in.Message, false) != nil {
		return message.Ignore // its key was removed while plug-ins took their time
	}
	return message.Accept
}

func (s *shard) memberships() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.members)
}

// terms are what a Join asks for.
type terms struct {
	protected bool
	keys      []CommunityKey
	signer    *dosguard.PrivateKey
	await     bool
}

func (t terms) String() string {
	var names []string
	for _, k := range t.keys {
		names = append(names, keyWords(dosguard.KeyPeriod{Key: k.Key, From: k.From, Until: k.Until}))
	}
	if t.signer != nil && len(names) == 0 {
		names = append(names, t.signer.PublicKey().Hex())
	}
	return protectionWords(t.protected, names)
}

// keyWords names a key and its time, if that is bounded.
func keyWords(k dosguard.KeyPeriod) string {
	words := k.Key.Hex()
	if !k.From.IsZero() {
		words += " from " + k.From.Format(time.RFC3339)
	}
	if !k.Until.IsZero() {
		words += " until " + k.Until.Format(time.RFC3339)
	}
	return words
}

func protectionWords(protected bool, keys []string) string {
	switch {
	case !protected:
		return "no protection"
	case len(keys) == 0:
		return "protection by a key not known yet"
	}
	return "protection by key " + strings.Join(keys, ", ")
}

// have describes the terms in force. mu is held.
func (s *shard) have() string {
	var names []string
	for _, k := range s.keys.All() {
		names = append(names, keyWords(k))
	}
	where := "by an earlier Join"
	if s.configured {
		where = "by WithProtectedShard"
	}
	return fmt.Sprintf("carried with %s (%s)", protectionWords(s.protected.Load(), names), where)
}

// agree checks a Join's terms against those in force and puts them in force. mu
// is held.
func (s *shard) agree(t terms) error {
	conflict := &ConflictError{Shard: s.shard, Asked: t.String(), Have: s.have()}
	live := len(s.members) > 0 || s.configured
	known := s.keys.All()
	switch {
	case !s.protected.Load() && !t.protected:
		return nil
	case s.protected.Load() && !t.protected && !s.configured:
		return conflict
	case !s.protected.Load() && live:
		return conflict
	case s.protected.Load() && live && len(known) > 0:
		for _, k := range t.keys {
			if !agrees(known, k) {
				return conflict
			}
		}
		if t.signer != nil && !hasKey(known, t.signer.PublicKey()) {
			return conflict
		}
		return nil
	}
	if len(t.keys) == 0 && t.signer != nil {
		t.keys = []CommunityKey{{Key: t.signer.PublicKey()}}
	}
	if len(t.keys) == 0 && len(known) == 0 && !t.await {
		return fmt.Errorf("%w: shard %s: give Community.PublicKey, or waku.AwaitKey() if it comes later", ErrNoKey, s.shard)
	}
	return s.protect(t.keys)
}

// protect puts keys in force, in place of those that a shard had which nobody is
// a member of now; none leaves these. Whatever is judged meanwhile needs the
// signature of an old key or a new one. mu is held.
func (s *shard) protect(keys []CommunityKey) error {
	old := s.keys.All()
	for i, k := range keys {
		if err := s.addKey(k); err != nil {
			for _, k := range keys[:i] {
				if !hasKey(old, k.Key) {
					s.keys.Remove(k.Key)
				}
			}
			for _, k := range old {
				_ = s.keys.Add(k.Key, k.From, k.Until) // as it was
			}
			s.setAlarm()
			return err
		}
	}
	s.protected.Store(true)
	if len(keys) == 0 {
		return nil
	}
	for _, k := range old {
		if !slices.ContainsFunc(keys, func(x CommunityKey) bool { return x.Key.Equal(k.Key) }) {
			s.keys.Remove(k.Key)
		}
	}
	return nil
}

// agrees tells whether a key is known, with the same bounds if any are asked for.
func agrees(known []dosguard.KeyPeriod, asked CommunityKey) bool {
	return slices.ContainsFunc(known, func(k dosguard.KeyPeriod) bool {
		return k.Key.Equal(asked.Key) &&
			(asked.From.IsZero() || asked.From.Equal(k.From)) &&
			(asked.Until.IsZero() || asked.Until.Equal(k.Until))
	})
}

func hasKey(known []dosguard.KeyPeriod, key *dosguard.PublicKey) bool {
	return slices.ContainsFunc(known, func(k dosguard.KeyPeriod) bool { return k.Key.Equal(key) })
}

// addKey lets a key count and tells so. mu is held.
func (s *shard) addKey(k CommunityKey) error {
	known := hasKey(s.keys.All(), k.Key)
	if err := s.keys.Add(k.Key, k.From, k.Until); err != nil {
		return fmt.Errorf("waku: shard %s: key %s: %w", s.shard, k.Key, err)
	}
	delete(s.expired, k.Key.Hex())
	if !known {
		s.node.emit(Event{Kind: KeyAdded, Shard: s.shard, Key: k.Key.Hex()})
	}
	s.setAlarm()
	return nil
}

// setAlarm waits for the next key's end. mu is held.
func (s *shard) setAlarm() {
	if s.alarm != nil {
		s.alarm.Stop()
		s.alarm = nil
	}
	if s.node.tasks.ctx.Err() != nil || !s.node.gate.isOpen() {
		return
	}
	next := time.Duration(math.MaxInt64)
	now := s.node.cfg.now()
	for _, k := range s.keys.All() {
		if !k.Until.IsZero() && !s.expired[k.Key.Hex()] {
			next = min(next, max(0, k.Until.Sub(now)))
		}
	}
	if next < math.MaxInt64 {
		// The clock may run otherwise than the timer: look again, but not at once.
		s.alarm = time.AfterFunc(max(next, time.Millisecond), s.tellExpired)
	}
}

// tellExpired tells which keys have come to their end.
func (s *shard) tellExpired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.node.cfg.now()
	for _, k := range s.keys.All() {
		if id := k.Key.Hex(); !k.Until.IsZero() && !k.Until.After(now) && !s.expired[id] {
			s.expired[id] = true
			s.node.emit(Event{Kind: KeyExpired, Shard: s.shard, Key: id})
		}
	}
	s.setAlarm()
}

// changeKeys is how memberships change keys.
func (s *shard) changeKeys(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.protected.Load() {
		return fmt.Errorf("waku: shard %s isn't protected: join it with Community.PublicKey, or with Protected and waku.AwaitKey()", s.shard)
	}
	err := f()
	s.setAlarm()
	return err
}

// meshChanged is told by relay. It must not wait.
func (s *shard) meshChanged(size int) {
	if size > 0 && s.mesh.Load() == 0 {
		s.meshUp.Store(new(time.Now()))
	}
	was := s.mesh.Swap(int64(size))
	if int64(size) > was {
		s.outbox.peersChanged()
	}
	if was == 0 || size == 0 {
		s.gaps.changed()
	}
	if k := s.archive.Load(); was > 0 && size == 0 && k != nil {
		k.missing("no peer was in the shard's mesh")
	}
	before := s.state(was)
	if after := s.state(int64(size)); after != before {
		s.node.emit(Event{Kind: ShardHealthChanged, Shard: s.shard, State: after, Count: size})
	}
}

// meshSince is since when the shard has a mesh; nil: it has none. The same mesh has
// the same pointer.
func (s *shard) meshSince() *time.Time {
	if s.mesh.Load() == 0 {
		return nil
	}
	return s.meshUp.Load()
}

// stood tells whether a mesh had stood for some time.
func stood(since *time.Time, d time.Duration) bool {
	return since != nil && time.Since(*since) >= d
}

func (s *shard) state(mesh int64) State {
	switch {
	case mesh <= 0:
		return Unhealthy
	case mesh < int64(s.node.cfg.profile.DLow):
		return Minimal
	}
	return Sufficient
}

// configure protects a shard from the start.
func (s *shard) configure(keys []*dosguard.PublicKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		if err := s.addKey(CommunityKey{Key: k}); err != nil {
			return err
		}
	}
	s.configured = true
	s.protected.Store(true)
	return nil
}

// close leaves the shard for good.
func (s *shard) close() error {
	s.mu.Lock()
	members := slices.Collect(maps.Keys(s.members))
	if s.alarm != nil {
		s.alarm.Stop()
	}
	s.mu.Unlock()
	var errs []error
	for _, m := range members {
		errs = append(errs, m.leave())
	}
	return errors.Join(errs...)
}
