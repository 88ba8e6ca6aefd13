package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

// Community is what [Node.Join] joins: a shard, and the keys that protect it.
type Community struct {
	// Shard must be one of the node's cluster.
	Shard sharding.Shard
	// PublicKey is the key that signs the shard's messages. Nil: the shard isn't
	// protected, unless Keys, Protected, SignWith or the node's options say so.
	PublicKey *dosguard.PublicKey
	// Keys are further keys, with the times in which they count.
	Keys []CommunityKey
	// Protected says that the shard has a key even if this program doesn't know
	// it yet. Joining it then takes a key, or [AwaitKey].
	Protected bool
	// Control and Media are further shards, for messages of those classes; nil: they
	// travel on Shard. The same keys protect them. See [Membership.Control].
	Control, Media *sharding.Shard
	// Routing tells the class of a message whose sender doesn't.
	Routing Routing
}

// CommunityKey is a key that counts for a while.
type CommunityKey struct {
	Key *dosguard.PublicKey
	// From and Until bound the timestamps of messages that Key may sign: from
	// From on and before Until. Zero: unbounded.
	From, Until time.Time
}

// JoinOption changes how [Node.Join] joins.
type JoinOption func(*joinConfig)

type joinConfig struct {
	signer  *dosguard.PrivateKey
	signs   bool
	modes   []Mode
	buffer  int
	buffers bool
	await   bool

	relayControl bool
	whole        *Membership // what the membership is a part of
}

// SignWith lets the membership send on a protected shard. The key's public half
// must be among the community's keys; if the community names none, it is the key.
func SignWith(key *dosguard.PrivateKey) JoinOption {
	return func(c *joinConfig) { c.signer, c.signs = key, true }
}

// WithBuffer sets how many messages are held for each reader of the membership.
// When a reader falls behind, the oldest are dropped, counted, and reported to it
// as a *[LossError]. Default: 1024.
func WithBuffer(messages int) JoinOption {
	return func(c *joinConfig) { c.buffer, c.buffers = messages, true }
}

// AwaitKey joins a protected shard whose key isn't known yet. Nothing is passed on
// or delivered until [Membership.AddKey].
func AwaitKey() JoinOption { return func(c *joinConfig) { c.await = true } }

// Join makes the node part of a community's shard, or of an unprotected one.
// Joining is quick and needs nobody else; messages flow when the mesh has formed,
// or service peers are found, which [Health] tells. A shard can be joined several times, by parts of a
// program that don't know each other: the memberships share the shard, its keys
// and its replay memory, and each leaves for itself. Only when nobody is a member
// of a shard may a Join bring other keys than the shard had before; and a shard
// that was protected once stays so for the node's life.
//
// The error says what is missing or wrong; a *[ConflictError] names what this
// Join asks for and what stands against it.
func (n *Node) Join(ctx context.Context, c Community, opts ...JoinOption) (*Membership, error) {
	var cfg joinConfig
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("waku: Join: an option is nil")
		}
		opt(&cfg)
	}
	t, err := n.terms(c, cfg)
	if err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	n.life.RLock()
	defer n.life.RUnlock()
	if n.isClosed() {
		return nil, errNodeClosed
	}
	if err := c.checkClasses(); err != nil {
		return nil, fmt.Errorf("waku: Join: shard %s: %w", c.Shard, err)
	}
	n.telemetry.learn(c)
	m, err := n.ensureShard(c.Shard).join(t, cfg)
	if err != nil {
		return nil, err
	}
	m.routing = c.Routing
	if err := n.joinClasses(m, c, cfg); err != nil {
		return nil, errors.Join(err, m.leave())
	}
	n.shardsChanged()
	return m, nil
}

// terms checks what a Join says by itself.
func (n *Node) terms(c Community, cfg joinConfig) (terms, error) {
	fail := func(format string, args ...any) (terms, error) {
		return terms{}, fmt.Errorf("waku: Join: shard %s: %w", c.Shard, fmt.Errorf(format, args...))
	}
	if err := c.Shard.Valid(); err != nil {
		return terms{}, fmt.Errorf("waku: Join: %w", err)
	}
	t := terms{keys: c.Keys, signer: cfg.signer, await: cfg.await}
	if c.PublicKey != nil {
		t.keys = append([]CommunityKey{{Key: c.PublicKey}}, t.keys...)
	}
	t.protected = len(t.keys) > 0 || c.Protected || cfg.await || cfg.signs
	named := cfg.signer == nil || len(t.keys) == 0
	for _, k := range t.keys {
		if k.Key == nil {
			return fail("Community.Keys has a nil key")
		}
		named = named || k.Key.Equal(cfg.signer.PublicKey())
	}
	switch {
	case c.Shard.Cluster != n.cfg.network.Cluster:
		return fail("the node belongs to network %s: its shards are %d/0 to %d/%d", n.cfg.network,
			n.cfg.network.Cluster, n.cfg.network.Cluster, sharding.MaxIndex)
	case slices.Contains(cfg.modes, ModeRelay) && slices.Contains(cfg.modes, ModeLight):
		return fail("AsRelay and AsLight: a membership is one of the two, and may Switch later")
	case cfg.signs && cfg.signer == nil:
		return fail("SignWith: the key is nil: leave the option out to listen only")
	case cfg.buffers && cfg.buffer < 1:
		return fail("WithBuffer: %d messages, want a positive number", cfg.buffer)
	case !named:
		return fail("SignWith: key %s isn't among the community's keys: sign with one of them", cfg.signer.PublicKey())
	}
	return t, nil
}

// join adds a membership. The rules are in force before the shard is.
func (s *shard) join(t terms, cfg joinConfig) (*Membership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.agree(t); err != nil {
		return nil, err
	}
	m := &Membership{
		shard: s, whole: cfg.whole, mode: ModeRelay, buffer: cfg.buffer, signer: t.signer, readers: map[*Reader]struct{}{},
		switching: make(chan struct{}, 1),
	}
	if slices.Contains(cfg.modes, ModeLight) {
		m.mode = ModeLight
		s.light.start()
	} else {
		var err error
		if m.hold, err = s.holdLocked(); err != nil {
			return nil, err
		}
	}
	m.ctx, m.cancel = context.WithCancel(s.node.tasks.ctx)
	s.members[m] = struct{}{}
	s.light.changed()
	s.outbox.joined(m)
	return m, nil
}

// Membership is one part in a community. Its methods are safe for concurrent use.
type Membership struct {
	shard  *shard
	buffer int
	ctx    context.Context // ends with the membership
	cancel context.CancelFunc

	switching chan struct{} // has something while modes are switched
	// These are guarded by the shard's mu. hold keeps the shard's mesh; nil if
	// the membership is light. goingLight is set while it is about to be.
	mode       Mode
	goingLight bool
	hold       *relay.Subscription

	// class is what the shard is for, classed are the parts in the community's other
	// shards, and routing tells what goes there. whole is what the membership is a part
	// of; nil: it is whole.
	whole   *Membership
	class   Class
	classed [classes]*Membership
	routing Routing

	// signing is held while a message is stamped and signed, so that a change of
	// keys has a before and an after.
	signing sync.RWMutex
	signer  *dosguard.PrivateKey

	mu      sync.Mutex
	readers map[*Reader]struct{}
	left    bool
}

// Shard is the shard joined.
func (m *Membership) Shard() sharding.Shard { return m.shard.shard }

// Leave ends the membership and its readers, whether or not they read. What was sent and
// can leave at once still does, within a second; the deliveries of the rest end.
// The shard's mesh is left with its last membership; its keys and its memory stay,
// so that joining again opens no gap. It is idempotent.
func (m *Membership) Leave() error {
	if m.alive() == nil {
		m.shard.node.flush(m.shard)
	}
	if err := m.leave(); err != nil {
		return err
	}
	m.shard.node.shardsChanged()
	return nil
}

func (m *Membership) leave() error {
	m.mu.Lock()
	if m.left {
		m.mu.Unlock()
		return nil
	}
	m.left = true
	readers := m.readers
	m.readers = nil
	m.mu.Unlock()
	m.cancel()
	var errs []error
	for r := range readers {
		errs = append(errs, r.end())
	}
	for _, p := range m.parts() {
		errs = append(errs, p.leave())
	}
	s := m.shard
	s.outbox.memberLeft(m, cmp.Or(m.alive(), errLeft))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, m)
	errs = append(errs, s.releaseLocked(m.hold))
	m.hold = nil
	s.light.changed()
	s.gaps.changed()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("waku: leaving shard %s: %w", s.shard, err)
	}
	return nil
}

func (m *Membership) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.left {
		return nil
	}
	if m.shard.node.isClosed() {
		return errNodeClosed
	}
	return errLeft
}
