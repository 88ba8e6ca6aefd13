package filter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

// Defaults of [ServerConfig].
const (
	DefaultMaxSubscribers = 5000
	DefaultMaxCriteria    = 1000 // of one peer
	DefaultMaxTopics      = 100  // in one request
	DefaultLifetime       = 5 * time.Minute
	DefaultQueue          = 256 // messages
	DefaultQueueBytes     = 1 << 20
	DefaultPushTimeout    = 20 * time.Second
	DefaultFailures       = 5
	DefaultServerRate     = 5.0 // requests a second
	DefaultServerBurst    = 30  // requests
	DefaultPatience       = 500 * time.Millisecond
)

// ServerConfig configures a [Server]. The zero value has the defaults.
type ServerConfig struct {
	// MaxSubscribers is how many peers may be subscribed at once. 0:
	// DefaultMaxSubscribers.
	MaxSubscribers int
	// MaxCriteria is how many content topics a peer may be subscribed to, on all
	// shards together. What it is subscribed to already doesn't count again. 0:
	// DefaultMaxCriteria.
	MaxCriteria int
	// MaxTopics is how many content topics a request may name. 0:
	// DefaultMaxTopics.
	MaxTopics int
	// Lifetime is how long a subscriber is kept without a request from it. 0:
	// DefaultLifetime.
	Lifetime time.Duration
	// Queue and QueueBytes bound what waits for one subscriber: so many messages of
	// so many bytes, but always one. Beyond, the oldest is dropped. Messages that
	// wait for several are there once. 0: the defaults.
	Queue, QueueBytes int
	// PushTimeout is how long a subscriber may take to read a push before it is
	// forgotten. 0: DefaultPushTimeout.
	PushTimeout time.Duration
	// Failures is after how many pushes in a row that failed a subscriber is
	// forgotten. 0: DefaultFailures.
	Failures int
	// Rate is how many requests a second a peer may make in the long run, and Burst
	// how many at once; more are answered with StatusTooManyRequests. 0: the
	// defaults. A negative Rate is no limit.
	Rate  float64
	Burst int
	// Patience is how long a request beyond Rate is kept waiting rather than
	// refused. 0: DefaultPatience. Negative: none.
	Patience time.Duration
	// Carries says whether messages of a shard come by here; who asks for others is
	// told StatusServiceUnavailable. Nil: of every shard. It must be quick.
	Carries func(pubsubTopic string) bool
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// OnEvict, if set, is told who was forgotten without having asked for it, and
	// why: ErrExpired, ErrDisconnected, ErrSlow, or ErrRefused.
	// OnFailure, if set, is told of every request that got no answer or one of no
	// memory, and of messages dropped for a slow subscriber (*OverflowError).
	// Both must be quick and may be called from many goroutines.
	OnEvict, OnFailure func(p peer.ID, reason error)
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.MaxSubscribers = cmp.Or(max(c.MaxSubscribers, 0), DefaultMaxSubscribers)
	c.MaxCriteria = cmp.Or(max(c.MaxCriteria, 0), DefaultMaxCriteria)
	c.MaxTopics = cmp.Or(max(c.MaxTopics, 0), DefaultMaxTopics)
	c.Lifetime = cmp.Or(max(c.Lifetime, 0), DefaultLifetime)
	c.Queue = cmp.Or(max(c.Queue, 0), DefaultQueue)
	c.QueueBytes = cmp.Or(max(c.QueueBytes, 0), DefaultQueueBytes)
	c.PushTimeout = cmp.Or(max(c.PushTimeout, 0), DefaultPushTimeout)
	c.Failures = cmp.Or(max(c.Failures, 0), DefaultFailures)
	c.Rate = cmp.Or(c.Rate, DefaultServerRate)
	c.Burst = cmp.Or(max(c.Burst, 0), DefaultServerBurst)
	c.Patience = max(cmp.Or(c.Patience, DefaultPatience), 0)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Server keeps who wants which messages and brings them, until it is closed. It is
// safe for concurrent use.
type Server struct {
	host   host.Host
	cfg    ServerConfig
	budget *reqresp.Budget[peer.ID]
	ctx    context.Context // ends at Close
	cancel context.CancelFunc

	exchanges *reqresp.Server
	wg        sync.WaitGroup // pushes

	mu       sync.RWMutex // never held while anything waits
	closed   bool
	sweeping bool
	rouse    chan struct{} // ends a pause of the sweep
	table    table

	stats struct {
		ok, badRequest, notFound, tooMany, unavailable, failed,
		evicted, matched, sent, bytes, dropped atomic.Uint64
	}
}

// Exchanges at once, with all peers and with one. js-waku opens a stream for each
// request without waiting for the one before.
const (
	exchanges = 1024
	perPeer   = 8
)

// NewServer answers on h from now on.
func NewServer(h host.Host, cfg ServerConfig) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		host:   h,
		cfg:    cfg,
		budget: reqresp.NewBudget[peer.ID](cfg.Rate, cfg.Burst, cfg.MaxSubscribers+reqresp.DefaultBudgetKeys),
		table:  newTable(),
		rouse:  make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.exchanges = reqresp.Serve(h, SubscribeID, reqresp.Config{
		Service:     Service,
		MaxRequest:  maxRequest,
		MaxResponse: maxResponse,
		Concurrency: exchanges,
		PerPeer:     perPeer,
		OnFailure:   s.failed,
		Refuse:      s.refuse,
	}, s.handle)
	return s
}

// Close ends requests and pushes, and waits for it. It is idempotent, and the error
// is nil.
func (s *Server) Close() error {
	s.exchanges.Close()
	s.mu.Lock()
	all := s.table.all()
	if s.closed {
		all = nil
	}
	s.closed = true
	s.table = newTable()
	s.mu.Unlock()
	s.cancel()
	for _, u := range all {
		u.end(nil)
	}
	s.wg.Wait()
	return nil
}

// Push brings a message that was published on a shard to everyone who wants it, and
// returns to how many. It doesn't wait for any of them. The message must not change
// meanwhile, but may afterwards. The same message pushed twice goes out twice.
func (s *Server) Push(pubsubTopic string, m *message.Message) (subscribers int) {
	s.mu.RLock()
	g := s.table.group(pubsubTopic, m.ContentTopic)
	s.mu.RUnlock()
	if g == nil {
		return 0
	}
	frame := newFrame(pubsubTopic, m)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, u := range g.members {
		u.push(frame)
	}
	s.stats.matched.Add(uint64(len(g.members)))
	return len(g.members)
}

// Subscribers returns how many there are.
func (s *Server) Subscribers() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.table.subscribers)
}

func (s *Server) handle(ctx context.Context, from peer.ID, b []byte) ([]byte, error) {
	r, err := decodeRequest(b, s.cfg.MaxTopics)
	if err == nil {
		err = r.check(s.cfg.MaxTopics)
	}
	if r.id == "" {
		r.id = notRead
	}
	// For pacing, not for judging anybody: the machine's clock, not cfg.Now.
	switch wait, ok := s.budget.Take(from, time.Now(), s.cfg.Patience); {
	case !ok:
		return s.answer(r.id, StatusTooManyRequests, reqresp.WithRetryAfter("TOO_MANY_REQUESTS", wait)), nil
	case wait > 0:
		if err := reqresp.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return s.answer(r.id, StatusBadRequest, "BAD_REQUEST: "+err.Error()), nil
	}
	code, desc := s.do(from, r)
	return s.answer(r.id, code, desc), nil
}

func (s *Server) answer(id string, code StatusCode, desc string) []byte {
	c := &s.stats
	switch code {
	case StatusOK:
		c.ok.Add(1)
	case StatusBadRequest:
		c.badRequest.Add(1)
	case StatusNotFound:
		c.notFound.Add(1)
	case StatusTooManyRequests:
		c.tooMany.Add(1)
	default:
		c.unavailable.Add(1)
	}
	return response{id: id, code: code, desc: desc}.append(nil)
}

// refuse answers what handle doesn't get to see. It hasn't been paid for; who can't
// at once is hung up on.
func (s *Server) refuse(from peer.ID, b []byte, err error) []byte {
	if b == nil {
		if _, ok := s.budget.Take(from, time.Now(), 0); !ok {
			return nil
		}
	}
	var tooLarge *wire.FrameTooLargeError
	if errors.As(err, &tooLarge) {
		return s.answer(notRead, StatusBadRequest,
			fmt.Sprintf("BAD_REQUEST: %d bytes, at most %d are read", tooLarge.Size, tooLarge.Limit))
	}
	id := notRead
	if r, _ := decodeRequest(b, s.cfg.MaxTopics); r.id != "" {
		id = r.id
	}
	return s.answer(id, StatusServiceUnavailable, reqresp.WithRetryAfter("SERVICE_UNAVAILABLE: no memory", time.Second))
}

func (s *Server) failed(from peer.ID, err error) {
	s.stats.failed.Add(1)
	tell(s.cfg.OnFailure, from, err)
}
