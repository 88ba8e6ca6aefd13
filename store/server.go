package store

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

// Source is what a [Server] answers from: an [Archive], or part of one.
type Source interface {
	// Query is that of [Archive].
	Query(ctx context.Context, q Query) (Page, error)
}

// Defaults of [ServerConfig].
const (
	DefaultPageBytes    = 1 << 20
	DefaultServerRate   = 20.0 // questions a second
	DefaultServerBurst  = 50   // questions
	DefaultPatience     = 500 * time.Millisecond
	DefaultQueries      = 16  // at once
	DefaultWaiting      = 512 // questions
	DefaultAnswerBytes  = 64 << 20
	DefaultQueryTimeout = 5 * time.Second
)

// ServerConfig configures a [Server]. The zero value has the defaults.
type ServerConfig struct {
	// PageBytes ends a page early, when its messages have so many bytes. A page
	// has one message at least. 0: DefaultPageBytes.
	PageBytes int
	// Rate is how many questions a second a peer may ask in the long run, and
	// Burst how many at once; more are answered with StatusTooManyRequests. 0: the
	// defaults. A negative Rate is no limit.
	Rate  float64
	Burst int
	// Patience is how long a question beyond Rate is kept waiting rather than
	// refused: js-waku doesn't ask again. Who asks one thing after the other is
	// slowed down and never refused. 0: DefaultPatience. Negative: none.
	Patience time.Duration
	// Queries is how many questions the archive is asked at once. 0:
	// DefaultQueries.
	Queries int
	// Waiting is how many more may wait for their turn: for eight seconds. While
	// the archive answers nobody it is one second, or QueryTimeout if the source
	// has the method Condition of [Archive] and says that it is ready: then the
	// machine is busy. 0: DefaultWaiting.
	Waiting int
	// AnswerBytes bounds the memory for answers that are being sent, in bytes: no
	// question is put to the archive while they have so many, or while those to
	// the same peer have an eighth. One that was put and isn't answered yet counts
	// for PageBytes. 0: DefaultAnswerBytes.
	AnswerBytes int
	// QueryTimeout is how long the archive may take. A question that takes
	// longer, or for which there is no room, is answered with
	// StatusServiceUnavailable. 0: DefaultQueryTimeout.
	QueryTimeout time.Duration
	// OnFailure, if set, is told of every question that got no answer, and of
	// every one that was answered with StatusServiceUnavailable, and why. It must
	// be quick and may be called from many goroutines.
	OnFailure func(from peer.ID, err error)
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.PageBytes = cmp.Or(max(c.PageBytes, 0), DefaultPageBytes)
	c.Rate = cmp.Or(c.Rate, DefaultServerRate)
	c.Burst = cmp.Or(max(c.Burst, 0), DefaultServerBurst)
	c.Patience = max(cmp.Or(c.Patience, DefaultPatience), 0)
	c.Queries = cmp.Or(max(c.Queries, 0), DefaultQueries)
	c.Waiting = cmp.Or(max(c.Waiting, 0), DefaultWaiting)
	c.AnswerBytes = cmp.Or(max(c.AnswerBytes, 0), DefaultAnswerBytes)
	c.QueryTimeout = cmp.Or(max(c.QueryTimeout, 0), DefaultQueryTimeout)
	return c
}

const (
	// waitLimit is how long a question waits for its turn while the archive
	// hangs: those who ask are told so within this time. An archive that knows when
	// its database is away is trusted for QueryTimeout when it says that it isn't.
	waitLimit = time.Second
	// queueLimit is how long it waits while the archive answers others. With
	// DefaultPatience and DefaultQueryTimeout it is less than the fifteen seconds
	// for which our client waits for the first byte.
	queueLimit = 8 * time.Second
	// requestTime is for the request to come, of which clients make one write, and
	// serverTotal for the exchange: a page takes its time on a slow link. Whoever
	// takes nothing of his answer for stallLimit is hung up on before.
	requestTime = 10 * time.Second
	serverTotal = 30 * time.Second
	stallLimit  = 5 * time.Second
	// exchanges is how many run at once, those included whose answer is being
	// sent, and perPeer how many with one peer: go-waku's history asks three
	// questions at once, js-waku one. Whoever asks half a question or doesn't read
	// the answer holds his share, so that it takes many names to hold them all.
	exchanges = 1024
	perPeer   = 8
	// shares is how many peers' answers fill the memory for answers.
	shares = 8
)

// ServerStats counts what a server has done.
type ServerStats struct {
	// Answers by their status.
	Success, BadResponse, BadRequest, TooManyRequests, Unavailable uint64
	// Failed counts the exchanges that came to nothing: not read to their end,
	// answer not sent, refused unread; and also those refused for their length or
	// for want of memory, who got a BadRequest or Unavailable for an answer, or
	// none if they asked too often.
	Failed uint64
	// Entries and Bytes are what the answers held: entries and encoded answers.
	Entries, Bytes uint64
}

// Server answers questions of other peers until it is closed.
type Server struct {
	source Source
	cfg    ServerConfig
	budget *reqresp.Budget[peer.ID]
	queue  *queue
	breath *breath
	closes sync.Once

	exchanges *reqresp.Server
	stats     struct {
		success, badResponse, badRequest, tooMany, unavailable, failed, entries, bytes atomic.Uint64
	}
}

// NewServer answers on h from now on. The source must outlive the server.
func NewServer(h host.Host, source Source, cfg ServerConfig) *Server {
	cfg = cfg.withDefaults()
	b := newBreath()
	s := &Server{
		source: source,
		cfg:    cfg,
		budget: reqresp.NewBudget[peer.ID](cfg.Rate, cfg.Burst, reqresp.DefaultBudgetKeys),
		queue:  newQueue(cfg, b.take),
		breath: b,
	}
	s.exchanges = reqresp.Serve(h, ID, reqresp.Config{
		Service:     service,
		MaxRequest:  maxRequest,
		MaxResponse: maxRequest + cfg.PageBytes + message.LargeMaxSize + MaxPageSize*256,
		Request:     requestTime,
		Total:       serverTotal,
		Stall:       stallLimit,
		Concurrency: exchanges,
		PerPeer:     perPeer,
		OnFailure:   s.failed,
		Refuse:      s.refuse,
		Sent:        s.queue.drop,
	}, s.handle)
	return s
}

// service is the protocol's name for the resource manager.
const service = "waku.store"

// Close ends running exchanges and waits for them. It is idempotent.
func (s *Server) Close() error {
	err := s.exchanges.Close()
	s.closes.Do(func() {
		s.queue.breaths.Wait()
		s.breath.close()
	})
	return err
}

// Stats returns what the server has done so far.
func (s *Server) Stats() ServerStats {
	c := &s.stats
	return ServerStats{
		Success:         c.success.Load(),
		BadResponse:     c.badResponse.Load(),
		BadRequest:      c.badRequest.Load(),
		TooManyRequests: c.tooMany.Load(),
		Unavailable:     c.unavailable.Load(),
		Failed:          c.failed.Load(),
		Entries:         c.entries.Load(),
		Bytes:           c.bytes.Load(),
	}
}

// notRead is the request id of an answer to a request that wasn't read.
const notRead = "N/A"

func (s *Server) handle(ctx context.Context, from peer.ID, b []byte) ([]byte, error) {
	r, err := decodeRequest(b)
	if err != nil && r.id == "" {
		r.id = notRead
	}
	switch wait, ok := s.budget.Take(from, time.Now(), s.cfg.Patience); {
	case !ok:
		return s.reply(from, r.id, StatusTooManyRequests, reqresp.WithRetryAfter("TOO_MANY_REQUESTS", wait), Page{}), nil
	case wait > 0:
		if err := reqresp.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return s.apologise(from, r.id, err), nil
	}
	q, err := r.query()
	if err != nil {
		return s.apologise(from, r.id, err), nil
	}
	b, err = s.query(ctx, from, r.id, q)
	if err == nil {
		return b, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause // nobody waits for the answer
	}
	return s.apologise(from, r.id, err), nil
}

// apologise answers a question that has no answer.
func (s *Server) apologise(from peer.ID, id string, err error) []byte {
	code, desc := describe(err)
	if code == StatusServiceUnavailable {
		desc = reqresp.WithRetryAfter(desc, waitLimit)
		if s.cfg.OnFailure != nil {
			s.cfg.OnFailure(from, err)
		}
	}
	return s.reply(from, id, code, desc, Page{})
}

// reply is answer for what is sent in an exchange of the handler's, which keeps
// account of it.
func (s *Server) reply(from peer.ID, id string, code StatusCode, desc string, page Page) []byte {
	b := s.answer(id, code, desc, page)
	s.queue.hold(from, len(b))
	return b
}

func (s *Server) answer(id string, code StatusCode, desc string, page Page) []byte {
	b := appendResponse(make([]byte, 0, responseSize(id, desc, page)), id, code, desc, page)
	c := &s.stats
	switch code {
	case StatusSuccess:
		c.success.Add(1)
	case StatusBadResponse:
		c.badResponse.Add(1)
	case StatusBadRequest:
		c.badRequest.Add(1)
	case StatusTooManyRequests:
		c.tooMany.Add(1)
	default:
		c.unavailable.Add(1)
	}
	c.entries.Add(uint64(len(page.Entries)))
	c.bytes.Add(uint64(len(b)))
	return b
}

// query answers from the archive when it is this question's turn, which ends
// when the answer is accounted for.
func (s *Server) query(ctx context.Context, from peer.ID, id string, q Query) ([]byte, error) {
	if err := s.turn(ctx, from); err != nil {
		return nil, err
	}
	defer s.queue.leave(from)
	page, err := s.page(ctx, q)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.reply(from, id, StatusSuccess, "OK", page), nil
}

// page asks the archive.
func (s *Server) page(ctx context.Context, q Query) (Page, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.QueryTimeout,
		fmt.Errorf("%w: no answer within %v", ErrUnavailable, s.cfg.QueryTimeout))
	defer cancel()
	q.MaxBytes = s.cfg.PageBytes
	page, err := s.source.Query(ctx, q)
	if err == nil || errors.Is(err, ErrUnknownCursor) {
		s.queue.answered()
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil && q.HashesOnly {
		page.Entries = bare(page.Entries)
	}
	return page, err
}

// errCrowded says that a question had to make room for those of others.
var errCrowded = fmt.Errorf("%w: too many questions", ErrUnavailable)

// turn waits until the archive may be asked one more question.
func (s *Server) turn(ctx context.Context, from peer.ID) error {
	w, ok := s.queue.enter(from)
	if !ok {
		return errCrowded
	}
	select {
	case <-w.ready:
		return nil
	default:
	}
	began := time.Now()
	timer := time.NewTimer(waitLimit)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-w.ready:
			return nil
		case <-w.full:
			return errCrowded
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timer.C:
			rest := min(s.hangLimit()-s.queue.quiet(), queueLimit-time.Since(began))
			if rest > 0 {
				timer.Reset(min(rest, waitLimit))
				continue
			}
			err = fmt.Errorf("%w: the turn didn't come", ErrUnavailable)
		}
		if !s.queue.abandon(w) {
			select {
			case <-w.full:
				return errCrowded
			default:
				return nil
			}
		}
		return err
	}
}

// hangLimit is how long the archive may answer nobody before it hangs.
func (s *Server) hangLimit() time.Duration {
	c, ok := s.source.(interface{ Condition() Condition })
	if ok && c.Condition().State == Ready {
		return max(waitLimit, s.cfg.QueryTimeout)
	}
	return waitLimit
}

// bare makes sure that no messages go out unasked.
func bare(entries []Entry) []Entry {
	out := make([]Entry, len(entries))
	for i, e := range entries {
		out[i] = Entry{Hash: e.Hash}
	}
	return out
}

// refuse answers what handle doesn't get to see, or has answered at too great a
// length for the memory there is. A request that handle hasn't seen hasn't been
// paid for either; who can't at once is hung up on.
func (s *Server) refuse(from peer.ID, b []byte, err error) []byte {
	if b == nil {
		if _, ok := s.budget.Take(from, time.Now(), 0); !ok {
			return nil
		}
	}
	var tooLarge *wire.FrameTooLargeError
	if errors.As(err, &tooLarge) {
		return s.answer(notRead, StatusBadRequest,
			fmt.Sprintf("BAD_REQUEST: %d bytes, at most %d are read", tooLarge.Size, tooLarge.Limit), Page{})
	}
	id := notRead
	if r, err := decodeRequest(b); b != nil && (err == nil || r.id != "") {
		id = r.id
	}
	return s.answer(id, StatusServiceUnavailable, reqresp.WithRetryAfter("SERVICE_UNAVAILABLE: no memory", waitLimit), Page{})
}

func (s *Server) failed(from peer.ID, err error) {
	s.stats.failed.Add(1)
	if s.cfg.OnFailure != nil {
		s.cfg.OnFailure(from, err)
	}
}
