package waku

import (
	"slices"
	"time"

	"github.com/status-im/shoal/internal/peers"
)

const (
	// A light member wants one service peer more than push to it at a time, and one
	// to publish by when another doesn't answer.
	filterPeersWanted = lightPeers + 1
	pushPeersWanted   = 2
	// enoughRelays peers are enough for a mesh and for gossip beside it, and fewRelays are
	// too few, unless the profile says otherwise.
	enoughRelays = 8
	fewRelays    = 4
	// scarceAfter is how long peers have been too few when those are looked for who
	// might know others.
	scarceAfter = 3 * time.Second
)

// needs are the peers that the joined shards take to be well.
func (d *discovery) needs() []peers.Need {
	n := d.node
	p := n.cfg.profile
	var needs []peers.Need
	light := false
	for _, s := range n.shards.joined() {
		if s.isLight() {
			light = true
			needs = append(needs, lightNeeds(s)...)
		} else {
			// Gossip makes good what a lean mesh leaves out, and takes peers outside it.
			target := max(p.D+p.D/3, min(p.D+p.DLazy, enoughRelays))
			needs = append(needs, peers.Need{
				Shard: s.shard, Service: peers.Relay, Min: max(p.DLow, min(target/2, fewRelays)), Target: target, Outbound: max(p.DOut, target/3),
			})
			if s.seeksLight() {
				needs = append(needs, lightNeeds(s)...)
			}
		}
		needs = append(needs, peers.Need{Shard: s.shard, Service: peers.Store, Min: 0, Target: 1})
	}
	if len(needs) > 0 && d.isScarce() && (light || !d.walking.Load()) {
		// Somebody to ask for others, whatever it carries: records don't tell, so
		// others are dialled for it only in need.
		needs = append(needs, peers.Need{AnyShard: true, Service: peers.PeerExchange, Target: 1})
	}
	return needs
}

// isScarce tells whether there are fewer peers than must be, and not only for a moment.
func (d *discovery) isScarce() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.scarce.IsZero() && time.Since(d.scarce) >= scarceAfter
}

// noteScarce notes since when peers are too few, and returns when that begins to count;
// zero: it does already, or they aren't. mu is held.
func (d *discovery) noteScarce(now time.Time) time.Time {
	if !slices.ContainsFunc(d.missing, func(m peers.Missing) bool { return m.Have < m.Min }) {
		d.scarce = time.Time{}
		return time.Time{}
	}
	if d.scarce.IsZero() {
		d.scarce = now
	}
	if due := d.scarce.Add(scarceAfter); due.After(now) {
		return due
	}
	return time.Time{}
}
