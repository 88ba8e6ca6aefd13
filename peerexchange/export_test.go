package peerexchange

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

var ParseRetryAfter = func(desc string) time.Duration { return reqresp.RetryAfter(desc, maxRetryAfter) }

// Remembered is how many records the server has judged and not forgotten.
func (s *Server) Remembered() int {
	s.fit.mu.Lock()
	defer s.fit.mu.Unlock()
	return len(s.fit.owners)
}

// MaxFit is how many they are at most.
const MaxFit = maxFit

// For fuzzing: the codecs without a stream.

// AppendRequest words a question, RequestOf reads one.
func AppendRequest(peers uint64) []byte            { return appendQuery(nil, peers) }
func RequestOf(b []byte) (peers uint64, err error) { return decodeRequest(b) }

// Response is a response taken apart.
type Response struct {
	Code    StatusCode
	Desc    string
	Records [][]byte
	More    int
}

// ResponseOf reads a response.
func ResponseOf(b []byte, limit int) (Response, error) {
	r, err := decodeResponse(b, limit)
	return Response{r.code, r.desc, r.records, r.more}, err
}

// AppendResponse words one.
func AppendResponse(r Response) []byte {
	return appendResponse(nil, response{code: r.Code, desc: r.Desc, records: r.Records})
}

// Check is what becomes of a response in an Answer.
func Check(r Response, n int, self peer.ID) Answer {
	return check(response{code: r.Code, records: r.Records, more: r.More}, n, self)
}
