package waku

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

// Envelope is a message that passed the shard's rules.
type Envelope struct {
	// Shard is where it came from.
	Shard sharding.Shard
	// Message is shared by all readers: read it, don't change it.
	Message *message.Message
	// Hash is the deterministic message hash (14/WAKU2-MESSAGE).
	Hash message.Hash
	// From is the peer that handed the message over, not its author; this node's
	// own id for what it sent itself.
	From peer.ID
	// ReceivedAt is the node's clock when the message was accepted.
	ReceivedAt time.Time
	// Stored is true for a message that a store node kept, see
	// [Membership.History]. From is that node then.
	Stored bool
}

// Messages iterates over messages of the given content topics, or of all if none
// is given, from now on: what arrives between this call and the loop isn't
// missed. A *[LossError] is yielded like a message and doesn't end the loop.
// Leave and Close end it with an error that is net.ErrClosed; when ctx ends it
// ends without one. The sequence can be ranged over once; if it never is, ending
// ctx frees it.
func (m *Membership) Messages(ctx context.Context, contentTopics ...string) iter.Seq2[*Envelope, error] {
	r, err := m.Subscribe(contentTopics...)
	if err != nil {
		return func(yield func(*Envelope, error) bool) { yield(nil, err) }
	}
	r.closeWith(ctx)
	return func(yield func(*Envelope, error) bool) {
		defer r.Close()
		for {
			env, err := r.Next(ctx)
			if ctx.Err() != nil {
				return
			}
			if !yield(env, err) {
				return
			}
			if _, lossy := err.(*LossError); err != nil && !lossy {
				return
			}
		}
	}
}

// Subscribe returns a reader of the given content topics, or of all if none is
// given, which light members can't have: the error is [ErrTopicsNeeded] then.
// Readers are independent of each other. Close it when done.
func (m *Membership) Subscribe(contentTopics ...string) (*Reader, error) {
	return m.subscribe(m.buffer, contentTopics, false)
}

// subscribe is Subscribe. A reader apart looks for what is missing itself.
func (m *Membership) subscribe(buffer int, contentTopics []string, apart bool) (*Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		if m.shard.node.isClosed() {
			return nil, errNodeClosed
		}
		return nil, errLeft
	}
	if len(contentTopics) == 0 && m.needsTopics() {
		return nil, fmt.Errorf("%w: shard %s", ErrTopicsNeeded, m.shard.shard)
	}
	sub, err := m.shard.node.relay.Subscribe(m.shard.shard, relay.SubscribeConfig{
		Buffer: buffer, ContentTopics: contentTopics, Passive: true,
	})
	if err != nil {
		return nil, fmt.Errorf("waku: shard %s: %w", m.shard.shard, err)
	}
	r := &Reader{member: m, sub: sub, apart: apart}
	r.want(contentTopics)
	if len(contentTopics) == 0 {
		r.want([]string{allTopics})
	}
	m.readers[r] = struct{}{}
	m.shard.light.changed()
	m.shard.gaps.start()
	m.shard.gaps.changed()
	return r, nil
}

// Reader gets a membership's messages. Its methods are safe for concurrent use.
type Reader struct {
	member *Membership
	sub    *relay.Subscription
	apart  bool

	mu     sync.Mutex
	closed bool
	stop   func() bool // ends waiting for a context, if not nil
	wanted map[string]moment
}

// want notes since when content topics are wanted.
func (r *Reader) want(topics []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted == nil {
		r.wanted = map[string]moment{}
	}
	now := r.member.shard.node.moment()
	for _, t := range topics {
		if _, ok := r.wanted[t]; !ok {
			r.wanted[t] = now
		}
	}
}

// earliest adds to topics those of the reader, with the time since when it wants
// them if nobody has wanted them for longer.
func (r *Reader) earliest(topics map[string]moment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, at := range r.wanted {
		if known, ok := topics[t]; !ok || at.mono.Before(known.mono) {
			topics[t] = at
		}
	}
}

// closeWith closes the reader when ctx ends.
func (r *Reader) closeWith(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = context.AfterFunc(ctx, func() { _ = r.Close() })
}

// Next waits for the next message. A *[LossError] reports messages lost since the
// last call and doesn't end the reader. After Close, Leave or Node.Close the error
// is net.ErrClosed.
func (r *Reader) Next(ctx context.Context) (*Envelope, error) {
	env, err := r.sub.Next(ctx)
	var loss *relay.LossError
	switch {
	case errors.As(err, &loss):
		r.member.shard.gaps.lost(r, loss.Hashes)
		return nil, &LossError{Shard: r.member.Shard(), Count: loss.Count}
	case errors.Is(err, net.ErrClosed):
		return nil, r.closedBy()
	case err != nil:
		return nil, err
	}
	from, n := env.From, r.member.shard.node
	if r.member.shard.light.own.has(env.Hash) {
		from = n.PeerID()
	}
	return &Envelope{
		Shard: env.Shard, Message: env.Message, Hash: env.Hash, From: from,
		ReceivedAt: n.cfg.now().Add(-time.Since(env.ReceivedAt)), Stored: env.Stored,
	}, nil
}

func (r *Reader) closedBy() error {
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	switch err := r.member.alive(); {
	case closed:
	case err != nil:
		return err
	case r.member.shard.node.isClosed():
		return errNodeClosed
	}
	return errReaderClosed
}

// AddTopics adds content topics. On a reader of all topics it narrows to these.
func (r *Reader) AddTopics(contentTopics ...string) {
	r.want(contentTopics)
	r.mu.Lock()
	delete(r.wanted, allTopics)
	r.mu.Unlock()
	r.sub.AddTopics(contentTopics...)
	r.member.shard.light.changed()
	r.member.shard.gaps.changed()
}

// RemoveTopics removes content topics. When none is left nothing is delivered.
func (r *Reader) RemoveTopics(contentTopics ...string) {
	r.sub.RemoveTopics(contentTopics...)
	r.mu.Lock()
	for _, t := range contentTopics {
		delete(r.wanted, t)
	}
	delete(r.wanted, allTopics)
	r.mu.Unlock()
	r.member.shard.light.changed()
	r.member.shard.gaps.changed()
}

// Lost is how many messages the reader has lost so far.
func (r *Reader) Lost() uint64 { return r.sub.Lost() }

// Close ends the reader at once. It is idempotent.
func (r *Reader) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.member.mu.Lock()
	delete(r.member.readers, r)
	r.member.mu.Unlock()
	defer r.member.shard.light.changed()
	defer r.member.shard.gaps.changed()
	return r.end()
}

// checkTopics fails if a reader wants all content topics.
func (m *Membership) checkTopics() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range m.readers {
		if _, all := r.sub.Topics(); all {
			return fmt.Errorf("%w: shard %s", ErrTopicsNeeded, m.shard.shard)
		}
	}
	return nil
}

// end is all of Close that is left when the membership is.
func (r *Reader) end() error {
	r.mu.Lock()
	if r.stop != nil {
		r.stop()
	}
	r.mu.Unlock()
	return r.sub.Close()
}
