package peerexchange

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

var ParseRetryAfter = func(desc string) time.Duration { return reqresp.RetryAfter(desc, maxRetryAfter) }

// Budget is the token bucket of each peer.
type Budget struct{ *budget }

// NewBudget returns one that tells so many peers apart.
func NewBudget(rate float64, burst, peers int) Budget {
	b := newBudget(rate, burst)
	b.limit = peers
	return Budget{b}
}

// Take takes n tokens and returns how many there were.
func (b Budget) Take(p peer.ID, n int, now time.Time) (taken int) {
	for range n {
		if _, ok := b.take(p, now, 0); ok {
			taken++
		}
	}
	return taken
}

// Refund and Hold are what a client does to its own.
func (b Budget) Refund(p peer.ID, now time.Time)                { b.refund(p, now) }
func (b Budget) Hold(p peer.ID, now time.Time, d time.Duration) { b.hold(p, now, d) }

// Len is how many peers are in the table.
func (b Budget) Len() int { return len(b.peers) }

// MaxPeers is how many peers a server, or a client, tells apart.
const MaxPeers = maxPeers

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
