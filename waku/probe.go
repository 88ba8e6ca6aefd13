package waku

import (
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
)

const (
	// probeAfter is how long service peers have to push what one of them has
	// pushed.
	probeAfter = 6 * time.Second
	// probeEvery is how often at most is looked who hasn't.
	probeEvery = time.Second
	// maxProbes is how many messages are watched at once; of more, none.
	maxProbes = 4096
)

// errSilent ends a link to a peer that answers pings and doesn't push.
var errSilent = errors.New("it didn't push what another service peer did")

// probes watch whether each service peer pushes what the others do.
type probes struct {
	byHash map[message.Hash]*deliveryProbe
	order  []*deliveryProbe // the oldest first
}

type deliveryProbe struct {
	hash  message.Hash
	topic string
	at    moment
	from  map[peer.ID]bool
}

// note notes a push. A copy doesn't begin a probe: who brought the message in time
// needn't do so again.
func (s *probes) note(h message.Hash, topic string, from peer.ID, now moment, news bool) {
	if p := s.byHash[h]; p != nil {
		p.from[from] = true
		return
	}
	if !news || len(s.order) >= maxProbes {
		return
	}
	if s.byHash == nil {
		s.byHash = map[message.Hash]*deliveryProbe{}
	}
	p := &deliveryProbe{hash: h, topic: topic, at: now, from: map[peer.ID]bool{from: true}}
	s.byHash[h] = p
	s.order = append(s.order, p)
}

// due is when the oldest is to be judged.
func (s *probes) due() (time.Time, bool) {
	if len(s.order) == 0 {
		return time.Time{}, false
	}
	return s.order[0].at.mono.Add(probeAfter), true
}

// next returns the oldest that can be judged.
func (s *probes) next(now time.Time) *deliveryProbe {
	if at, ok := s.due(); !ok || at.After(now) {
		return nil
	}
	p := s.order[0]
	s.order[0] = nil
	s.order = s.order[1:]
	delete(s.byHash, p.hash)
	return p
}

// forget takes out what one peer alone has pushed: nobody else has to have it.
func (s *probes) forget(p peer.ID) {
	for _, x := range s.order {
		delete(x.from, p)
	}
}

// probe finds links that didn't push what others did. mu is held.
func (l *lightShard) probe(now time.Time) {
	for p := l.probes.next(now); p != nil; p = l.probes.next(now) {
		if len(p.from) == 0 {
			continue
		}
		for id, k := range l.links {
			if p.from[id] {
				l.rests().pushed(id)
			}
			// What was published before it was asked needn't come by it, and may
			// come by others as late as they are allowed to be.
			if asked, ok := k.have[p.topic]; !ok || p.from[id] || k.err != nil || k.judged > 0 || !asked.Add(probeAfter).Before(p.at.mono) {
				continue
			}
			if k.proof.mono.After(p.at.mono) {
				k.proof = p.at
			}
			l.rests().fail(id, errSilent, 0)
			l.shard.node.cfg.logger.Info("service peer replaced", "shard", l.shard.shard, "peer", id, "reason", errSilent)
			l.end(k, errSilent)
		}
	}
}
