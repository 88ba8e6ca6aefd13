package lightpush

import (
	"time"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/message"
)

var (
	LegacyCode      = legacyCode
	ParseRetryAfter = func(desc string) time.Duration { return reqresp.RetryAfter(desc, maxRetryAfter) }
)

// Lanes is how many peers a client remembers.
func (c *Client) Lanes() int {
	c.lanes.mu.Lock()
	defer c.lanes.mu.Unlock()
	return len(c.lanes.peers)
}

// For fuzzing: the codecs without a stream.

func versionOf(number int) *version {
	if number == legacy.number {
		return legacy
	}
	return current
}

// Request is a request taken apart.
type Request struct {
	ID, Topic string
	HasTopic  bool
	Message   []byte
}

// RequestOf reads a request.
func RequestOf(version int, b []byte) (Request, error) {
	r, err := versionOf(version).decodeRequest(b)
	return Request{r.id, r.topic, r.hasTopic, r.message}, err
}

// AppendRequest words a push.
func AppendRequest(version int, id, topic string, m *message.Message) []byte {
	return versionOf(version).appendRequest(nil, id, topic, m)
}

// Response is a response taken apart.
type Response struct {
	ID    string
	Code  StatusCode
	Desc  string
	Peers int
}

// ResponseOf reads a response.
func ResponseOf(version int, b []byte) (Response, error) {
	r, err := versionOf(version).decodeResponse(b)
	return Response{r.id, r.code, r.desc, r.peers}, err
}

// AppendResponse words an answer.
func AppendResponse(version int, r Response) []byte {
	return versionOf(version).appendResponse(nil, response{id: r.ID, code: r.Code, desc: r.Desc, peers: r.Peers})
}
