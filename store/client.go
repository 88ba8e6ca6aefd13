package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

// Defaults of [ClientConfig].
const (
	DefaultTimeout     = 30 * time.Second
	DefaultClientRate  = 8.0 // questions a second
	DefaultClientBurst = 8   // questions
	DefaultMaxAnswer   = 16 << 20
)

// ClientConfig configures a [Client]. The zero value has the defaults.
type ClientConfig struct {
	// Verify says what is wrong with a message beyond its hash, on a protected
	// shard its signature. What it refuses is left out of answers and counted; a
	// store can't be blamed for a message whose key has been retired. Nil: nothing
	// is wrong. It runs on the caller's goroutine.
	Verify func(pubsubTopic string, m *message.Message) error
	// Timeout bounds one exchange with a peer. Half of it bounds the time to the
	// first byte. 0: DefaultTimeout.
	Timeout time.Duration
	// Rate is how many questions a second one peer is asked in the long run, and
	// Burst how many at once; more wait. 0: the defaults. A negative Rate is no
	// limit.
	Rate  float64
	Burst int
	// MaxAnswer is the length of the longest answer read, in bytes. 0:
	// DefaultMaxAnswer, which a hundred messages of 150 KiB fit in, and which is
	// what libp2p's resource manager by default lets one stream hold: more needs
	// a manager that allows it.
	MaxAnswer int
}

// Client asks stores. It is safe for concurrent use and has nothing to close.
type Client struct {
	host    host.Host
	cfg     ClientConfig
	budget  *reqresp.Budget[peer.ID]
	maxRun  int // of a walk
	dropped atomic.Uint64
}

// NewClient returns a client on h.
func NewClient(h host.Host, cfg ClientConfig) *Client {
	cfg.Timeout = cmp.Or(max(cfg.Timeout, 0), DefaultTimeout)
	cfg.Rate = cmp.Or(cfg.Rate, DefaultClientRate)
	cfg.Burst = cmp.Or(max(cfg.Burst, 0), DefaultClientBurst)
	cfg.MaxAnswer = cmp.Or(max(cfg.MaxAnswer, 0), DefaultMaxAnswer)
	return &Client{host: h, cfg: cfg, budget: reqresp.NewBudget[peer.ID](cfg.Rate, cfg.Burst, reqresp.DefaultBudgetKeys), maxRun: defaultMaxRun}
}

// Dropped counts the messages of answers that were left out for not being genuine:
// those that Verify refused, and those that no relay would have forwarded. What is
// left out for other reasons isn't counted: what came before, isn't on a static
// shard, or was sent at the very end of the time asked for, which nwaku includes.
func (c *Client) Dropped() uint64 { return c.dropped.Load() }

// Query asks p for one page. Whoever wants all of them takes [Client.All].
//
// Errors: a *QueryError, when nothing was asked; the context's; an
// [*ExchangeError] when there was no answer, a [*StatusError] when there was a
// refusal, and an [*AnswerError] when the answer isn't one to the question.
func (c *Client) Query(ctx context.Context, p peer.ID, q Query) (Page, error) {
	if q.Limit == 0 && len(q.Hashes) > 0 {
		q.Limit = MaxPageSize // of those asked for, some stores leave out what isn't on the page
	}
	q, err := q.Check()
	if err != nil {
		return Page{}, err
	}
	a, err := c.ask(ctx, p, q)
	if err != nil {
		return Page{}, err
	}
	entries, refused := a.genuine()
	c.dropped.Add(uint64(refused))
	return Page{Entries: entries, Cursor: a.cursor}, nil
}

// ask has one exchange with p and returns what holds as an answer to q, which
// Check has passed.
func (c *Client) ask(ctx context.Context, p peer.ID, q Query) (answer, error) {
	if err := c.wait(ctx, p); err != nil {
		return answer{}, err
	}
	id := rand.Text()
	b, err := reqresp.Do(ctx, c.host, p, ID, reqresp.Config{
		Service:     service,
		MaxResponse: c.cfg.MaxAnswer,
		FirstByte:   c.cfg.Timeout / 2,
		Total:       c.cfg.Timeout,
	}, newRequest(id, q).append(nil))
	if err != nil {
		return answer{}, exchangeError(p, err)
	}
	r, err := decodeResponse(b, q.Limit)
	switch {
	case err != nil:
		return answer{}, &AnswerError{Peer: p, Err: err}
	case r.id != id && r.id != "" && r.id != notRead:
		return answer{}, &AnswerError{Peer: p, Err: wire.Malformed("it is one to another request")}
	case !r.code.success():
		return answer{}, newStatusError(p, r.code, r.desc)
	}
	a, err := c.check(q, r)
	if err != nil {
		return answer{}, &AnswerError{Peer: p, Err: err}
	}
	return a, nil
}

// wait waits until p may be asked.
func (c *Client) wait(ctx context.Context, p peer.ID) error {
	d := c.budget.Reserve(p, time.Now())
	if d <= 0 {
		return nil
	}
	if err := reqresp.Sleep(ctx, d); err != nil {
		c.budget.Refund(p, time.Now())
		return err
	}
	return nil
}

// exchangeError turns an error of reqresp.Do into ours.
func exchangeError(p peer.ID, err error) error {
	var (
		e        *reqresp.Error
		tooLarge *wire.FrameTooLargeError
	)
	switch {
	case errors.Is(err, reqresp.ErrUnsupported):
		err = ErrUnsupported
	case errors.Is(err, wire.ErrBadVarint):
		return &AnswerError{Peer: p, Err: wire.Malformed("%v", wire.ErrBadVarint)}
	case errors.As(err, &tooLarge):
		err = fmt.Errorf("%w: %w", ErrTooLarge, tooLarge)
	case errors.As(err, &e) && e.Op == "read" && errors.Is(err, network.ErrResourceLimitExceeded):
		err = fmt.Errorf("%w: %w", ErrTooLarge, e.Err)
	case errors.As(err, &e):
		err = fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return &ExchangeError{Peer: p, Err: err}
}

// The pauses of patiently, when the peer names none.
const (
	maxPatience  = 5 // times
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// patiently is ask, but waits and asks again when p says that it is asked too
// often, unless that would take too long.
func (c *Client) patiently(ctx context.Context, p peer.ID, q Query) (answer, error) {
	pause := firstPause
	for attempt := 0; ; attempt++ {
		a, err := c.ask(ctx, p, q)
		var status *StatusError
		if !errors.As(err, &status) || status.Code != StatusTooManyRequests ||
			attempt == maxPatience || status.RetryAfter > longestPause {
			return a, err
		}
		if err := reqresp.Sleep(ctx, max(pause, status.RetryAfter)); err != nil {
			return answer{}, err
		}
		pause = min(2*pause, longestPause)
	}
}
