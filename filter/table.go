package filter

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// table is who wants what; Server.mu guards it. What is looked up for a message is
// the group of those who want it, whoever else there is.
type table struct {
	subscribers map[peer.ID]*subscriber
	groups      map[string]map[string]*group // by pubsub and content topic
	criteria    int                          // of all subscribers
	cost        int                          // theirs, in bytes, about
}

// group is those who want one content topic on one shard.
type group struct {
	pubsub, content string
	members         []*subscriber
}

// wants is what a subscriber wants on one shard, and where in each group it is.
type wants map[*group]int

func newTable() table {
	return table{subscribers: make(map[peer.ID]*subscriber), groups: make(map[string]map[string]*group)}
}

func (t *table) all() []*subscriber {
	all := make([]*subscriber, 0, len(t.subscribers))
	for _, u := range t.subscribers {
		all = append(all, u)
	}
	return all
}

// group returns nil if nobody wants that.
func (t *table) group(pubsub, content string) *group { return t.groups[pubsub][content] }

// cost of a criterion: its text, and what the maps take.
func cost(content string) int { return len(content) + 256 }

// missing returns how many of the content topics u doesn't hold yet, and what they
// cost, each counted once.
func (t *table) missing(u *subscriber, pubsub string, topics []string) (n, bytes int) {
	seen := make(map[string]bool, len(topics))
	for _, content := range topics {
		if seen[content] {
			continue
		}
		seen[content] = true
		if u != nil {
			if g := t.group(pubsub, content); g != nil {
				if _, held := u.held[pubsub][g]; held {
					continue
				}
			}
		}
		n++
		bytes += cost(content)
	}
	return n, bytes
}

// add lets u hold content topics.
func (t *table) add(u *subscriber, pubsub string, topics []string) {
	t.subscribers[u.peer] = u
	byContent := t.groups[pubsub]
	if byContent == nil {
		byContent = make(map[string]*group)
		t.groups[pubsub] = byContent
	}
	held := u.held[pubsub]
	if held == nil {
		held = make(wants)
		u.held[pubsub] = held
	}
	for _, content := range topics {
		g := byContent[content]
		if g == nil {
			g = &group{pubsub: pubsub, content: content}
			byContent[content] = g
		}
		if _, ok := held[g]; ok {
			continue
		}
		held[g] = len(g.members)
		g.members = append(g.members, u)
		u.criteria++
		t.criteria++
		t.cost += cost(content)
	}
}

// remove lets u hold no more of a group.
func (t *table) remove(u *subscriber, g *group) {
	held := u.held[g.pubsub]
	at, ok := held[g]
	if !ok {
		return
	}
	last := len(g.members) - 1
	moved := g.members[last]
	g.members[at], g.members[last] = moved, nil
	g.members = g.members[:last]
	moved.held[g.pubsub][g] = at
	delete(held, g) // also if u was the one moved
	if len(held) == 0 {
		delete(u.held, g.pubsub)
	}
	if last == 0 {
		delete(t.groups[g.pubsub], g.content)
		if len(t.groups[g.pubsub]) == 0 {
			delete(t.groups, g.pubsub)
		}
	}
	u.criteria--
	t.criteria--
	t.cost -= cost(g.content)
}

// forget removes u altogether.
func (t *table) forget(u *subscriber) {
	for _, held := range u.held {
		for g := range held {
			t.remove(u, g)
		}
	}
	delete(t.subscribers, u.peer)
}

// maxCost bounds what all subscribers together make us remember, in bytes.
const maxCost = 256 << 20

// do does what a request asks for and says how it fared.
func (s *Server) do(from peer.ID, r request) (StatusCode, string) {
	if r.kind == subscribe && s.cfg.Carries != nil && !s.cfg.Carries(r.pubsubTopic) {
		return StatusServiceUnavailable, "SERVICE_UNAVAILABLE: no messages of that shard here"
	}
	now := s.cfg.Now()
	s.mu.Lock()
	u, over := s.current(from, now)
	code, desc := StatusNotFound, "NOT_FOUND: peer has no subscriptions"
	var done *subscriber // who has nothing any more
	switch {
	case s.closed:
		code, desc = StatusServiceUnavailable, "SERVICE_UNAVAILABLE"
	case r.kind == subscribe:
		code, desc = s.subscribe(&u, from, r)
	case r.kind == unsubscribe && u != nil && len(u.held[r.pubsubTopic]) > 0:
		code, desc = StatusOK, "OK"
		for _, content := range r.contentTopics {
			if g := s.table.group(r.pubsubTopic, content); g != nil {
				s.table.remove(u, g)
			}
		}
		if u.criteria == 0 {
			done = u
		}
	case r.kind == unsubscribeAll && u != nil:
		code, desc = StatusOK, "OK"
		done = u
	case r.kind == ping && u != nil:
		code, desc = StatusOK, "OK"
	}
	if done != nil {
		s.table.forget(done)
	} else if code == StatusOK {
		u.seen, u.away = now, time.Time{}
	}
	s.mu.Unlock()

	switch {
	case over != nil:
		s.evicted(over, ErrExpired)
	case done != nil:
		done.end(nil)
	case code == StatusOK:
		u.wake()
	}
	return code, desc
}

// current returns the peer's subscription, and the one that is over: the clock may
// be ahead of the next sweep. s.mu is held.
func (s *Server) current(p peer.ID, now time.Time) (u, over *subscriber) {
	u = s.table.subscribers[p]
	if u == nil || !u.expired(now, s.cfg.Lifetime) {
		return u, nil
	}
	s.table.forget(u)
	return nil, u
}

// subscribe adds to *u, who may be new, if there is room. s.mu is held.
func (s *Server) subscribe(u **subscriber, from peer.ID, r request) (StatusCode, string) {
	held := 0
	if *u != nil {
		held = (*u).criteria
	} else if len(s.table.subscribers) >= s.cfg.MaxSubscribers {
		return StatusServiceUnavailable, "SERVICE_UNAVAILABLE: node has reached maximum number of subscribers"
	}
	n, bytes := s.table.missing(*u, r.pubsubTopic, r.contentTopics)
	switch {
	case held+n > s.cfg.MaxCriteria:
		return StatusServiceUnavailable, "SERVICE_UNAVAILABLE: peer has reached maximum number of content topics"
	case s.table.cost+bytes > maxCost:
		return StatusServiceUnavailable, "SERVICE_UNAVAILABLE: node has reached maximum number of content topics"
	}
	if *u == nil {
		*u = newSubscriber(s, from)
	}
	s.table.add(*u, r.pubsubTopic, r.contentTopics)
	if !s.sweeping {
		s.sweeping = true
		s.wg.Go(s.sweep)
	}
	return StatusOK, "OK"
}
