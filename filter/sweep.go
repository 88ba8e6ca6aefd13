package filter

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// sweepInterval is how often subscribers are looked through.
	sweepInterval = 5 * time.Second
	// maxAway is how long one is kept without a connection.
	maxAway = 30 * time.Second
)

// sweep forgets subscribers who are gone, while there are any.
func (s *Server) sweep() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.rouse:
		case <-s.ctx.Done():
			return
		}
		gone, back, more := s.look()
		for u, reason := range gone {
			s.evicted(u, reason)
		}
		for _, u := range back {
			u.wake()
		}
		if !more {
			return
		}
	}
}

// look finds and forgets who is gone, finds who has come back, and says whether
// there are any left.
func (s *Server) look() (gone map[*subscriber]error, back []*subscriber, more bool) {
	now := s.cfg.Now()
	gone = make(map[*subscriber]error)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.table.subscribers {
		switch connected := s.connected(u); {
		case u.expired(now, s.cfg.Lifetime):
			gone[u] = ErrExpired
		case connected && !u.away.IsZero():
			u.away = time.Time{}
			back = append(back, u)
		case connected:
		case u.away.IsZero():
			u.away = now
		case now.Sub(u.away) >= maxAway:
			gone[u] = ErrDisconnected
		}
	}
	for u := range gone {
		s.table.forget(u)
	}
	more = len(s.table.subscribers) > 0
	s.sweeping = more
	return gone, back, more
}

func (s *Server) connected(u *subscriber) bool {
	switch s.host.Network().Connectedness(u.peer) {
	case network.Connected, network.Limited:
		return true
	}
	return false
}

// EvictAll forgets all subscribers, as when they had gone: no timer runs afterwards
// until somebody subscribes. Those who are still connected aren't told; they find
// out when they ask.
func (s *Server) EvictAll() {
	s.mu.Lock()
	all := s.table.all()
	for _, u := range all {
		s.table.forget(u)
	}
	if s.sweeping {
		select {
		case s.rouse <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	for _, u := range all {
		s.evicted(u, ErrDisconnected)
	}
}

// evict forgets a subscriber unless that has happened.
func (s *Server) evict(u *subscriber, reason error) {
	s.mu.Lock()
	current := s.table.subscribers[u.peer] == u
	if current {
		s.table.forget(u)
	}
	s.mu.Unlock()
	if current {
		s.evicted(u, reason)
	}
}

// evicted ends what goes on for a subscriber that the table has forgotten.
func (s *Server) evicted(u *subscriber, reason error) {
	u.end(reason)
	s.stats.evicted.Add(1)
	tell(s.cfg.OnEvict, u.peer, reason)
}
