package reqresp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"github.com/status-im/shoal/internal/wire"
)

// ErrUnsupported is returned by Do when the peer doesn't speak the protocol.
var ErrUnsupported = errors.New("reqresp: protocol not supported by the peer")

// ErrBusy is what OnFailure is told when a stream was refused because too many
// were open already.
var ErrBusy = errors.New("reqresp: too many exchanges at once")

// ErrResponseTooLarge is what OnFailure is told when the handler's own
// response exceeds MaxResponse.
var ErrResponseTooLarge = errors.New("reqresp: response exceeds the protocol's limit")

// TimeoutError says that the other side took too long.
type TimeoutError struct {
	Silent bool          // not one byte came
	Stall  bool          // the response wasn't taken
	After  time.Duration // the limit that was hit
}

func (e *TimeoutError) Error() string {
	if e.Silent {
		return fmt.Sprintf("reqresp: peer silent for %v", e.After)
	}
	if e.Stall {
		return fmt.Sprintf("reqresp: peer took nothing of the response for %v", e.After)
	}
	return fmt.Sprintf("reqresp: exchange not done after %v", e.After)
}

// Timeout reports true, as net.Error's does.
func (e *TimeoutError) Timeout() bool { return true }

// Is lets errors.Is match context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// PanicError is what OnFailure is told when the handler panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("reqresp: handler panicked: %v", e.Value) }

// Error is what Do returns: the exchange with Peer failed in Op ("open",
// "write", "read") because of Err.
type Error struct {
	Op       string
	Peer     peer.ID
	Protocol protocol.ID
	Err      error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s with %s: %s: %v", e.Protocol, e.Peer, e.Op, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Reason is why Do gave no answer, in a protocol's own errors: unsupported and tooLarge
// stand for those of this package and of wire.
func Reason(err, unsupported, tooLarge error) error {
	var (
		e    *Error
		size *wire.FrameTooLargeError
	)
	switch {
	case errors.Is(err, ErrUnsupported):
		return unsupported
	case errors.Is(err, wire.ErrBadVarint):
		return wire.Malformed("%v", wire.ErrBadVarint)
	case errors.As(err, &size):
		return fmt.Errorf("%w: %w", tooLarge, size)
	case errors.As(err, &e):
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

// mapError words a stream's error.
func mapError(err error) error {
	var (
		unsupported multistream.ErrNotSupported[protocol.ID]
		reset       *network.StreamError
	)
	switch {
	case errors.As(err, &unsupported):
		return ErrUnsupported
	case errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamProtocolNegotiationFailed:
		return ErrUnsupported // it was supported when last we asked
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF // the other side closed without a word
	}
	return err
}
