package rendezvous

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
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
	return &StatusError{Peer: p, Code: code, Desc: desc, RetryAfter: parseRetryAfter(desc)}
}

// maxDesc is how much of a point's words is kept, in bytes.
const maxDesc = 256

// printable makes a stranger's words fit for a log line.
func printable(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxDesc)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// words is what a peer is told who is refused.
func words(code StatusCode, reason string, wait time.Duration) string {
	desc := code.String()
	if reason != "" {
		desc += ": " + printable(reason)
	}
	if wait <= 0 {
		return desc
	}
	return fmt.Sprintf("%s, %s%v", desc, retryAfter, max(wait.Round(time.Millisecond), time.Millisecond))
}

// Descriptions are free text, and the only place where a point can say when to come
// back. Ours ends in these words and a duration, "retry after 250ms".
const retryAfter = "retry after "

// maxRetryAfter bounds what a client believes.
const maxRetryAfter = time.Hour

func parseRetryAfter(desc string) time.Duration {
	i := strings.LastIndex(desc, retryAfter)
	if i < 0 {
		return 0
	}
	d, err := time.ParseDuration(strings.TrimSpace(desc[i+len(retryAfter):]))
	if err != nil {
		return 0
	}
	return min(max(d, 0), maxRetryAfter)
}
