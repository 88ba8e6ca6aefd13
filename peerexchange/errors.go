package peerexchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/wire"
)

// The reasons of an [ExchangeError], beside those of the stream, the resource
// manager and the context.
var (
	// ErrUnsupported: the peer doesn't speak the protocol.
	ErrUnsupported = errors.New("the peer offers no peer exchange")
	// ErrMalformed: what the peer answered is no answer. An honest peer gives no
	// such answers: leave it.
	ErrMalformed = wire.ErrMalformed
	// ErrTooLarge: the answer is longer than any answer to the question can be. It
	// wasn't read.
	ErrTooLarge = errors.New("the answer is too large")
)

// ExchangeError says that a peer gave no answer. go-waku gives none to one who asks
// too often.
type ExchangeError struct {
	Peer peer.ID
	Err  error
}

// Error implements error.
func (e *ExchangeError) Error() string {
	return fmt.Sprintf("peerexchange: asking %s: %v", e.Peer, e.Err)
}

// Unwrap returns Err.
func (e *ExchangeError) Unwrap() error { return e.Err }

// TurnError says that nothing was sent, since the peer can't be asked again before
// the context's deadline. It is context.DeadlineExceeded, only sooner.
type TurnError struct {
	Peer peer.ID
	// After is how long the question would have had to wait.
	After time.Duration
}

// Error implements error.
func (e *TurnError) Error() string {
	return fmt.Sprintf("peerexchange: asking %s: its turn comes in %v", e.Peer, e.After)
}

// Is lets errors.Is match context.DeadlineExceeded.
func (e *TurnError) Is(target error) bool { return target == context.DeadlineExceeded }
