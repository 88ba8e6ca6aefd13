package reqresp

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/internal/wire"
)

// Handler answers one request. Its context ends when the exchange runs out of
// time or the server is closed, and it must return soon after: Close waits for
// it. An error resets the stream; refusals that the protocol has words for are
// responses. A panic is contained and counts as an error.
type Handler func(ctx context.Context, from peer.ID, request []byte) (response []byte, err error)

// Server answers one protocol on one host until Close.
type Server struct {
	host    host.Host
	id      protocol.ID
	cfg     Config
	handler Handler
	ctx     context.Context
	cancel  context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	running int
	perPeer map[peer.ID]int // only peers with a running exchange
	wg      sync.WaitGroup
}

// Serve answers id on h with handler, from now on until Close.
func Serve(h host.Host, id protocol.ID, cfg Config, handler Handler) *Server {
	s := &Server{host: h, id: id, cfg: cfg.withDefaults(), handler: handler, perPeer: make(map[peer.ID]int)}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	h.SetStreamHandler(id, s.handle)
	return s
}

// Close stops answering, ends running exchanges and waits for them. Calling it
// twice is fine. The error is always nil.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.host.RemoveStreamHandler(s.id)
		s.cancel(net.ErrClosed)
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

func (s *Server) handle(stream network.Stream) {
	from := stream.Conn().RemotePeer()
	open, admitted := s.enter(from)
	if !open {
		stream.Reset()
		return
	}
	defer s.wg.Done()
	if !admitted {
		stream.Reset()
		s.failed(from, ErrBusy)
		return
	}
	defer s.leave(from)
	if err := s.exchange(stream, from); err != nil {
		s.failed(from, err)
	}
}

// enter says whether the server is open, which Close then waits for, and
// whether there is room for the exchange.
func (s *Server) enter(from peer.ID) (open, admitted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, false
	}
	s.wg.Add(1)
	if s.running >= s.cfg.Concurrency || s.perPeer[from] >= s.cfg.PerPeer {
		return true, false
	}
	s.running++
	s.perPeer[from]++
	return true, true
}

func (s *Server) leave(from peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.perPeer[from]--; s.perPeer[from] == 0 {
		delete(s.perPeer, from)
	}
}

func (s *Server) failed(from peer.ID, err error) {
	if s.cfg.OnFailure != nil {
		s.cfg.OnFailure(from, err)
	}
}

func (s *Server) exchange(stream network.Stream, from peer.ID) error {
	mem, err := open(stream, s.cfg.Service)
	if err != nil {
		stream.Reset()
		return err
	}
	defer mem.release()
	ctx, stop := context.WithTimeoutCause(s.ctx, s.cfg.Total, &TimeoutError{After: s.cfg.Total})
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	w := start(ctx, cancel, stream, s.cfg.FirstByte)
	reading := time.AfterFunc(s.cfg.Request, func() { cancel(&TimeoutError{After: s.cfg.Request}) })
	defer reading.Stop()
	err = s.answer(ctx, w, reading, mem, from)
	if r, ok := err.(refused); ok {
		w.end(nil) // there was an answer, which a reset might overtake
		return r.error
	}
	return w.end(err)
}

// refused is the error of an exchange that got its answer from Refuse.
type refused struct{ error }

// answer answers the request, which is read while the timer is running.
func (s *Server) answer(ctx context.Context, w *watch, reading *time.Timer, mem *account, from peer.ID) error {
	request, err := mem.read(w, s.cfg.MaxRequest)
	if err != nil {
		return s.refuse(w, from, nil, mapError(err))
	}
	reading.Stop()
	response, err := s.call(ctx, from, request)
	if err != nil {
		return err
	}
	if s.cfg.Sent != nil {
		defer s.cfg.Sent(from, len(response))
	}
	if len(response) > s.cfg.MaxResponse {
		return ErrResponseTooLarge
	}
	if err := mem.reserve(len(response)); err != nil {
		return s.refuse(w, from, request, err)
	}
	return s.send(w, response) // Close follows and ends our side
}

// piece is how much of a response is written at once: with what yamux and noise
// put around it, it fits their buffers of 64 KiB.
const piece = 60 << 10

// send writes a response as fast as it is taken.
func (s *Server) send(w *watch, response []byte) error {
	stalled := time.AfterFunc(s.cfg.Stall, func() { w.cancel(&TimeoutError{Stall: true, After: s.cfg.Stall}) })
	defer stalled.Stop()
	return wire.WriteFrame(writerFunc(func(b []byte) (n int, err error) {
		for len(b) > n && err == nil {
			var m int
			m, err = w.s.Write(b[n:min(len(b), n+piece)])
			n += m
			stalled.Reset(s.cfg.Stall)
		}
		return n, err
	}), response)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// maxUnread is how much of a request nobody wants is waited for.
const maxUnread = 4 << 20

// refuse says why there is no answer, if there are words for it. A client may not
// listen before it has sent all of its request, which is therefore waited for.
func (s *Server) refuse(w *watch, from peer.ID, request []byte, why error) error {
	var (
		tooLarge *wire.FrameTooLargeError
		unread   int64
	)
	switch {
	case s.cfg.Refuse == nil:
		return why
	case errors.As(why, &tooLarge) && tooLarge.Size <= maxUnread:
		unread = int64(tooLarge.Size)
	case !errors.Is(why, network.ErrResourceLimitExceeded):
		return why
	case request == nil:
		unread = int64(s.cfg.MaxRequest)
	}
	answer := s.words(from, request, why)
	if answer == nil || wire.WriteFrame(w.s, answer) != nil || w.s.CloseWrite() != nil {
		return why
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(w, unread)); err != nil {
		return why
	}
	return refused{why}
}

// words contains panics of Refuse.
func (s *Server) words(from peer.ID, request []byte, why error) (answer []byte) {
	defer func() {
		if recover() != nil {
			answer = nil
		}
	}()
	return s.cfg.Refuse(from, request, why)
}

// call contains the handler's panics: one bad request must not end the
// process.
func (s *Server) call(ctx context.Context, from peer.ID, request []byte) (response []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			response, err = nil, &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return s.handler(ctx, from, request)
}
