package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrPaused is returned by Publish between Pause and Resume.
var ErrPaused = errors.New("relay: paused")

// router is one life of the library's router: from New or Resume to Pause or Close.
// What the Relay knows (rules, readers, memory, faults, counters) outlives it.
type router struct {
	*Relay
	ps     *pubsub.PubSub
	ctx    context.Context
	cancel context.CancelFunc

	// probing is set while the messages of one RPC are not to be called off.
	probing atomic.Bool
	// publishing is touched on the router's event loop only.
	publishing *batch

	// heard is held while the tracer takes notes. The event loop may go on for a
	// moment after its end, when the book is about the next router already.
	heard   sync.RWMutex
	stopped bool
}

// Pause stops the router: no timer runs and nothing is sent or taken until Resume.
// Rules, Subscriptions, the memory of what was delivered and all counts stay;
// readers wait, or read what they have; Publish fails with ErrPaused. Peers that the
// router spoke with are disconnected, for on the connection they have they wouldn't
// announce their shards again. It is idempotent and doesn't wait for validators.
func (r *Relay) Pause() {
	r.turning.Lock()
	defer r.turning.Unlock()
	if r.closed.Load() {
		return
	}
	for _, p := range r.stopRouter() { // which takes their streams along
		r.disconnect(p)
	}
}

// Resume starts a router again and joins the shards that have Subscriptions. It
// is idempotent; after Close the error is net.ErrClosed.
func (r *Relay) Resume() error {
	r.turning.Lock()
	defer r.turning.Unlock()
	if r.closed.Load() {
		return errClosed
	}
	if r.router.Load() != nil {
		return nil
	}
	if err := r.startRouter(); err != nil {
		return err
	}
	var errs []error
	for _, st := range r.shards.all() {
		st.mu.Lock()
		if st.joined() {
			errs = append(errs, r.join(st))
		}
		st.mu.Unlock()
	}
	return errors.Join(errs...)
}

// startRouter is New's part of Resume. turning is held, or nobody knows r yet.
func (r *Relay) startRouter() error {
	rt := &router{Relay: r}
	rt.ctx, rt.cancel = context.WithCancel(context.Background())
	ps, err := pubsub.NewGossipSub(rt.ctx, r.host, rt.options()...)
	if err != nil {
		rt.cancel()
		return fmt.Errorf("relay: %w", err)
	}
	rt.ps = ps
	r.router.Store(rt)
	return nil
}

// stopRouter returns the peers that the router had to do with. turning is held.
func (r *Relay) stopRouter() (peers []peer.ID) {
	rt := r.router.Swap(nil)
	if rt == nil {
		return nil
	}
	r.host.RemoveStreamHandler(ID)
	r.publishers.Lock()
	rt.cancel()
	r.publishers.Unlock()
	rt.heard.Lock()
	rt.stopped = true
	rt.heard.Unlock()
	for _, st := range r.shards.all() {
		st.mu.Lock()
		st.handle, st.leave = nil, nil
		st.mu.Unlock()
	}
	meshes, peers := r.peers.reset()
	for topic, links := range meshes {
		for i, p := range links {
			r.meshChanged(p, topic, len(links)-1-i)
		}
	}
	r.scores.Store(nil)
	for _, s := range r.streams() {
		if p := s.Conn().RemotePeer(); !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	return peers
}

// stoppedBy is why there is no router.
func (r *Relay) stoppedBy() error {
	if r.closed.Load() {
		return errClosed
	}
	return ErrPaused
}
