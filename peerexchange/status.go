package peerexchange

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// StatusCode says in an answer how a question fared. The numbers are nwaku's.
type StatusCode uint32

// The codes of the protocol. Everything but StatusSuccess is a refusal.
const (
	StatusSuccess            StatusCode = 200
	StatusBadRequest         StatusCode = 400
	StatusBadResponse        StatusCode = 401 // nwaku's clients keep it to themselves
	StatusTooManyRequests    StatusCode = 429
	StatusServiceUnavailable StatusCode = 503
	StatusDialFailure        StatusCode = 599 // the same
)

// statuses are the codes with their names, and what errors.Is finds in them.
var statuses = [...]struct {
	code StatusCode
	name string
	is   error
}{
	{StatusSuccess, "SUCCESS", nil},
	{StatusBadRequest, "BAD_REQUEST", nil},
	{StatusBadResponse, "BAD_RESPONSE", nil},
	{StatusTooManyRequests, "TOO_MANY_REQUESTS", ErrTooManyRequests},
	{StatusServiceUnavailable, "SERVICE_UNAVAILABLE", ErrUnavailable},
	{StatusDialFailure, "DIAL_FAILURE", nil},
}

// index returns the code's place in statuses, or -1.
func (c StatusCode) index() int {
	for i := range statuses {
		if statuses[i].code == c {
			return i
		}
	}
	return -1
}

// String returns the code's name, or its number.
func (c StatusCode) String() string {
	if i := c.index(); i >= 0 {
		return statuses[i].name
	}
	return fmt.Sprint(uint32(c))
}

// What errors.Is finds in a [StatusError].
var (
	// ErrTooManyRequests: the peer is asked too often.
	ErrTooManyRequests = errors.New("peerexchange: too many requests")
	// ErrUnavailable: the peer has no peers to offer.
	ErrUnavailable = errors.New("peerexchange: the peer has no peers to offer")
)

// StatusError is the answer of a peer that gives no peers.
type StatusError struct {
	Peer peer.ID
	// Code is the peer's. An answer without a code and without peers has
	// StatusServiceUnavailable.
	Code StatusCode
	// Desc is the peer's description: printable, at most 256 bytes.
	Desc string
	// RetryAfter is how long the peer asks to be left alone, at most a minute.
	// Zero: it doesn't say. Shoal's server does where it helps.
	RetryAfter time.Duration
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("peerexchange: %s answers %d (%s)", e.Peer, uint32(e.Code), e.Desc)
}

// Is finds the sentinel that the code stands for.
func (e *StatusError) Is(target error) bool {
	i := e.Code.index()
	return i >= 0 && statuses[i].is != nil && statuses[i].is == target
}

func newStatusError(p peer.ID, code StatusCode, desc string) *StatusError {
	return &StatusError{Peer: p, Code: code, Desc: desc, RetryAfter: reqresp.RetryAfter(desc, maxRetryAfter)}
}

// words is what a peer is told who is refused.
func words(code StatusCode, reason string, wait time.Duration) string {
	desc := code.String()
	if reason != "" {
		desc += ": " + reqresp.Printable(reason)
	}
	return reqresp.WithRetryAfter(desc, wait)
}

// maxRetryAfter bounds what a client believes.
const maxRetryAfter = time.Minute
