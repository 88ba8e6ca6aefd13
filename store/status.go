package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// StatusCode says in an answer how a question fared (13/WAKU2-STORE). Codes from
// 200 to 299 are successes.
type StatusCode uint32

// The codes of the protocol.
const (
	StatusUnknown            StatusCode = 0
	StatusSuccess            StatusCode = 200
	StatusBadResponse        StatusCode = 300 // the store failed, or doesn't know the cursor
	StatusBadRequest         StatusCode = 400
	StatusTooManyRequests    StatusCode = 429
	StatusServiceUnavailable StatusCode = 503
)

// String returns the code's name in the specification, or its number.
func (c StatusCode) String() string {
	switch c {
	case StatusUnknown:
		return "UNKNOWN"
	case StatusSuccess:
		return "SUCCESS"
	case StatusBadResponse:
		return "BAD_RESPONSE"
	case StatusBadRequest:
		return "BAD_REQUEST"
	case StatusTooManyRequests:
		return "TOO_MANY_REQUESTS"
	case StatusServiceUnavailable:
		return "SERVICE_UNAVAILABLE"
	}
	return fmt.Sprint(uint32(c))
}

func (c StatusCode) success() bool { return c >= 200 && c < 300 }

// StatusError is the answer of a peer that didn't give what it was asked for.
// errors.Is finds [ErrUnavailable] in one with StatusServiceUnavailable, and
// [ErrUnknownCursor] in one with StatusBadResponse that speaks of the cursor.
type StatusError struct {
	Peer peer.ID
	Code StatusCode
	// Desc is the peer's description: printable, at most 256 bytes.
	Desc string
	// RetryAfter is how long the peer asks to be left alone. Zero: it doesn't
	// say. Shoal's server does.
	RetryAfter time.Duration
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("store: %s answers %d (%s)", e.Peer, uint32(e.Code), e.Desc)
}

// Is finds the sentinels that the code stands for.
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrUnavailable:
		return e.Code == StatusServiceUnavailable
	case ErrUnknownCursor:
		return e.Code == StatusBadResponse && strings.Contains(strings.ToLower(e.Desc), "cursor")
	}
	return false
}

func newStatusError(p peer.ID, code StatusCode, desc string) *StatusError {
	desc = reqresp.Printable(desc)
	return &StatusError{Peer: p, Code: code, Desc: desc, RetryAfter: reqresp.RetryAfter(desc, maxRetryAfter)}
}

// maxRetryAfter bounds what a client believes.
const maxRetryAfter = time.Minute

// describe is what a server tells about an error.
func describe(err error) (StatusCode, string) {
	var q *QueryError
	switch {
	case errors.As(err, &q):
		return StatusBadRequest, "BAD_REQUEST: " + q.Field + " " + q.Reason
	case errors.Is(err, ErrMalformed):
		return StatusBadRequest, "BAD_REQUEST: " + err.Error()
	case errors.Is(err, ErrUnknownCursor):
		return StatusBadResponse, "BAD_RESPONSE: cursor not found"
	}
	return StatusServiceUnavailable, "SERVICE_UNAVAILABLE"
}
