package filter

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
)

// Contacts is how many peers the client knows something of.
func (c *Client) Contacts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.contacts)
}

// Handle answers a request without a stream.
func (s *Server) Handle(from peer.ID, b []byte) []byte {
	answer, _ := s.handle(context.Background(), from, b)
	return answer
}

// Consistent reports whether both sides of the table say the same.
func (s *Server) Consistent() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	in, of, cost := 0, 0, 0
	for pubsub, byContent := range s.table.groups {
		for content, g := range byContent {
			for i, u := range g.members {
				at, ok := u.held[pubsub][g]
				if !ok || at != i || s.table.subscribers[u.peer] != u {
					return false
				}
				cost += len(content) + 256
			}
			if in += len(g.members); len(g.members) == 0 {
				return false
			}
		}
	}
	for _, u := range s.table.subscribers {
		n := 0
		for _, held := range u.held {
			if n += len(held); len(held) == 0 {
				return false
			}
		}
		if of += n; n == 0 || n != u.criteria {
			return false
		}
	}
	return in == of && in == s.table.criteria && cost == s.table.cost
}

// The codec without a stream.

// Request is a FilterSubscribeRequest.
type Request struct {
	ID            string
	Kind          uint64
	PubsubTopic   string
	ContentTopics []string
}

// Append writes it.
func (r Request) Append() []byte {
	return request{id: r.ID, kind: kind(r.Kind), pubsubTopic: r.PubsubTopic, contentTopics: r.ContentTopics}.append(nil)
}

// RequestOf reads one and says what check makes of it.
func RequestOf(b []byte, maxTopics int) (r Request, tooMany bool, malformed, wrong error) {
	in, err := decodeRequest(b, maxTopics)
	if err == nil {
		wrong = in.check(maxTopics)
	}
	return Request{in.id, uint64(in.kind), in.pubsubTopic, in.contentTopics}, in.tooMany, err, wrong
}

// AppendResponse words an answer.
func AppendResponse(id string, code StatusCode, desc string) []byte {
	return response{id, code, desc}.append(nil)
}

// ResponseOf reads one.
func ResponseOf(b []byte) (id string, code StatusCode, desc string, err error) {
	r, err := decodeResponse(b)
	return r.id, r.code, r.desc, err
}

// Frame is a push with its length before it.
func Frame(pubsubTopic string, m *message.Message) []byte { return newFrame(pubsubTopic, m) }

// PushOf reads a push.
func PushOf(b []byte) (encoded []byte, pubsubTopic string, err error) {
	p, err := decodePush(b)
	return p.message, p.pubsubTopic, err
}
