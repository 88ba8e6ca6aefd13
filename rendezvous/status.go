package rendezvous

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// StatusCode says in a response how a request fared.
type StatusCode uint32

// The codes of the protocol. Everything but StatusOK is a refusal.
const (
	StatusOK                      StatusCode = 0
	StatusInvalidNamespace        StatusCode = 100
	StatusInvalidSignedPeerRecord StatusCode = 101
	StatusInvalidTTL              StatusCode = 102
	StatusInvalidCookie           StatusCode = 103
	StatusNotAuthorized           StatusCode = 200
	StatusInternalError           StatusCode = 300
	StatusUnavailable             StatusCode = 400
)

// statuses are the codes with their names, and what errors.Is finds in them.
var statuses = [...]struct {
	code StatusCode
	name string
	is   error
}{
	{StatusOK, "OK", nil},
	{StatusInvalidNamespace, "E_INVALID_NAMESPACE", ErrInvalidNamespace},
	{StatusInvalidSignedPeerRecord, "E_INVALID_SIGNED_PEER_RECORD", ErrInvalidRecord},
	{StatusInvalidTTL, "E_INVALID_TTL", ErrInvalidTTL},
	{StatusInvalidCookie, "E_INVALID_COOKIE", nil},
	{StatusNotAuthorized, "E_NOT_AUTHORIZED", ErrNotAuthorized},
	{StatusInternalError, "E_INTERNAL_ERROR", nil},
	{StatusUnavailable, "E_UNAVAILABLE", ErrUnavailable},
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
	// ErrInvalidNamespace: the point doesn't serve the namespace.
	ErrInvalidNamespace = errors.New("rendezvous: namespace not served")
	// ErrInvalidRecord: the point doesn't take the record.
	ErrInvalidRecord = errors.New("rendezvous: record not accepted")
	// ErrInvalidTTL: the point wants another time to live.
	ErrInvalidTTL = errors.New("rendezvous: TTL not accepted")
	// ErrNotAuthorized: the point doesn't want us.
	ErrNotAuthorized = errors.New("rendezvous: not authorized")
	// ErrUnavailable: the point is asked too often, or is full.
	ErrUnavailable = errors.New("rendezvous: the point is busy or full")
)

// StatusError is the answer of a point that refuses.
type StatusError struct {
	Peer peer.ID
	// Code is the point's.
	Code StatusCode
	// Desc is the point's description: printable, at most 256 bytes.
	Desc string
	// RetryAfter is how long the point asks to be left alone, at most an hour.
	// Zero: it doesn't say. Shoal's point does where it helps.
	RetryAfter time.Duration
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("rendezvous: %s answers %d (%s)", e.Peer, uint32(e.Code), e.Desc)
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
const maxRetryAfter = time.Hour
