package filter

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// StatusCode says in an answer how a request fared (12/WAKU2-FILTER). Codes from
// 200 to 299 are successes.
type StatusCode uint32

// The codes of the protocol. The second group is never on the wire: a client has
// them for what happened to it, in an [ExchangeError].
const (
	StatusOK                 StatusCode = 200
	StatusBadRequest         StatusCode = 400
	StatusNotFound           StatusCode = 404 // the peer has no subscription
	StatusTooManyRequests    StatusCode = 429
	StatusServiceUnavailable StatusCode = 503

	StatusBadResponse     StatusCode = 300 // the answer was none
	StatusPeerDialFailure StatusCode = 504 // there was no answer
)

// String returns the code's name in the specification, or its number.
func (c StatusCode) String() string {
	switch c {
	case StatusOK:
		return "OK"
	case StatusBadResponse:
		return "BAD_RESPONSE"
	case StatusBadRequest:
		return "BAD_REQUEST"
	case StatusNotFound:
		return "NOT_FOUND"
	case StatusTooManyRequests:
		return "TOO_MANY_REQUESTS"
	case StatusServiceUnavailable:
		return "SERVICE_UNAVAILABLE"
	case StatusPeerDialFailure:
		return "PEER_DIAL_FAILURE"
	}
	return fmt.Sprint(uint32(c))
}

func (c StatusCode) success() bool { return c >= 200 && c < 300 }

// What [StatusError] is, by errors.Is.
var (
	// ErrNotSubscribed is status 404: the peer knows of no subscription, or no
	// longer does.
	ErrNotSubscribed = errors.New("filter: not subscribed at the peer")
	// ErrTooMany is status 429. StatusError.RetryAfter says more.
	ErrTooMany = errors.New("filter: too many requests for the peer")
	// ErrUnavailable is status 503: no room for another subscriber, for more
	// topics, or no such shard. Somebody else may have it.
	ErrUnavailable = errors.New("filter: the peer has no room")
)

// StatusError is the answer of a peer that didn't do what it was asked for.
// errors.Is finds the sentinel of its code.
type StatusError struct {
	Peer peer.ID
	Code StatusCode
	// Desc is the peer's description: printable, at most 256 bytes.
	Desc string
	// RetryAfter is how long the peer asks to be left alone. Zero: it doesn't say.
	// Shoal's server does.
	RetryAfter time.Duration
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("filter: %s answers %d (%s)", e.Peer, uint32(e.Code), e.Desc)
}

// Is finds the sentinels that the code stands for.
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrNotSubscribed:
		return e.Code == StatusNotFound
	case ErrTooMany:
		return e.Code == StatusTooManyRequests
	case ErrUnavailable:
		return e.Code == StatusServiceUnavailable
	}
	return false
}

func newStatusError(p peer.ID, code StatusCode, desc string) *StatusError {
	desc = reqresp.Printable(desc)
	return &StatusError{Peer: p, Code: code, Desc: desc, RetryAfter: reqresp.RetryAfter(desc, maxRetryAfter)}
}

// maxRetryAfter bounds what a client believes.
const maxRetryAfter = time.Minute
