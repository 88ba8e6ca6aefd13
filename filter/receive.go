package filter

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

// Limits of push streams. go-waku opens one for each message, all at once when
// there are many; so does a Server for it.
const (
	maxPeerStreams = 64
	maxAllStreams  = 1024
	frameTime      = 10 * time.Second // for the first push, and for one that has begun
)

// handle reads pushes from a stream to its end.
func (c *Client) handle(s network.Stream) {
	p := s.Conn().RemotePeer()
	err := c.enter(p)
	if err == errClosed {
		s.Reset()
		return
	}
	defer c.wg.Done()
	if err == nil {
		err = c.receive(p, s)
		c.exit(p)
	}
	if err == nil {
		s.Close()
		return
	}
	s.Reset()
	c.stats.failed.Add(1)
	tell(c.cfg.OnFailure, p, err)
}

var errClosed = errors.New("closed")

// enter says whether there is room for a stream from p. Unless the error is
// errClosed, Close waits for wg.
func (c *Client) enter(p peer.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.wg.Add(1)
	k := c.contacts[p]
	if c.cfg.Accepts == nil && (k == nil || len(k.held) == 0) {
		c.stats.notAsked.Add(1)
		return ErrNotAsked
	}
	if c.streams >= maxAllStreams || k != nil && k.streams >= maxPeerStreams {
		return ErrBusy
	}
	c.streams++
	c.contact(p).streams++
	return nil
}

func (c *Client) exit(p peer.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams--
	c.contacts[p].streams--
}

// receive takes the pushes of a stream until it ends or they aren't pushes.
func (c *Client) receive(p peer.ID, s network.Stream) error {
	if err := s.Scope().SetService(Service); err != nil {
		return err
	}
	r := newFrameReader(c.ctx, s)
	defer r.stop()
	var told [classes]bool // once for a stream is enough
	for {
		size, err := wire.ReadLength(r, 2*c.cfg.MaxMessageSize+pushOverhead)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = c.frame(p, s, r, size)
		}
		var bad *unwanted
		if errors.As(err, &bad) {
			if !told[bad.class] {
				told[bad.class] = true
				tell(c.cfg.OnFailure, p, bad.err)
			}
			err = nil
		}
		if err != nil {
			return r.cause(err)
		}
	}
}

// unwanted is the error of a push that is none of ours but no reason to hang up.
type unwanted struct {
	class int
	err   error
}

const (
	notAsked = iota
	invalid
	panicked
	classes
)

func (u *unwanted) Error() string { return u.err.Error() }

// frame reads and takes one push.
func (c *Client) frame(p peer.ID, s network.Stream, r *frameReader, size int) error {
	if err := s.Scope().ReserveMemory(size, network.ReservationPriorityAlways); err != nil {
		return err
	}
	defer s.Scope().ReleaseMemory(size)
	b, err := wire.ReadBody(r, size)
	if err != nil {
		return err
	}
	r.ended()
	in, err := decodePush(b)
	if err != nil {
		return err
	}
	m, err := message.Decode(in.message)
	if err != nil {
		return err
	}
	return c.take(Push{From: p, PubsubTopic: in.pubsubTopic, Message: m, Data: in.message}, size)
}

// take hands over what is wanted.
func (c *Client) take(in Push, size int) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &unwanted{panicked, &PanicError{Value: v}}
		}
	}()
	if !c.wants(&in) {
		c.stats.notAsked.Add(1)
		return &unwanted{notAsked, ErrNotAsked}
	}
	err = in.Message.Validate()
	if n := len(in.Data); err == nil && n > c.cfg.MaxMessageSize {
		err = &message.TooLargeError{Size: n, Limit: c.cfg.MaxMessageSize}
	}
	if err != nil {
		c.stats.invalid.Add(1)
		return &unwanted{invalid, err}
	}
	in.Hash = in.Message.Hash(in.PubsubTopic)
	c.stats.pushes.Add(1)
	c.stats.bytes.Add(uint64(size))
	if c.cfg.OnPush != nil {
		c.cfg.OnPush(in)
	}
	return nil
}

// wants says whether a push is wanted. One without a pubsub topic is understood
// where only one comes into question.
func (c *Client) wants(in *Push) bool {
	c.mu.Lock()
	held := criteria(nil)
	if k := c.contacts[in.From]; k != nil {
		held = k.held
	}
	ok := true
	if in.PubsubTopic == "" {
		in.PubsubTopic, ok = held.only(in.Message.ContentTopic)
	}
	own := held.has(in.PubsubTopic, in.Message.ContentTopic)
	c.mu.Unlock()
	if c.cfg.Accepts == nil {
		return own
	}
	return ok && c.cfg.Accepts(in.From, in.PubsubTopic, in.Message.ContentTopic)
}

// frameReader holds a stream to its time limits by resetting it: between two pushes
// it may rest, but not before the first nor within one.
type frameReader struct {
	s      network.Stream
	ctx    context.Context // ends with a cause when the stream must
	cancel context.CancelCauseFunc
	unhook func() bool
	timer  *time.Timer
	begun  bool // a push has, or the stream
}

func newFrameReader(ctx context.Context, s network.Stream) *frameReader {
	r := &frameReader{s: s, begun: true}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.unhook = context.AfterFunc(r.ctx, func() { s.Reset() })
	r.timer = time.AfterFunc(frameTime, func() { r.cancel(ErrSilent) })
	return r
}

// Read reads from the stream. The first byte of a push starts the clock.
func (r *frameReader) Read(b []byte) (int, error) {
	n, err := r.s.Read(b)
	if n > 0 && !r.begun {
		r.begun = true
		r.timer.Reset(frameTime)
	}
	return n, err
}

// ended stops the clock: a push has been read.
func (r *frameReader) ended() {
	r.begun = false
	r.timer.Stop()
}

// cause is the limit that was hit rather than the reset that enforced it.
func (r *frameReader) cause(err error) error {
	if cause := context.Cause(r.ctx); cause != nil {
		return cause
	}
	return err
}

func (r *frameReader) stop() {
	r.timer.Stop()
	r.unhook()
	r.cancel(nil)
}
