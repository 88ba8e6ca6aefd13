package waku

import (
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/filter"
)

// A ping is answered for all that a peer has to push, on whichever shard. So one ping
// a period serves all links to a peer, and so does what comes of it.

// linksTo calls f for each link to a peer that hasn't ended, with its shard's mu held.
func (n *Node) linksTo(p peer.ID, f func(*lightLink)) {
	for _, s := range n.shards.all() {
		s.light.mu.Lock()
		if k := s.light.links[p]; k != nil && k.err == nil {
			f(k)
		}
		s.light.mu.Unlock()
	}
}

// pingNow has every service peer asked at once.
func (l *lightShard) pingNow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.links {
		k.wanted = time.Now()
		k.rouse()
	}
}

// pingDue is how long it takes until the peer is to be pinged, if this link last asked
// for something then, and when it was pinged last.
func (k *lightLink) pingDue(asked time.Time) (wait time.Duration, last time.Time) {
	n := k.l.shard.node
	last = n.filters.lastPing(k.peer)
	k.l.mu.Lock()
	defer k.l.mu.Unlock()
	if k.wanted.After(last) {
		return 0, last
	}
	if last.After(asked) {
		asked = last
	}
	return time.Until(asked.Add(n.cfg.filterPing)), last
}

// ping asks whether the peer still knows. It asks twice: after the first silence the
// peer is in doubt, and another is looked for.
func (k *lightLink) ping(last time.Time) error {
	n := k.l.shard.node
	for try := 0; ; try++ {
		began := n.moment()
		err := n.filterClient.Ping(k.ctx, k.peer)
		var status *filter.StatusError
		switch {
		case err == nil:
			n.linksTo(k.peer, func(o *lightLink) {
				o.suspect = false
				o.prove(began)
				o.l.changed()
			})
			return nil
		case k.ctx.Err() != nil: // another link has to ask
			n.filters.unclaim(k.peer, last)
			n.linksTo(k.peer, (*lightLink).rouse)
			return err
		case try > 0 || errors.As(err, &status):
			return err
		}
		n.linksTo(k.peer, func(o *lightLink) {
			o.suspect = true
			o.l.changed()
		})
	}
}

// endAll ends the other links to the peer: what went wrong had nothing to do with the
// shard.
func (k *lightLink) endAll(why error) {
	k.l.shard.node.linksTo(k.peer, func(o *lightLink) {
		if o != k {
			o.l.end(o, why)
		}
	})
}

// doubtful tells whether the peer may have forgotten by now what it was asked for, on
// any shard. Asked for more it wouldn't say so, and would answer later pings.
func (k *lightLink) doubtful() bool {
	asked, fresh := false, false
	k.l.shard.node.linksTo(k.peer, func(o *lightLink) {
		holds := len(o.have) > 0
		asked = asked || holds
		fresh = fresh || holds && time.Since(o.known) < lightFresh
	})
	return asked && !fresh
}

// forgotten begins anew with a peer that knows of nothing.
func (k *lightLink) forgotten() {
	k.l.lost(k)
	clear(k.have)
	if k.doubt == errSilent { // that is why
		k.doubt = nil
	}
	k.l.cover(k.l.shard.node.moment()) // before it is asked anew
	k.rouse()
	k.l.changed()
}
