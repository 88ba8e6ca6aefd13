package lightpush

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
	// ErrUnsupported: the peer speaks neither version.
	ErrUnsupported = errors.New("the peer takes no pushes")
	// ErrMalformed: what the peer answered isn't an answer to the request. An
	// honest peer gives no such answers: leave it.
	ErrMalformed = wire.ErrMalformed
)

// ExchangeError says that a peer gave no answer. Whether it relayed the message is
// not known, unless Err is ErrUnsupported.
type ExchangeError struct {
	Peer peer.ID
	Err  error
}

// Error implements error.
func (e *ExchangeError) Error() string {
	return fmt.Sprintf("lightpush: pushing to %s: %v", e.Peer, e.Err)
}

// Unwrap returns Err.
func (e *ExchangeError) Unwrap() error { return e.Err }

// TurnError says that nothing was sent, since it wouldn't be the push's turn at this
// peer before its context's deadline. It is context.DeadlineExceeded, only sooner.
type TurnError struct {
	Peer peer.ID
	// After is how long the push would have had to wait.
	After time.Duration
}

// Error implements error.
func (e *TurnError) Error() string {
	return fmt.Sprintf("lightpush: pushing to %s: its turn comes in %v", e.Peer, e.After)
}

// Is lets errors.Is match context.DeadlineExceeded.
func (e *TurnError) Is(target error) bool { return target == context.DeadlineExceeded }
