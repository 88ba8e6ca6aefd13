package waku

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// result is what became of one attempt.
type result struct {
	err   error
	final bool // the message will never be taken
	early bool // nobody was there, and nothing was tried
	calm  bool // it isn't the message's fault, nor anybody's: try again at once
}

// attempt sends a message once.
func (o *outbox) attempt(ctx, run context.Context, d *Delivery, light bool) {
	r := o.try(ctx, run, d, light)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sending[d.status.Priority]--
	d.job.busy = false
	o.tried(d, r)
	o.nudge()
}

// tried notes what became of an attempt. mu is held.
func (o *outbox) tried(d *Delivery, r result) {
	if _, in := o.all[d]; !in {
		return
	}
	j := &d.job
	now := time.Now()
	o.soon(now)
	if r.calm {
		j.retry = now
		return
	}
	d.update(func(s *DeliveryStatus) {
		if !r.early {
			s.Attempts++
		}
		if r.err != nil && s.State == Queued {
			s.Err = r.err
		}
	})
	switch state := d.State(); {
	case state == Propagated:
		j.again, j.resent = false, j.resent+1
		o.planResend(d, now)
	case r.final:
		o.finish(d, Failed, r.err)
	default:
		j.retry = now.Add(backoff(firstRetry, longestRetry, j.retries))
		j.retries++
		if j.tried && j.ask.IsZero() {
			o.askSoon(d, now.Add(askFirst))
		}
	}
}

func (j job) copy() job {
	j.to = maps.Clone(j.to)
	return j
}

func backoff(first, longest time.Duration, n int) time.Duration {
	return min(first<<min(n, 16), longest)
}

// try sends a message, by relay or by service peers.
func (o *outbox) try(ctx, run context.Context, d *Delivery, light bool) result {
	n := o.node()
	o.mu.Lock()
	j := d.job.copy()
	o.mu.Unlock()
	if j.member == nil || j.msg == nil {
		return result{calm: true}
	}
	if err := j.member.alive(); err != nil {
		return result{err: err, final: true}
	}
	o.shard.gaps.recall() // readers of an earlier run may have had it
	age := n.cfg.now().Sub(time.Unix(0, j.msg.Timestamp))
	switch {
	case light:
	case j.handed && len(n.pushServers(o.shard)) == 0:
		return result{err: ErrNobody, early: true} // relay takes the same bytes once
	case !j.handed && !o.heard():
		o.hearOwn(d, j)
		return result{err: ErrNobody, early: true}
	}
	if !j.tried && age > stampLife {
		if err := o.restamp(d); err != nil {
			return result{err: err, early: true}
		}
		o.mu.Lock()
		j = d.job.copy()
		o.mu.Unlock()
	} else if age > n.cfg.window-sameLife && o.shard.protected.Load() {
		return result{err: errTooOld, early: true}
	}
	if light || j.handed {
		return o.tryPush(ctx, run, d, j)
	}
	return o.tryRelay(ctx, run, d, j)
}

var errTooOld = errors.New("waku: the message is too old to be sent again, and may have reached somebody")

// heard tells whether relay has somebody to hand a message to.
func (o *outbox) heard() bool {
	return o.shard.mesh.Load() > 0 || o.node().cfg.profile.FloodPublish && len(o.node().relay.Peers(o.shard.shard)) > 0
}

// hearOwn gives this node's readers a message that nobody else can have yet.
func (o *outbox) hearOwn(d *Delivery, j job) {
	if j.local {
		return
	}
	if err := o.shard.genuine("", j.msg); err != nil {
		return // it will be said when it leaves
	}
	o.mu.Lock()
	d.job.local = true
	o.mu.Unlock()
	o.node().relay.Deliver(o.shard.shard, o.node().PeerID(), j.msg.Clone())
}

// restamp gives a message that nobody has another time and signature: with its own it
// would be too old for stores, and for others.
func (o *outbox) restamp(d *Delivery) error {
	o.mu.Lock()
	msg, m, old := d.job.msg.Clone(), d.job.member, d.job.msg.Hash(o.shard.topic)
	o.mu.Unlock()
	msg.Meta = nil
	if err := m.finish(msg); err != nil {
		return err
	}
	hash := msg.Hash(o.shard.topic)
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, had := o.node().relay.Had(o.shard.shard, old); had {
		o.node().relay.Know(o.shard.shard, hash, msg.Timestamp)
	}
	d.job.msg = msg
	d.update(func(s *DeliveryStatus) { s.Hash = hash })
	return nil
}

// leaves notes that somebody may have the message from now on: with the state store
// first, so that another run doesn't give it another stamp. It returns false when the
// delivery has ended.
func (o *outbox) leaves(d *Delivery, relayed bool) bool {
	o.mu.Lock()
	_, in := o.all[d]
	sure := d.job.kept
	if in {
		d.job.tried, d.job.kept = true, false
		d.job.handed = d.job.handed || relayed
	}
	o.mu.Unlock()
	return in && (!sure || o.node().keepDeliveries(keepNow) != nil)
}

// tryRelay hands a message to the mesh.
func (o *outbox) tryRelay(ctx, run context.Context, d *Delivery, j job) result {
	n := o.node()
	if !o.leaves(d, true) {
		return result{err: errNodeClosed, early: true}
	}
	ctx, done := during(ctx, run)
	defer done()
	defer context.AfterFunc(j.member.ctx, done)()
	noting, refused := withRefusal(ctx)
	rc, err := n.relay.Publish(noting, o.shard.shard, j.msg)
	switch {
	case err == nil:
	case errors.Is(err, relay.ErrNotSubscribed):
		o.mu.Lock()
		d.job.handed, d.job.tried = false, j.tried
		o.mu.Unlock()
		if alive := j.member.alive(); alive != nil {
			return result{err: alive, final: true}
		}
		return result{err: ErrNobody, early: true} // switched just now
	case run.Err() != nil, errors.Is(err, relay.ErrPaused):
		o.mu.Lock()
		d.job.handed, d.job.maybe = false, true
		o.mu.Unlock()
		return result{calm: true}
	case ctx.Err() != nil:
		return result{err: errLeft, early: true}
	case j.maybe:
		return result{err: ErrNobody} // it passes for a replay
	default:
		return result{err: j.member.sendError(j.msg, err, refused), final: true}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	d.job.local = true
	if rc.Peers == 0 {
		return result{err: ErrNobody}
	}
	now := time.Now()
	n.lastSent.Store(&now)
	for _, p := range rc.To {
		d.job.to[p] = now
	}
	d.update(func(s *DeliveryStatus) { s.Peers, s.LowMesh = s.Peers+rc.Peers, rc.LowMesh })
	o.enough(d)
	return result{}
}

// enough notes when enough have a message. mu is held.
func (o *outbox) enough(d *Delivery) {
	if _, in := o.all[d]; !in {
		return
	}
	c, s := o.config(), d.Status()
	if len(s.Accepted) >= c.ServicePeers || s.Peers-len(s.Accepted) >= c.RelayPeers {
		o.propagated(d)
	}
}

// tryPush has service peers publish a message.
func (o *outbox) tryPush(ctx, run context.Context, d *Delivery, j job) result {
	msg := j.msg.Clone()
	if err := o.shard.genuine("", msg); err != nil {
		return result{final: true, err: &RefusedError{Shard: o.shard.shard, Verdict: message.Reject, Reason: line(err)}}
	}
	o.shard.light.own.add(msg.Hash(o.shard.topic))
	p := pushing{member: j.member, run: run, msg: msg, wanted: j.push, again: j.tried, urgent: d.status.Priority == PriorityChat}
	if j.again { // who has it doesn't publish it again
		now := time.Now()
		p.skip = func(id peer.ID) bool { at, had := j.to[id]; return had && now.Sub(at) < relayMemory }
	}
	p.asking = func() bool { return o.leaves(d, false) }
	p.accepted = func(a Acceptance) {
		o.mu.Lock()
		deliver := !d.job.local
		d.job.local = true
		d.job.to[a.Peer] = time.Now()
		d.update(func(s *DeliveryStatus) {
			s.Accepted = append(s.Accepted, a)
			s.Peers++
		})
		o.enough(d)
		o.mu.Unlock()
		if deliver {
			o.node().relay.Deliver(o.shard.shard, o.node().PeerID(), msg)
		}
	}
	err := p.do(ctx)
	var status *lightpush.StatusError
	switch {
	case err == nil:
		return result{}
	case run.Err() != nil:
		return result{calm: true}
	case errors.As(err, &status) && !status.Temporary():
		return result{err: err, final: !j.tried}
	}
	return result{err: err}
}

// relayMemory is how long relays don't pass on the same bytes again (11/WAKU2-RELAY), and
// some more.
const relayMemory = 125 * time.Second

// planResend decides when a message that no store has is sent once more: the same bytes,
// to such service peers as can still do something with them. mu is held.
func (o *outbox) planResend(d *Delivery, now time.Time) {
	d.job.resend = time.Time{}
	if !d.job.denied {
		return
	}
	d.job.resend = now.Add(backoff(resendFirst, resendLongest, d.job.resent))
	o.soon(d.job.resend)
}

const (
	resendFirst   = 5 * time.Second
	resendLongest = time.Minute
)
