package waku

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/filter"
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

// probes watch whether each service peer pushes what the others do.
type probes struct {
	byHash map[message.Hash]*deliveryProbe
	order  []*deliveryProbe // the oldest first
}

type deliveryProbe struct {
	hash  message.Hash
	topic string
	sent  int64 // the message's timestamp; 0: it has none
	at    moment
	from  map[peer.ID]bool
}

// note notes a push. A copy doesn't begin a probe: who brought the message in time
// needn't do so again.
func (s *probes) note(in filter.Push, now moment, news bool) {
	if p := s.byHash[in.Hash]; p != nil {
		p.from[in.From] = true
		return
	}
	if !news || len(s.order) >= maxProbes {
		return
	}
	if s.byHash == nil {
		s.byHash = map[message.Hash]*deliveryProbe{}
	}
	p := &deliveryProbe{
		hash: in.Hash, topic: in.Message.ContentTopic, sent: in.Message.Timestamp, at: now, from: map[peer.ID]bool{in.From: true},
	}
	s.byHash[in.Hash] = p
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

// probe judges links by what others pushed. mu is held.
func (l *lightShard) probe(now moment) {
	for p := l.probes.next(now.mono); p != nil; p = l.probes.next(now.mono) {
		var pushed, missing []*lightLink
		for _, k := range l.byAge() {
			switch {
			case p.from[k.peer]:
				pushed = append(pushed, k)
			case l.owes(k, p):
				missing = append(missing, k)
			}
		}
		l.judge(p.at, pushed, missing)
	}
}

// owes tells whether a link has to have pushed a message. What was published before
// it was asked needn't come by it, and may come by others as late as they are allowed
// to be, or, if they choose so, when they like.
func (l *lightShard) owes(k *lightLink, p *deliveryProbe) bool {
	asked, ok := k.have[p.topic]
	if !ok || k.judged > 0 || !asked.Add(probeAfter).Before(p.at.mono) {
		return false
	}
	return p.sent == 0 || l.shard.node.momentOf(asked).wall.UnixNano() <= p.sent
}
