package store

import ()

// SetMaxRun sets how many messages in a row a walk may drop.
func (c *Client) SetMaxRun(n int) { c.maxRun = n }

// For fuzzing: the codec without a stream.

// RequestOf reads a request and words it again.
func RequestOf(b []byte) (q Query, again []byte, err error) {
	r, err := decodeRequest(b)
	if err != nil {
		return Query{}, nil, err
	}
	q, err = r.query()
	return q, r.append(nil), err
}

// AppendRequest words a question.
func AppendRequest(id string, q Query) []byte { return newRequest(id, q).append(nil) }

// PageOf reads a response as an answer to q, which Check has passed.
func PageOf(b []byte, q Query) (Page, error) {
	r, err := decodeResponse(b, q.Limit)
	if err != nil {
		return Page{}, err
	}
	a, err := new(Client).check(q, r)
	if err != nil {
		return Page{}, err
	}
	entries, _ := a.genuine()
	return Page{Entries: entries, Cursor: a.cursor}, nil
}

// AppendResponse words an answer.
func AppendResponse(id string, code StatusCode, desc string, p Page) []byte {
	return appendResponse(nil, id, code, desc, p)
}

// Held is zero when nobody asks, waits or is being answered.
func (s *Server) Held() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.held + len(s.queue.holds) + s.queue.running + len(s.queue.list)
}

// Breathe replaces what there is between two turns. Nobody has asked yet.
func (s *Server) Breathe(f func()) { s.queue.breathe = f }
