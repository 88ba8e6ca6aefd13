package lightpush

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

func (s *Server) handle(ctx context.Context, v *version, from peer.ID, b []byte) ([]byte, error) {
	s.stats.bytes.Add(uint64(len(b)))
	wait, ok := s.budget.Take(from, time.Now(), s.cfg.Patience)
	if !ok {
		return s.apologise(v, from, notRead, tooMany(wait)), nil
	}
	if err := reqresp.Sleep(ctx, wait); err != nil {
		return nil, err
	}
	r, err := v.decodeRequest(b)
	peers := 0
	if err != nil {
		err = Refuse(StatusBadRequest, err.Error())
	} else {
		peers, err = s.push(ctx, from, r)
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause // nobody waits for the answer
	}
	if err != nil {
		return s.apologise(v, from, r.id, err), nil
	}
	return s.answer(v, response{id: r.id, code: StatusSuccess, desc: "OK", peers: peers}), nil
}

func tooMany(wait time.Duration) error {
	return &RefusedError{Code: StatusTooManyRequests, RetryAfter: wait}
}

// push relays what is asked to be, if it makes sense.
func (s *Server) push(ctx context.Context, from peer.ID, r request) (peers int, err error) {
	shard, m, err := s.check(r)
	if err != nil {
		return 0, err
	}
	peers, err = s.relay(ctx, from, shard, m)
	if err == nil && peers <= 0 {
		err = Refuse(StatusNoPeersToRelay, "not_published_to_any_peer") // which is how nwaku says it
	}
	return peers, err
}

// check asks only what every relay does.
func (s *Server) check(r request) (sharding.Shard, *message.Message, error) {
	refuse := func(code StatusCode, format string, args ...any) (sharding.Shard, *message.Message, error) {
		return sharding.Shard{}, nil, Refuse(code, fmt.Sprintf(format, args...))
	}
	switch {
	case r.message == nil:
		return refuse(StatusBadRequest, "there is no message")
	case !r.hasTopic:
		return refuse(StatusInvalidMessage, "a pubsub topic must be named under static sharding")
	case r.topic == "":
		return refuse(StatusBadRequest, "the pubsub topic is empty")
	}
	shard, err := sharding.ParsePubsubTopic(r.topic)
	if err != nil {
		return refuse(StatusUnsupportedPubsubTopic, "no static shard, /waku/2/rs/<cluster>/<shard>")
	}
	m, err := message.Decode(r.message)
	if err != nil {
		return refuse(StatusBadRequest, "%v", err)
	}
	if err := m.Validate(); err != nil {
		return refuse(StatusInvalidMessage, "%v", err)
	}
	if err := m.CheckSize(s.cfg.MaxMessageSize); err != nil {
		return refuse(StatusPayloadTooLarge, "%v", err)
	}
	return shard, m, nil
}

// outcome is what the relayer returned.
type outcome struct {
	peers int
	err   error
}

// errSlow is the cause of a context that ends before the relayer is done.
var errSlow = errors.New("lightpush: the relayer takes too long")

// relay hands a message to the relayer when it is its turn, and doesn't wait for one
// that hangs.
func (s *Server) relay(ctx context.Context, from peer.ID, shard sharding.Shard, m *message.Message) (int, error) {
	switch ok, err := s.turns.take(ctx, from, turnLimit); {
	case err != nil:
		return 0, err
	case !ok:
		return 0, fmt.Errorf("%w: it has %d messages already", errSlow, s.cfg.Concurrency)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, errSlow)
	done := make(chan outcome, 1)
	s.relaying.Go(func() {
		defer s.turns.give()
		defer cancel()
		peers, err := s.call(ctx, from, shard, m)
		done <- outcome{peers, err}
	})
	var o outcome
	select {
	case o = <-done:
	case <-ctx.Done():
		select {
		case o = <-done: // cancel comes right after it
		default:
			o.err = context.Cause(ctx)
		}
	}
	if errors.Is(o.err, context.DeadlineExceeded) && context.Cause(ctx) == errSlow {
		o.err = errSlow // the relayer gave up in time
	}
	return o.peers, o.err
}

// call contains the relayer's panics.
func (s *Server) call(ctx context.Context, from peer.ID, shard sharding.Shard, m *message.Message) (peers int, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &reqresp.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return s.relayer(ctx, from, shard, m)
}

// apologise answers a push that isn't relayed. What isn't a refusal is OnFailure's
// business and none of the peer's.
func (s *Server) apologise(v *version, from peer.ID, id string, err error) []byte {
	var refused *RefusedError
	if !errors.As(err, &refused) || refused == nil || refused.Code == StatusSuccess || refused.Code.index() < 0 {
		s.tell(from, err)
		refused = &RefusedError{Code: StatusInternalServerError}
		if errors.Is(err, errSlow) || errors.Is(err, context.DeadlineExceeded) {
			refused = busy("")
		}
	}
	if refused.Code == StatusTooManyRequests {
		id = notRead
	}
	return s.answer(v, response{id: id, code: refused.Code, desc: refused.words()})
}

func busy(desc string) *RefusedError {
	return &RefusedError{Code: StatusServiceNotAvailable, Desc: desc, RetryAfter: time.Second}
}

func (s *Server) answer(v *version, r response) []byte {
	r.id = cmp.Or(r.id, notRead) // some clients take none for no answer
	s.stats.answers[r.code.index()].Add(1)
	if v == legacy {
		s.stats.legacy.Add(1)
	}
	return v.appendResponse(make([]byte, 0, len(r.id)+len(r.desc)+32), r)
}

// refuse answers what handle doesn't get to see. Who can't pay for it at once is
// hung up on.
func (s *Server) refuse(v *version, from peer.ID, b []byte, err error) []byte {
	id := notRead
	if b != nil {
		r, _ := v.decodeRequest(b)
		id = r.id
	} else if _, ok := s.budget.Take(from, time.Now(), 0); !ok {
		return nil
	}
	var tooLarge *wire.FrameTooLargeError
	if errors.As(err, &tooLarge) {
		return s.apologise(v, from, id, Refuse(StatusPayloadTooLarge,
			fmt.Sprintf("a request of %d bytes, at most %d are read", tooLarge.Size, tooLarge.Limit)))
	}
	return s.apologise(v, from, id, busy("no memory"))
}
