package filter

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/wire"
)

var (
	// ErrTopics is the error of a request whose content topics are none, empty,
	// not UTF-8 or longer than MaxTopicLen. Nothing was sent.
	ErrTopics = errors.New("filter: a request needs content topics, each of 1 to 1024 bytes of UTF-8")
	// ErrMalformed is wrapped by the error of what can't be read.
	ErrMalformed = wire.ErrMalformed
	// ErrUnsupported is the reason of an ExchangeError when the peer has no such
	// service, and of an eviction when the subscriber takes no pushes.
	ErrUnsupported = errors.New("the peer doesn't speak the protocol")
)

// ExchangeError says that a request got no answer, or what can't be one.
type ExchangeError struct {
	Peer peer.ID
	// Code is StatusBadResponse for an answer that is none, and
	// StatusPeerDialFailure when there was no answer at all.
	Code StatusCode
	// Err is ErrUnsupported, ErrMalformed or what else there is to know.
	Err error
}

// Error implements error.
func (e *ExchangeError) Error() string { return fmt.Sprintf("filter: asking %s: %v", e.Peer, e.Err) }

// Unwrap returns Err.
func (e *ExchangeError) Unwrap() error { return e.Err }

// What a client's OnFailure is told, beside the errors of streams and packages. What
// is wrong with pushes, but doesn't end the stream, is told once for each stream.
var (
	// ErrNotAsked: a push that nobody asked for. Right after unsubscribing that is
	// nobody's fault.
	ErrNotAsked = errors.New("filter: a push that wasn't asked for")
	// ErrBusy: the peer holds more push streams open than it may.
	ErrBusy = errors.New("filter: too many push streams")
	// ErrSilent: a stream was opened, or a push begun, and no more came.
	ErrSilent = errors.New("filter: a push that didn't come to its end")
)

// Why a server forgets a subscriber who didn't ask for it.
var (
	// ErrExpired: no request for as long as ServerConfig.Lifetime.
	ErrExpired = errors.New("filter: the subscriber hasn't been heard of")
	// ErrDisconnected: no connection for half a minute.
	ErrDisconnected = errors.New("filter: the subscriber is disconnected")
	// ErrSlow: a push wasn't taken within ServerConfig.PushTimeout.
	ErrSlow = errors.New("filter: the subscriber doesn't read")
	// ErrRefused: pushes failed one after the other, ServerConfig.Failures times.
	ErrRefused = errors.New("filter: the subscriber refuses pushes")
)

// OverflowError is what a server's OnFailure is told when a subscriber's queue was
// full and the oldest messages in it were dropped.
type OverflowError struct {
	Dropped uint64 // messages, since told last
}

// Error implements error.
func (e *OverflowError) Error() string {
	return fmt.Sprintf("filter: %d messages dropped for a slow subscriber", e.Dropped)
}

// PanicError is what OnFailure is told when another of the callbacks panicked.
type PanicError struct {
	Value any // what it panicked with
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("filter: callback panicked: %v", e.Value) }

// tell calls a callback that may be nil and may panic.
func tell(f func(peer.ID, error), p peer.ID, err error) {
	if f == nil {
		return
	}
	defer func() { _ = recover() }()
	f(p, err)
}
