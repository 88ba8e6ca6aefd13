package waku

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/rendezvous"
	"github.com/status-im/shoal/sharding"
)

const (
	// lookupPause is how long a rendezvous point isn't asked again about a shard,
	// doubled up to longestLookupPause while it names nobody new.
	lookupPause        = time.Second
	longestLookupPause = time.Hour
	// lookupEager is for how long at first the pause isn't longer than eagerPause: others
	// may be about to register too.
	lookupEager = 15 * time.Second
	eagerPause  = 2 * time.Second
	// lookupPoints is how many points are asked in a round: no one chooses alone.
	lookupPoints = 3
	// lookupLeast is the shortest pause between two rounds.
	lookupLeast = 500 * time.Millisecond
	// sourceRendezvous is the finder's name in Health.
	sourceRendezvous = "rendezvous"
	// maxLookups is how many points and shards are remembered.
	maxLookups = 1024
	// refusedAddress is why a registration isn't taken: this node can't dial it.
	refusedAddress = "no address to dial"
)

// lookup is what is known of a point's answers about a shard.
type lookup struct {
	cookie rendezvous.Cookie
	began  time.Time
	next   time.Time
	pause  time.Duration
}

type lookupKey struct {
	point peer.ID
	shard sharding.Shard
}

// askPoints asks rendezvous points among the peers for others while some are missing.
func (d *discovery) askPoints(ctx context.Context) {
	known := map[lookupKey]*lookup{}
	found := 0
	for {
		run, ok := d.wait(ctx)
		if !ok {
			return
		}
		var again <-chan time.Time // never, if there is nobody to ask
		if due := d.lookUp(ctx, run, known, &found); !due.IsZero() {
			again = time.After(max(time.Until(due), lookupLeast))
		}
		_, change := d.hunger.look()
		select {
		case <-again:
		case <-change:
			if !pause(ctx, lookupLeast, nil) {
				return
			}
		case <-d.points:
		case <-run.Done():
		case <-ctx.Done():
			return
		}
	}
}

// registeredAt has a point asked at once about a shard that this node has registered
// for: of two who do, the second one finds the first.
func (d *discovery) registeredAt(p peer.ID, s sharding.Shard) {
	d.mu.Lock()
	if len(d.fresh) < maxLookups {
		d.fresh[lookupKey{p, s}] = true
	}
	d.mu.Unlock()
	d.pointsChanged()
}

func (d *discovery) takeFresh(key lookupKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := d.fresh[key]
	delete(d.fresh, key)
	return fresh
}

// lacking are the shards that lack peers who relay them.
func (d *discovery) lacking() (shards []sharding.Shard) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.missing {
		if m.Service == peers.Relay && m.Have < m.Target && !slices.Contains(shards, m.Shard) {
			shards = append(shards, m.Shard)
		}
	}
	return shards
}

// lookUp asks whom it may ask now, and returns when somebody may be asked again; zero:
// there is nobody.
func (d *discovery) lookUp(ctx, run context.Context, known map[lookupKey]*lookup, found *int) (due time.Time) {
	n := d.node
	speak := slices.DeleteFunc(n.peers.proven(), func(p peer.ID) bool { return !n.speaks(p, rendezvous.ID) })
	for _, p := range speak {
		if left, _ := n.points.rest(p); left > 0 && (due.IsZero() || due.After(time.Now().Add(left))) {
			due = time.Now().Add(left)
		}
	}
	ready := n.peers.dialledFirst(n.points.ready(speak))
	for _, s := range d.lacking() {
		asked := 0
		for _, p := range ready {
			if run.Err() != nil || ctx.Err() != nil {
				return due
			}
			key := lookupKey{p, s}
			l := known[key]
			if d.takeFresh(key) && l != nil {
				l.next = time.Time{}
			}
			if l == nil {
				if len(known) >= maxLookups {
					clear(known)
				}
				l = &lookup{began: time.Now(), pause: lookupPause}
				known[key] = l
			}
			if asked < lookupPoints && !time.Now().Before(l.next) {
				asked++
				news := d.askPoint(ctx, run, p, s, l, found)
				if news > 0 {
					l.pause = lookupPause
				}
				l.next = time.Now().Add(l.pause)
				l.pause = min(2*l.pause, longestLookupPause)
				if time.Since(l.began) < lookupEager {
					l.pause = min(l.pause, eagerPause)
				}
			}
			if due.IsZero() || l.next.Before(due) {
				due = l.next
			}
		}
	}
	return due
}

// askPoint asks one point about one shard, and returns how many it named that are news.
func (d *discovery) askPoint(ctx, run context.Context, p peer.ID, s sharding.Shard, l *lookup, found *int) (news int) {
	n := d.node
	asking, done := during(ctx, run)
	answer, err := n.rendezvous.Discover(noDial(asking), p, rendezvous.Namespace(s), rendezvous.DefaultPeers, l.cookie)
	done()
	if run.Err() != nil || ctx.Err() != nil {
		return 0
	}
	if err != nil && n.peers.get(p) == nil {
		return 0 // it left
	}
	var status *rendezvous.StatusError
	switch {
	case errors.As(err, &status):
		n.points.fail(p, err, status.RetryAfter)
	case err != nil:
		n.points.fail(p, err, 0)
	default:
		n.points.answered(p)
		l.cookie = answer.Cookie
	}
	for reason, count := range answer.Refused {
		if reason != rendezvous.RefusedSelf {
			d.refuse("rendezvous: "+reason, count)
		}
	}
	for _, one := range answer.Peers {
		sighting := peers.Sighting{
			Info: one.Info, Shards: n.setOf([]sharding.Shard{s}), Services: peers.Relay,
			Signed: true, Seq: one.Seq, Source: peers.Rendezvous, From: p.String(),
		}
		if n.nat == nil { // of no use here, ever
			sighting.Info.Addrs = slices.DeleteFunc(sighting.Info.Addrs, isCircuit)
		}
		if len(sighting.Info.Addrs) == 0 {
			d.refuse(refusedAddress, 1)
			continue
		}
		_, before := d.book.Known(one.Info.ID)
		d.book.Found(time.Now(), sighting)
		if _, after := d.book.Known(one.Info.ID); after && !before {
			news++
		}
	}
	*found += len(answer.Peers)
	if news > 0 {
		n.emit(Event{Kind: PeersFound, Peer: p, Shard: s, Count: news})
	}
	if len(answer.Peers) > 0 {
		d.changed()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", p, err)
	}
	d.note(sourceRendezvous, *found, err)
	return news
}

// noDial is for what is asked of those alone who are connected.
func noDial(ctx context.Context) context.Context { return network.WithNoDial(ctx, "rendezvous") }
