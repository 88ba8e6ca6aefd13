package store

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/wire"
)

// The reasons of an [AnswerError].
var (
	// ErrMalformed: it can't be read.
	ErrMalformed = wire.ErrMalformed
	// ErrWrongHash: a message isn't the one that its hash names.
	ErrWrongHash = errors.New("a message has another hash")
	// ErrNotAsked: a message doesn't belong to the question.
	ErrNotAsked = errors.New("a message was not asked for")
	// ErrOrder: messages don't ascend, within a page or from page to page, or
	// come twice.
	ErrOrder = errors.New("messages are out of order or doubled")
	// ErrTooMany: a page is longer than was asked for.
	ErrTooMany = errors.New("more messages than asked for")
	// ErrEndless: pages go on and bring nothing.
	ErrEndless = errors.New("the pages lead nowhere")
	// ErrUnverified: nothing but messages that Verify refuses.
	ErrUnverified = errors.New("too many messages in a row are not genuine")
)

// AnswerError says that a peer's answer isn't one to the question asked. An honest
// peer doesn't give such answers: leave it.
type AnswerError struct {
	Peer peer.ID
	// Err is, or wraps, one of the reasons above.
	Err error
}

// Error implements error.
func (e *AnswerError) Error() string { return fmt.Sprintf("store: answer of %s: %v", e.Peer, e.Err) }

// Unwrap returns Err.
func (e *AnswerError) Unwrap() error { return e.Err }

// The reasons of an [ExchangeError], beside those of the stream, the resource
// manager and the context.
var (
	// ErrUnsupported: the peer doesn't speak the protocol.
	ErrUnsupported = errors.New("the peer is no store")
	// ErrTooLarge: the answer is longer than the client reads, or than the
	// resource manager allows. A walk asks for fewer messages then.
	ErrTooLarge = errors.New("the answer is too long")
)

// ExchangeError says that a peer gave no answer.
type ExchangeError struct {
	Peer peer.ID
	Err  error
}

// Error implements error.
func (e *ExchangeError) Error() string { return fmt.Sprintf("store: asking %s: %v", e.Peer, e.Err) }

// Unwrap returns Err.
func (e *ExchangeError) Unwrap() error { return e.Err }
