package rendezvous

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/wire"
)

// The reasons of an [ExchangeError], beside those of the stream, the resource
// manager and the context.
var (
	// ErrUnsupported: the peer doesn't speak the protocol.
	ErrUnsupported = errors.New("the peer is no rendezvous point")
	// ErrMalformed: what the peer answered is no answer. An honest peer gives no
	// such answers: leave it.
	ErrMalformed = wire.ErrMalformed
	// ErrTooLarge: the answer is longer than any answer to the question can be. It
	// wasn't read.
	ErrTooLarge = errors.New("the answer is too large")
)

// What is refused before anything is sent.
var (
	// ErrNamespace: the namespace is empty, too long, or no text.
	ErrNamespace = errors.New("rendezvous: no namespace")
	// ErrNoAddress: there is no address to register.
	ErrNoAddress = errors.New("rendezvous: no address to register")
	// ErrNoKey: the host doesn't hold its private key, without which it can't sign.
	ErrNoKey = errors.New("rendezvous: the host has no private key")
)

// ExchangeError says that a point gave no answer.
type ExchangeError struct {
	Peer peer.ID
	Err  error
}

// Error implements error.
func (e *ExchangeError) Error() string {
	return fmt.Sprintf("rendezvous: asking %s: %v", e.Peer, e.Err)
}

// Unwrap returns Err.
func (e *ExchangeError) Unwrap() error { return e.Err }
