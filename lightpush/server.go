package lightpush

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// Defaults of [ServerConfig].
const (
	DefaultServerRate   = 5.0 // pushes a second
	DefaultServerBurst  = 20  // pushes
	DefaultPatience     = 500 * time.Millisecond
	DefaultConcurrency  = 64 // pushes
	DefaultPerPeer      = 8  // exchanges
	DefaultRelayTimeout = 5 * time.Second
)

// ServerConfig configures a [Server]. The zero value has the defaults.
type ServerConfig struct {
	// MaxMessageSize is the network's limit for an encoded message, in bytes. What
	// is larger is answered with StatusPayloadTooLarge. 0: message.DefaultMaxSize.
	MaxMessageSize int
	// Rate is how many pushes a second a peer may make in the long run, and Burst
	// how many at once, in both versions together; more are answered with
	// StatusTooManyRequests. 0: the defaults. A negative Rate is no limit.
	Rate  float64
	Burst int
	// Patience is how long a push beyond Rate is kept waiting rather than refused.
	// 0: DefaultPatience. Negative: none.
	Patience time.Duration
	// Concurrency is how many messages the Relayer has at once. Others wait for
	// two seconds, and are then answered with StatusServiceNotAvailable. 0:
	// DefaultConcurrency.
	Concurrency int
	// PerPeer is how many exchanges one peer may have at once, in each version;
	// streams beyond are reset unread. 0: DefaultPerPeer.
	PerPeer int
	// Timeout is how long the Relayer may take. A push that takes longer is
	// answered with StatusServiceNotAvailable. 0: DefaultRelayTimeout.
	Timeout time.Duration
	// OnFailure, if set, is told of every push that got no answer, and of every one
	// that was answered with StatusInternalServerError or StatusServiceNotAvailable
	// for a reason of our own, and why. Streams on which nothing came are among
	// them, and nothing bad: js-waku opens one ahead of need. It must be quick and
	// may be called from many goroutines.
	OnFailure func(from peer.ID, err error)
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.MaxMessageSize = cmp.Or(max(c.MaxMessageSize, 0), message.DefaultMaxSize)
	c.Rate = cmp.Or(c.Rate, DefaultServerRate)
	c.Burst = cmp.Or(max(c.Burst, 0), DefaultServerBurst)
	c.Patience = max(cmp.Or(c.Patience, DefaultPatience), 0)
	c.Concurrency = cmp.Or(max(c.Concurrency, 0), DefaultConcurrency)
	c.PerPeer = cmp.Or(max(c.PerPeer, 0), DefaultPerPeer)
	c.Timeout = cmp.Or(max(c.Timeout, 0), DefaultRelayTimeout)
	return c
}

const (
	// turnLimit is how long a message waits for the Relayer. With DefaultPatience
	// and DefaultRelayTimeout it is less than the ten seconds that clients wait.
	turnLimit = 2 * time.Second
	// requestTime is for the request to come, of which a large one takes its time
	// on a slow link, and grace for the answer to go.
	requestTime = 10 * time.Second
	grace       = 5 * time.Second
	// exchanges is how many run at once in each version. Whoever sends half a
	// request holds his share, so that it takes many names to hold them all.
	exchanges = 1024
)

// ServerStats counts what a server has done.
type ServerStats struct {
	// Answers counts by status. Those never given are absent.
	Answers map[StatusCode]uint64
	// Legacy is how many of them were in version 2.
	Legacy uint64
	// Failed counts the exchanges that came to nothing: not read to their end,
	// answer not sent, refused unread; and also those refused for their length or
	// for want of memory, who got an answer or none if they asked too often.
	Failed uint64
	// Bytes is the length of all requests that were read, in bytes.
	Bytes uint64
}

// Server takes pushes of other peers, in both versions, until it is closed.
type Server struct {
	relayer  Relayer
	cfg      ServerConfig
	budget   *budget
	turns    chan struct{} // one for each message that the relayer has
	relaying sync.WaitGroup

	exchanges []*reqresp.Server
	stats     struct {
		answers               [len(statuses)]atomic.Uint64
		legacy, failed, bytes atomic.Uint64
	}
}

// NewServer takes pushes on h from now on and hands them to the relayer.
func NewServer(h host.Host, relayer Relayer, cfg ServerConfig) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		relayer: relayer,
		cfg:     cfg,
		budget:  newBudget(cfg.Rate, cfg.Burst),
		turns:   make(chan struct{}, cfg.Concurrency),
	}
	for _, v := range []*version{current, legacy} {
		s.exchanges = append(s.exchanges, reqresp.Serve(h, v.id, reqresp.Config{
			Service:     service,
			MaxRequest:  2*cfg.MaxMessageSize + envelope,
			MaxResponse: maxID + maxDesc + 64,
			Request:     requestTime,
			Total:       requestTime + cfg.Patience + turnLimit + cfg.Timeout + grace,
			Concurrency: exchanges,
			PerPeer:     cfg.PerPeer,
			OnFailure:   s.failed,
			Refuse: func(from peer.ID, b []byte, err error) []byte {
				return s.refuse(v, from, b, err)
			},
		}, func(ctx context.Context, from peer.ID, b []byte) ([]byte, error) {
			return s.handle(ctx, v, from, b)
		}))
	}
	return s
}

// Close ends running exchanges and waits for them and for the relayer. It is
// idempotent.
func (s *Server) Close() error {
	for _, e := range s.exchanges {
		e.Close()
	}
	s.relaying.Wait()
	return nil
}

// Stats returns what the server has done so far.
func (s *Server) Stats() ServerStats {
	c := &s.stats
	out := ServerStats{
		Answers: make(map[StatusCode]uint64),
		Legacy:  c.legacy.Load(),
		Failed:  c.failed.Load(),
		Bytes:   c.bytes.Load(),
	}
	for i := range c.answers {
		if n := c.answers[i].Load(); n > 0 {
			out.Answers[statuses[i].code] = n
		}
	}
	return out
}

func (s *Server) handle(ctx context.Context, v *version, from peer.ID, b []byte) ([]byte, error) {
	s.stats.bytes.Add(uint64(len(b)))
	wait, ok := s.budget.take(from, time.Now(), s.cfg.Patience)
	if !ok {
		return s.apologise(v, from, notRead, tooMany(wait)), nil
	}
	if err := sleep(ctx, wait); err != nil {
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
	if err := s.turn(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, errSlow)
	done := make(chan outcome, 1)
	s.relaying.Go(func() {
		defer func() { <-s.turns }()
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

// turn waits until the relayer may be handed one more message.
func (s *Server) turn(ctx context.Context) error {
	select {
	case s.turns <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(turnLimit)
	defer timer.Stop()
	select {
	case s.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("%w: it has %d messages already", errSlow, s.cfg.Concurrency)
	}
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
	} else if _, ok := s.budget.take(from, time.Now(), 0); !ok {
		return nil
	}
	var tooLarge *wire.FrameTooLargeError
	if errors.As(err, &tooLarge) {
		return s.apologise(v, from, id, Refuse(StatusPayloadTooLarge,
			fmt.Sprintf("a request of %d bytes, at most %d are read", tooLarge.Size, tooLarge.Limit)))
	}
	return s.apologise(v, from, id, busy("no memory"))
}

func (s *Server) failed(from peer.ID, err error) {
	s.stats.failed.Add(1)
	s.tell(from, err)
}

func (s *Server) tell(from peer.ID, err error) {
	if s.cfg.OnFailure != nil {
		s.cfg.OnFailure(from, err)
	}
}
