package waku

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/filter"
)

const (
	// lightAnswer is how long a service peer may take to answer; a ping is sent
	// twice.
	lightAnswer = 5 * time.Second
	// lightThrottled is how often in a row a service peer may say that it is asked
	// too often before it is left.
	lightThrottled = 3
	// lightFresh is for how long a sign of a service peer says that it hasn't
	// forgotten what it has to push.
	lightFresh = 15 * time.Second
	// lightBye bounds telling a service peer that nothing is wanted any more.
	lightBye = 3 * time.Second
)

// These end links: one that isn't needed any more, one whose peer is gone, and one
// whose peer doesn't answer while others do.
var (
	errUnwanted = errors.New("not needed any more")
	errGone     = errors.New(connectionLost)
	errMute     = errors.New("it didn't answer in time")
)

// lightLink is one service peer's part: what it was asked to push, and whether it
// does.
type lightLink struct {
	l    *lightShard
	peer peer.ID
	wake chan struct{}

	ctx  context.Context
	quit context.CancelCauseFunc

	// Guarded by the lightShard's mu. Times are monotonic.
	wants   map[string]moment
	have    map[string]time.Time // since when
	since   time.Time
	proof   moment    // until when it is known to be good
	known   time.Time // when it knew last what to push
	pushed  uint64
	judged  int       // pushes with a plugged-in validator
	suspect bool      // it didn't answer
	wanted  time.Time // a ping, at once
	err     error     // why it ended
	doubts
}

func newLightLink(ctx context.Context, l *lightShard, p peer.ID) *lightLink {
	k := &lightLink{
		l: l, peer: p, wake: make(chan struct{}, 1), since: time.Now(),
		have: map[string]time.Time{},
	}
	k.ctx, k.quit = context.WithCancelCause(ctx)
	return k
}

// want changes what is asked for. The lightShard's mu is held.
func (k *lightLink) want(topics map[string]moment) {
	if len(k.wants) == len(topics) && !slices.ContainsFunc(slices.Collect(maps.Keys(topics)), func(t string) bool {
		_, ok := k.wants[t]
		return !ok
	}) {
		return
	}
	k.wants = maps.Clone(topics)
	k.rouse()
}

// run is the link's life.
func (k *lightLink) run() {
	l, n := k.l, k.l.shard.node
	err := k.serve()
	if cause := context.Cause(k.ctx); cause != nil {
		err = cause
	}
	var left *leftError
	if errors.As(err, &left) || errors.Is(err, errUnwanted) || errors.Is(err, errSilent) || errors.Is(err, errAlone) {
		k.bye()
	}
	if left != nil {
		l.hangUp(k.peer, left.reason)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.err == nil && n.tasks.ctx.Err() == nil {
		l.rests().fail(k.peer, err, retryAfter(err))
		n.cfg.logger.Info("service peer replaced", "shard", l.shard.shard, "peer", k.peer, "reason", line(err))
	}
	l.end(k, err)
	delete(l.links, k.peer)
	l.changed()
}

// retryAfter is how long a peer asks to be left alone.
func retryAfter(err error) time.Duration {
	var status *filter.StatusError
	if errors.As(err, &status) {
		return status.RetryAfter
	}
	return 0
}

// serve asks for what is wanted, and whether the peer still knows.
func (k *lightLink) serve() error {
	n := k.l.shard.node
	throttled := 0
	asked := time.Now()
	refused := false // a ping, because it came too soon
	for k.ctx.Err() == nil {
		add, remove := k.difference()
		wait, last := k.pingDue(asked)
		ping := false
		var err error
		switch {
		case len(add) > 0 && k.doubtful():
			for !n.filters.claim(k.peer, last) {
				last = n.filters.lastPing(k.peer)
			}
			ping, err = true, k.ping(last)
		case len(add) > 0:
			err = k.subscribe(add)
		case len(remove) > 0:
			err = k.unsubscribe(remove)
		case wait > 0 && !refused:
			n.gate.rest(k.ctx, wait, k.wake)
			continue
		case n.filters.claim(k.peer, last):
			ping, err = true, k.ping(last)
		default: // somebody else does
			continue
		}
		asked = time.Now()
		refused = ping && errors.Is(err, filter.ErrTooMany)
		switch {
		case err == nil:
			throttled = 0
		case errors.Is(err, filter.ErrNotSubscribed): // it has forgotten, on all shards
			n.linksTo(k.peer, (*lightLink).forgotten)
		case errors.Is(err, filter.ErrTooMany) && throttled < lightThrottled:
			throttled++
			n.gate.rest(k.ctx, max(time.Second, min(retryAfter(err), longestRest)), nil)
		default:
			if ping && k.ctx.Err() == nil {
				k.endAll(err)
			}
			return err
		}
	}
	return context.Cause(k.ctx)
}

// rouse has the link look what there is to do.
func (k *lightLink) rouse() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// difference is what has to be asked for, and what isn't wanted any more.
func (k *lightLink) difference() (add, remove []string) {
	k.l.mu.Lock()
	defer k.l.mu.Unlock()
	for t := range k.wants {
		if _, ok := k.have[t]; !ok || k.anew {
			add = append(add, t)
		}
	}
	for t := range k.have {
		if _, ok := k.wants[t]; !ok {
			remove = append(remove, t)
		}
	}
	slices.Sort(add)
	slices.Sort(remove)
	return add, remove
}

func (k *lightLink) subscribe(topics []string) error {
	began := k.l.shard.node.moment()
	if err := k.l.shard.node.filterClient.Subscribe(k.ctx, k.peer, k.l.shard.shard, topics); err != nil {
		return err
	}
	k.l.mu.Lock()
	defer k.l.mu.Unlock()
	k.l.rests().answered(k.peer)
	k.prove(began)
	k.anew = false
	for _, t := range topics {
		k.have[t] = time.Now()
	}
	k.l.changed()
	return nil
}

func (k *lightLink) unsubscribe(topics []string) error {
	k.l.mu.Lock()
	topics = slices.DeleteFunc(topics, func(t string) bool { _, again := k.wants[t]; return again })
	for _, t := range topics {
		delete(k.have, t)
	}
	k.l.mu.Unlock()
	if len(topics) == 0 {
		return nil
	}
	return k.l.shard.node.filterClient.Unsubscribe(k.ctx, k.peer, k.l.shard.shard, topics)
}

// prove notes that the peer was good at a time: it knew what it has to push, and
// pushed that unless there is doubt. The lightShard's mu is held.
func (k *lightLink) prove(at moment) {
	if at.mono.After(k.known) {
		k.known = at.mono
	}
	if k.doubt != errSilent && at.mono.After(k.proof.mono) {
		k.proof = at
	}
}

// bye tells the peer to stop.
func (k *lightLink) bye() {
	k.l.mu.Lock()
	topics := slices.Sorted(maps.Keys(k.have))
	k.l.mu.Unlock()
	n := k.l.shard.node
	if len(topics) == 0 || n.peers.get(k.peer) == nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.tasks.ctx, lightBye)
	defer cancel()
	_ = n.filterClient.Unsubscribe(ctx, k.peer, k.l.shard.shard, topics) // it will find out by itself
}
