package filter

// ServerStats counts what a server has done.
type ServerStats struct {
	// Answers by their status.
	OK, BadRequest, NotFound, TooManyRequests, Unavailable uint64
	// Failed counts the exchanges that came to nothing, and those refused for their
	// length or for want of memory.
	Failed uint64

	Subscribers int // now
	Criteria    int // now, of all subscribers
	Evicted     uint64

	Matched uint64 // messages for subscribers: one for two counts twice
	Sent    uint64 // pushes written, bytes by their frames; some may be sent twice
	Bytes   uint64
	Dropped uint64 // pushes given up, of those matched
}

// Stats returns what the server has done so far.
func (s *Server) Stats() ServerStats {
	s.mu.RLock()
	subscribers, criteria := len(s.table.subscribers), s.table.criteria
	s.mu.RUnlock()
	c := &s.stats
	return ServerStats{
		OK:              c.ok.Load(),
		BadRequest:      c.badRequest.Load(),
		NotFound:        c.notFound.Load(),
		TooManyRequests: c.tooMany.Load(),
		Unavailable:     c.unavailable.Load(),
		Failed:          c.failed.Load(),
		Subscribers:     subscribers,
		Criteria:        criteria,
		Evicted:         c.evicted.Load(),
		Matched:         c.matched.Load(),
		Sent:            c.sent.Load(),
		Bytes:           c.bytes.Load(),
		Dropped:         c.dropped.Load(),
	}
}
