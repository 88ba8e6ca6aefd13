package reqresp

import (
	"context"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/internal/wire"
)

// Do sends one request to a peer and returns its response. It dials when there
// is no connection, unless ctx says otherwise (network.WithNoDial).
//
// The error is an *Error around ErrUnsupported, a *TimeoutError, an error of
// package wire, of the resource manager, or the stream's own; or, when ctx ended
// first, its cause.
//
// A response that arrives early, before the request was read or even fully
// sent, is taken: js-waku answers metadata requests that way.
func Do(ctx context.Context, h host.Host, p peer.ID, id protocol.ID, cfg Config, request []byte) ([]byte, error) {
	cfg = cfg.withDefaults()
	ctx, stop := context.WithTimeoutCause(ctx, cfg.Total, &TimeoutError{After: cfg.Total})
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fail := func(op string, err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &Error{Op: op, Peer: p, Protocol: id, Err: mapError(err)}
	}

	s, err := h.NewStream(ctx, p, id)
	if err != nil {
		return nil, fail("open", err)
	}
	mem, err := open(s, cfg.Service)
	if err == nil {
		err = mem.reserve(len(request))
	}
	if err != nil {
		s.Reset()
		return nil, fail("open", err)
	}
	defer mem.release()

	w := start(ctx, cancel, s, cfg.FirstByte)
	writeErr := wire.WriteFrame(s, request)
	if writeErr == nil {
		writeErr = s.CloseWrite()
	}
	mem.release()
	response, err := mem.read(w, cfg.MaxResponse)
	if err != nil {
		op := "read"
		if writeErr != nil && mapError(err) != ErrUnsupported {
			op, err = "write", writeErr
		}
		return nil, fail(op, w.end(err))
	}
	return response, w.end(nil)
}
