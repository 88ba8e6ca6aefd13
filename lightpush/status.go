package lightpush

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// StatusCode says in an answer how a push fared. The numbers are nwaku's, where
// they differ from the specification's.
type StatusCode uint32

// The codes of the protocol. Everything but StatusSuccess is a refusal.
const (
	StatusSuccess                StatusCode = 200
	StatusBadRequest             StatusCode = 400
	StatusPayloadTooLarge        StatusCode = 413
	StatusInvalidMessage         StatusCode = 420
	StatusUnsupportedPubsubTopic StatusCode = 421
	StatusTooManyRequests        StatusCode = 429
	StatusInternalServerError    StatusCode = 500
	StatusServiceNotAvailable    StatusCode = 503
	StatusOutOfRLNProof          StatusCode = 504
	StatusNoPeersToRelay         StatusCode = 505
)

// statuses are the codes with their names, and what errors.Is finds in them.
var statuses = [...]struct {
	code StatusCode
	name string
	is   error
}{
	{StatusSuccess, "SUCCESS", nil},
	{StatusBadRequest, "BAD_REQUEST", nil},
	{StatusPayloadTooLarge, "PAYLOAD_TOO_LARGE", ErrPayloadTooLarge},
	{StatusInvalidMessage, "INVALID_MESSAGE", ErrInvalidMessage},
	{StatusUnsupportedPubsubTopic, "UNSUPPORTED_PUBSUB_TOPIC", ErrUnsupportedShard},
	{StatusTooManyRequests, "TOO_MANY_REQUESTS", ErrTooManyRequests},
	{StatusInternalServerError, "INTERNAL_SERVER_ERROR", nil},
	{StatusServiceNotAvailable, "SERVICE_NOT_AVAILABLE", ErrUnavailable},
	{StatusOutOfRLNProof, "OUT_OF_RLN_PROOF", nil},
	{StatusNoPeersToRelay, "NO_PEERS_TO_RELAY", ErrNoPeersToRelay},
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

// codeNamed is the inverse of String.
func codeNamed(name string) (StatusCode, bool) {
	for _, s := range statuses {
		if s.name == name {
			return s.code, true
		}
	}
	return 0, false
}

// What errors.Is finds in a [StatusError].
var (
	// ErrPayloadTooLarge: the message is larger than the service takes.
	ErrPayloadTooLarge = errors.New("lightpush: the message is too large for the service")
	// ErrInvalidMessage: the service's validators don't accept the message, and
	// others' wouldn't either.
	ErrInvalidMessage = errors.New("lightpush: the message isn't valid")
	// ErrUnsupportedShard: the service isn't on the message's shard.
	ErrUnsupportedShard = errors.New("lightpush: the service isn't on the shard")
	// ErrTooManyRequests: the service is asked too often.
	ErrTooManyRequests = errors.New("lightpush: too many requests")
	// ErrUnavailable: the service is busy.
	ErrUnavailable = errors.New("lightpush: the service is busy")
	// ErrNoPeersToRelay: the service has nobody to relay to, or, if it is nwaku,
	// has relayed the message before: right after a success elsewhere it means
	// nothing.
	ErrNoPeersToRelay = errors.New("lightpush: the service relayed the message to nobody")
)

// StatusError is the answer of a peer that didn't relay a message.
type StatusError struct {
	Peer peer.ID
	// Code is the peer's. In version 2, which has none, it is what the description
	// amounts to, and StatusInternalServerError when that is unclear.
	Code StatusCode
	// Desc is the peer's description: printable, at most 256 bytes.
	Desc string
	// RetryAfter is how long the peer asks to be left alone, at most a minute.
	// Zero: it doesn't say. Shoal's server does where it helps.
	RetryAfter time.Duration
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("lightpush: %s answers %d (%s)", e.Peer, uint32(e.Code), e.Desc)
}

// Temporary reports whether the same bytes may be welcome elsewhere, or here later.
// If not, every service would refuse them.
func (e *StatusError) Temporary() bool {
	return e.Code >= 500 || e.Code == StatusUnsupportedPubsubTopic || e.Code == StatusTooManyRequests
}

// Is finds the sentinel that the code stands for.
func (e *StatusError) Is(target error) bool {
	i := e.Code.index()
	return i >= 0 && statuses[i].is != nil && statuses[i].is == target
}

func newStatusError(p peer.ID, code StatusCode, desc string) *StatusError {
	desc = reqresp.Printable(desc)
	return &StatusError{Peer: p, Code: code, Desc: desc, RetryAfter: reqresp.RetryAfter(desc, maxRetryAfter)}
}

// RefusedError is how a [Relayer] says why it doesn't relay a message.
type RefusedError struct {
	// Code is what the peer is told. One that isn't a refusal of this protocol
	// becomes StatusInternalServerError.
	Code StatusCode
	// Desc is the reason in plain words, for the peer to read: at most 200 bytes
	// are sent. The code's name is put before it.
	Desc string
	// RetryAfter, if positive, is when the peer may try again.
	RetryAfter time.Duration
}

// Refuse returns a [*RefusedError].
func Refuse(code StatusCode, desc string) error { return &RefusedError{Code: code, Desc: desc} }

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("lightpush: refused with %d (%s)", uint32(e.Code), e.Desc)
}

// words is what a peer is told.
func (e *RefusedError) words() string {
	desc := e.Code.String()
	if e.Desc != "" {
		desc += ": " + reqresp.Printable(e.Desc[:min(len(e.Desc), maxReason)])
	}
	return reqresp.WithRetryAfter(desc, e.RetryAfter)
}

// maxReason leaves room in a description for what words adds.
const maxReason = 200

// maxRetryAfter bounds what a client believes.
const maxRetryAfter = time.Minute

// legacyWords are what other services write in version 2, in lower case, and the
// codes that version 3 has for it. The first that is found counts.
var legacyWords = []struct {
	words string
	code  StatusCode
}{
	{"too_many_requests", StatusTooManyRequests},
	{"too many requests", StatusTooManyRequests},
	{"rate limit", StatusTooManyRequests}, // go-waku: exceeds the rate limit
	{"not_published_to_any_peer", StatusNoPeersToRelay},
	{"not enough peers", StatusNoPeersToRelay},
	{"message size exceed", StatusPayloadTooLarge},
	{"unsubscribed topic", StatusUnsupportedPubsubTopic},
	{"generate rln proof", StatusOutOfRLNProof},
	{"generate an rln proof", StatusOutOfRLNProof},
	{"validation failed", StatusInvalidMessage},
	{"validation ignored", StatusInvalidMessage},
	{"decode_rpc_failure", StatusBadRequest},
	{"empty_request_body_failure", StatusBadRequest},
	{"invalid request", StatusBadRequest},
}

// legacyCode is the code of a refusal in version 2.
func legacyCode(info string) StatusCode {
	name := info
	if i := strings.IndexAny(info, ":,"); i >= 0 {
		name = info[:i]
	}
	if code, ok := codeNamed(name); ok && code != StatusSuccess {
		return code // it is one of us
	}
	info = strings.ToLower(info)
	i := slices.IndexFunc(legacyWords, func(w struct {
		words string
		code  StatusCode
	}) bool {
		return strings.Contains(info, w.words)
	})
	if i < 0 {
		return StatusInternalServerError
	}
	return legacyWords[i].code
}
