package relay

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// Receipt says what became of a published message.
type Receipt struct {
	// Hash is the deterministic message hash.
	Hash message.Hash
	// Peers is the number of peers the message was queued for.
	Peers int
	// To names them.
	To []peer.ID
	// LowMesh is true when that is less than the profile's DLow: the message
	// may not get far.
	LowMesh bool
	// Duplicate is true when the same bytes were accepted before and nothing
	// was sent.
	Duplicate bool
}

// RefusedError is returned by Publish for a message that the shard's own rules
// don't accept: other nodes wouldn't either.
type RefusedError struct {
	Shard   sharding.Shard
	Verdict message.Verdict
	// Stage is "screen" or "validator".
	Stage string
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("relay: shard %s: message refused by the shard's %s (%s)", e.Shard, e.Stage, e.Verdict)
}

// ownMessage travels with a message published here.
type ownMessage struct {
	in    *message.Received
	fresh bool
}

// Publish validates m against the shard's rules, delivers it to the local
// Subscriptions and hands it to peers: to all of the shard's with flood
// publishing, to the mesh otherwise. ctx bounds the call. Having nobody to hand
// it to is not an error; the Receipt tells. m is not kept.
//
// GossipSub knows a message by its bytes alone. The same bytes published on a
// second shard within two minutes go nowhere: Receipt.Duplicate says so. Another
// timestamp makes another message.
//
// Errors: ErrNotSubscribed, *RefusedError, *message.TooLargeError and the other
// errors of message.Validate, ErrPaused, net.ErrClosed, ctx's error. A message
// that was on its way at a Pause may have reached somebody all the same.
func (r *Relay) Publish(ctx context.Context, s sharding.Shard, m *message.Message) (Receipt, error) {
	if r.closed.Load() {
		return Receipt{}, errClosed
	}
	rt := r.router.Load()
	if rt == nil {
		return Receipt{}, r.stoppedBy()
	}
	st := r.shards.get(s.PubsubTopic())
	if st == nil || !st.joined() {
		return Receipt{}, fmt.Errorf("%w: %s", ErrNotSubscribed, s)
	}
	if err := m.Validate(); err != nil {
		return Receipt{}, err
	}
	if err := m.CheckSize(r.cfg.MaxMessageSize); err != nil {
		return Receipt{}, err
	}
	data := m.Encode()
	own, err := message.Decode(data)
	if err != nil {
		return Receipt{}, err
	}
	in := &message.Received{PubsubTopic: st.topic, Message: own, At: r.cfg.Now()}
	if v := r.runScreen(st, in); v != message.Accept {
		return Receipt{}, &RefusedError{Shard: s, Verdict: v, Stage: "screen"}
	}
	id := dataID(data)
	release, first := r.own.claim(id)
	if !first {
		return Receipt{Hash: own.Hash(st.topic), Duplicate: true}, nil
	}
	defer release()
	judging, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(rt.ctx, cancel)()
	switch v, err := r.judgeStable(judging, st, in); {
	case err != nil && rt.ctx.Err() != nil:
		return Receipt{}, r.stoppedBy()
	case err != nil:
		return Receipt{}, err
	case v != message.Accept:
		return Receipt{}, &RefusedError{Shard: s, Verdict: v, Stage: "validator"}
	}
	// The tracer isn't told of messages published here.
	r.peers.arriving(st.topic, messageKey(id), r.sum(data))
	return rt.hand(ctx, st, data, in)
}

// ownIDs are the messages being published.
type ownIDs struct {
	mu sync.Mutex
	m  map[string]struct{}
}

// claim returns false while somebody else is publishing the same.
func (o *ownIDs) claim(id string) (release func(), first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, taken := o.m[id]; taken {
		return nil, false
	}
	if o.m == nil {
		o.m = map[string]struct{}{}
	}
	o.m[id] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.m, id)
	}, true
}

func (r *router) hand(ctx context.Context, st *shardState, data []byte, in *message.Received) (Receipt, error) {
	own := &ownMessage{in: in}
	b := &batch{router: r, done: make(chan struct{})}
	if err := r.enqueue(ctx, st, data, own, b); err != nil {
		return Receipt{}, err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	case <-r.ctx.Done():
		return Receipt{}, r.stoppedBy()
	case <-r.life.Done():
		return Receipt{}, errClosed
	}
	rc := Receipt{
		Hash:      in.Message.Hash(st.topic),
		Peers:     len(b.handed),
		To:        b.handed,
		Duplicate: !own.fresh,
	}
	if rc.LowMesh = !rc.Duplicate && rc.Peers < r.profile.DLow; rc.LowMesh && st.fewPeers.due(r.cfg.Now(), time.Minute) {
		r.log.Warn("published to few peers", "shard", st.shard, "peers", rc.Peers, "want", r.profile.DLow)
	}
	return rc, nil
}

// enqueue gives a message to the router's event loop, which must not end
// meanwhile: the library would wait for it without a way out.
func (r *router) enqueue(ctx context.Context, st *shardState, data []byte, own *ownMessage, b *batch) error {
	r.publishers.RLock()
	defer r.publishers.RUnlock()
	if r.ctx.Err() != nil || r.closed.Load() {
		return r.stoppedBy()
	}
	handle, err := r.handle(st)
	if err != nil {
		return err
	}
	var messages pubsub.MessageBatch
	if err := handle.AddToBatch(ctx, &messages, data, pubsub.WithValidatorData(own)); err != nil {
		return fmt.Errorf("relay: publishing on %s: %w", handle, err)
	}
	return r.ps.PublishBatch(&messages, func(o *pubsub.BatchPublishOptions) error {
		o.Strategy = b
		return nil
	})
}

// handle is the library's for a joined shard, which Resume may be about to join.
func (r *router) handle(st *shardState) (*pubsub.Topic, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.joined() {
		return nil, fmt.Errorf("%w: %s", ErrNotSubscribed, st.shard)
	}
	if st.leave == nil {
		if err := r.join(st); err != nil {
			return nil, err
		}
	}
	return st.handle, nil
}

// batch is the router's scheduler for one own message: it sends in the order
// given, counts what went into the peers' queues and tells when it is through.
type batch struct {
	router *router
	out    []outgoing
	handed []peer.ID
	done   chan struct{}
}

type outgoing struct {
	to  peer.ID
	rpc *pubsub.RPC
}

// AddRPC implements pubsub.RPCScheduler.
func (b *batch) AddRPC(p peer.ID, _ string, rpc *pubsub.RPC) {
	b.out = append(b.out, outgoing{p, rpc})
}

// All implements pubsub.RPCScheduler. The tracer counts into b while it runs.
func (b *batch) All() iter.Seq2[peer.ID, *pubsub.RPC] {
	return func(yield func(peer.ID, *pubsub.RPC) bool) {
		b.router.publishing = b
		defer func() {
			b.router.publishing = nil
			close(b.done)
		}()
		for _, o := range b.out {
			if !yield(o.to, o.rpc) {
				return
			}
		}
	}
}
