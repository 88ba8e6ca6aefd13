package peerexchange

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// Defaults of [ClientConfig].
const (
	DefaultTimeout    = 10 * time.Second
	DefaultClientRate = 0.8 // questions a second
)

// ClientConfig configures a [Client]. The zero value has the defaults.
type ClientConfig struct {
	// Timeout bounds one exchange with a peer, but not the wait until the peer may
	// be asked again. 0: DefaultTimeout.
	Timeout time.Duration
	// MaxPeers is how many peers are asked for at most, and how many records of an
	// answer are looked at. 0: DefaultMaxPeers, the most that nwaku gives.
	MaxPeers int
	// Rate is how many questions a second one peer is asked; more wait. go-waku
	// allows one. 0: DefaultClientRate. Negative: no limit, nor any wait after a
	// StatusTooManyRequests.
	Rate float64
}

// ClientStats counts what became of questions that were sent, or could not be.
type ClientStats struct {
	// Answered questions have an Answer, Refused ones a *StatusError, and Failed
	// ones an *ExchangeError.
	Answered, Refused, Failed uint64
	// Peers is how many peers the answers had, and Discarded how many records were
	// left out of them.
	Peers, Discarded uint64
}

// Client asks for peers. It is safe for concurrent use and has nothing to close.
type Client struct {
	host   host.Host
	cfg    ClientConfig
	budget *reqresp.Budget[peer.ID]
	stats  struct{ answered, refused, failed, peers, discarded atomic.Uint64 }
}

// NewClient returns a client on h.
func NewClient(h host.Host, cfg ClientConfig) *Client {
	cfg.Timeout = cmp.Or(max(cfg.Timeout, 0), DefaultTimeout)
	cfg.MaxPeers = cmp.Or(max(cfg.MaxPeers, 0), DefaultMaxPeers)
	cfg.Rate = cmp.Or(cfg.Rate, DefaultClientRate)
	return &Client{host: h, cfg: cfg, budget: reqresp.NewBudget[peer.ID](cfg.Rate, 1, reqresp.DefaultBudgetKeys)}
}

// Stats returns what became of questions so far.
func (c *Client) Stats() ClientStats {
	s := &c.stats
	return ClientStats{
		Answered:  s.answered.Load(),
		Refused:   s.refused.Load(),
		Failed:    s.failed.Load(),
		Peers:     s.peers.Load(),
		Discarded: s.discarded.Load(),
	}
}

// Ask asks p for n peers, one at least and MaxPeers at most. It dials when there is
// no connection, unless ctx says otherwise (network.WithNoDial).
//
// One peer is asked no faster than the configured rate; after a
// StatusTooManyRequests the next question waits for as long as the peer asked. ctx
// bounds the waiting as well; when it will end before the question's turn, that is
// said at once, with a *TurnError.
//
// Errors: the context's and a *TurnError, when nothing was sent; a [*StatusError]
// when there was a refusal, and an [*ExchangeError] when there was no answer. An
// Answer without peers is no error: nothing in it was of use.
func (c *Client) Ask(ctx context.Context, p peer.ID, n int) (Answer, error) {
	if err := c.wait(ctx, p); err != nil {
		return Answer{}, err
	}
	a, err := c.ask(ctx, p, min(max(n, 1), c.cfg.MaxPeers))
	c.count(a, err)
	var status *StatusError
	switch {
	case errors.Is(err, ErrUnsupported):
		c.budget.Refund(p, time.Now()) // nobody has counted it
	case errors.As(err, &status) && status.Code == StatusTooManyRequests:
		c.budget.Hold(p, time.Now(), cmp.Or(status.RetryAfter, pause))
	}
	return a, err
}

// pause is for a peer that is asked too often and doesn't say when to come back.
const pause = 5 * time.Second

// maxWait is more than a question ever waits for its turn.
const maxWait = time.Hour

// wait waits until p may be asked.
func (c *Client) wait(ctx context.Context, p peer.ID) error {
	patience := maxWait
	now := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		patience = deadline.Sub(now)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d, ok := c.budget.Take(p, now, patience)
	if !ok {
		return &TurnError{Peer: p, After: d}
	}
	if err := reqresp.Sleep(ctx, d); err != nil {
		c.budget.Refund(p, time.Now())
		return err
	}
	return nil
}

// ask has one exchange with p.
func (c *Client) ask(ctx context.Context, p peer.ID, n int) (Answer, error) {
	b, err := reqresp.Do(ctx, c.host, p, ID, reqresp.Config{
		Service:     service,
		MaxResponse: max(c.cfg.MaxPeers*perPeer+envelope, leastAnswer),
		FirstByte:   c.cfg.Timeout,
		Total:       c.cfg.Timeout,
	}, appendQuery(nil, uint64(n)))
	if err != nil {
		return Answer{}, exchangeError(p, err)
	}
	r, err := decodeResponse(b, c.cfg.MaxPeers)
	switch {
	case err != nil:
		return Answer{}, &ExchangeError{Peer: p, Err: err}
	case r.code != StatusSuccess:
		return Answer{}, newStatusError(p, r.code, r.desc)
	}
	return check(r, n, c.host.ID()), nil
}

// leastAnswer is read in any case, in bytes: not everybody counts.
const leastAnswer = 64 << 10

func (c *Client) count(a Answer, err error) {
	var status *StatusError
	switch {
	case err == nil:
		c.stats.answered.Add(1)
		c.stats.peers.Add(uint64(len(a.Peers)))
		for _, n := range a.Refused {
			c.stats.discarded.Add(uint64(n))
		}
	case errors.As(err, &status):
		c.stats.refused.Add(1)
	default:
		c.stats.failed.Add(1)
	}
}

// exchangeError turns an error of reqresp.Do into ours.
func exchangeError(p peer.ID, err error) error {
	return &ExchangeError{Peer: p, Err: reqresp.Reason(err, ErrUnsupported, ErrTooLarge)}
}
