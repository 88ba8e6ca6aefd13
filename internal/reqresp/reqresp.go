// Package reqresp is the exchange that all of Waku's services share: a new
// stream, one request, one response. Client side: Do. Server side: Serve.
//
// Both sides keep the same manners. Frames are capped before they are read,
// the first byte and the whole exchange have a time limit, the stream names its
// service, the write side is closed as soon as everything is written, the stream
// is closed on success and reset on every failure. Time limits work by resetting
// the stream and so hold on any transport, whether or not it knows deadlines.
//
// # Memory
//
// Each message is accounted for with the resource manager by its length: what is
// read when its length has been announced and before its bytes are, what is
// written before it is written. By libp2p's default limits a stream may hold
// 16 MiB, and so may all streams of one protocol with one peer together: a
// message of just that size can be read while there is no other.
package reqresp

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/wire"
)

// Config describes the exchange of one protocol; client and server may share
// it.
type Config struct {
	// Service is the name under which the resource manager accounts for the
	// protocol, such as "waku.metadata". Empty: not accounted for.
	Service string
	// MaxRequest and MaxResponse cap what is read, in bytes without the length
	// prefix. Zero allows only the empty message.
	MaxRequest, MaxResponse int
	// FirstByte is how long the other side may stay silent before its first
	// byte. Zero: 5 s.
	FirstByte time.Duration
	// Request is how long a server reads a request, however slowly it comes, and
	// waits for the end of one that Refuse answers. Zero: twice FirstByte. It is
	// Total at most.
	Request time.Duration
	// Total is how long the whole exchange may take; on the client this
	// includes opening the stream. Zero: 10 s.
	Total time.Duration
	// Stall is how long a server waits until the other side has taken another
	// piece of the response, which is 60 KiB. Zero: Total.
	Stall time.Duration

	// Concurrency is how many exchanges a server runs at once; streams beyond
	// are reset unread. Zero: 128.
	Concurrency int
	// PerPeer is the same for one peer. Zero: 8.
	PerPeer int
	// OnFailure, if set, is told of every inbound exchange that failed, and why:
	// a refusal (ErrBusy), a *TimeoutError, an error of package wire, of the
	// resource manager, of the handler, or a *PanicError. It runs on the
	// exchange's goroutine.
	OnFailure func(from peer.ID, err error)
	// Sent, if set, is told when a server holds a response of the handler's no
	// longer, however the exchange ended. Every response that the handler returned
	// without an error is told of once, by its length. It must be quick.
	Sent func(from peer.ID, size int)
	// Refuse, if set, words a server's answer where the handler has no say: to a
	// request longer than MaxRequest (*wire.FrameTooLargeError), unless it is so
	// long that it isn't worth waiting for its end (4 MiB); and when the resource
	// manager has no room for the request, which is nil then, or for the handler's
	// response (network.ErrResourceLimitExceeded). Nil, and a nil answer: the
	// stream is reset, and of the request no more is read. It must be quick and is
	// answered with little. OnFailure is told of the error in any case.
	Refuse func(from peer.ID, request []byte, err error) []byte
}

func (c Config) withDefaults() Config {
	setDefault(&c.FirstByte, 5*time.Second)
	setDefault(&c.Total, 10*time.Second)
	setDefault(&c.Request, 2*c.FirstByte)
	c.Request = min(c.Request, c.Total)
	setDefault(&c.Stall, c.Total)
	setDefault(&c.Concurrency, 128)
	setDefault(&c.PerPeer, 8)
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// watch holds one stream to its time limits by resetting it.
type watch struct {
	s      network.Stream
	ctx    context.Context // ends with a cause when the exchange must
	cancel context.CancelCauseFunc
	silent *time.Timer
	unhook func() bool
}

// start begins the silence limit; the total one is ctx's.
func start(ctx context.Context, cancel context.CancelCauseFunc, s network.Stream, firstByte time.Duration) *watch {
	w := &watch{s: s, ctx: ctx, cancel: cancel}
	w.silent = time.AfterFunc(firstByte, func() { cancel(&TimeoutError{Silent: true, After: firstByte}) })
	w.unhook = context.AfterFunc(ctx, func() { s.Reset() })
	return w
}

// Read stops the silence limit at the first byte.
func (w *watch) Read(b []byte) (int, error) {
	n, err := w.s.Read(b)
	if n > 0 {
		w.silent.Stop()
	}
	return n, err
}

// end closes the stream after a success and resets it after a failure. It
// returns why the exchange failed: the limit that was hit rather than the reset
// that enforced it. After a success nothing can fail any more: what was asked
// for has been read or written.
func (w *watch) end(err error) error {
	w.silent.Stop()
	if err != nil {
		w.unhook()
		w.s.Reset()
		if cause := context.Cause(w.ctx); cause != nil {
			return cause
		}
		return err
	}
	if w.s.Close() != nil {
		w.s.Reset()
	}
	w.unhook() // only now: Close may block
	return nil
}

// account is what a stream holds, with the resource manager. It is given back by
// release and not only with the stream, which may linger until the other side has
// closed it as well.
type account struct {
	scope network.StreamScope
	held  int
}

// open names the stream's service.
func open(s network.Stream, service string) (*account, error) {
	a := &account{scope: s.Scope()}
	if service == "" {
		return a, nil
	}
	return a, a.scope.SetService(service)
}

// reserve accounts for so many bytes more.
func (a *account) reserve(n int) error {
	err := a.scope.ReserveMemory(n, network.ReservationPriorityAlways)
	if err == nil {
		a.held += n
	}
	return err
}

// release gives everything back.
func (a *account) release() {
	a.scope.ReleaseMemory(a.held)
	a.held = 0
}

// read reads a frame for which there is room.
func (a *account) read(r io.Reader, limit int) ([]byte, error) {
	size, err := wire.ReadLength(r, limit)
	if err != nil {
		return nil, err
	}
	if err := a.reserve(size); err != nil {
		return nil, err
	}
	return wire.ReadBody(r, size)
}
