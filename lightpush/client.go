package lightpush

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// Defaults of [ClientConfig].
const (
	DefaultTimeout     = 10 * time.Second
	DefaultClientRate  = 4.0 // pushes a second
	DefaultClientBurst = 10  // pushes
	DefaultLegacyRate  = 0.8 // pushes a second
)

// ClientConfig configures a [Client]. The zero value has the defaults.
type ClientConfig struct {
	// MaxMessageSize is the network's limit for an encoded message, in bytes; what
	// is larger isn't sent. 0: message.DefaultMaxSize.
	MaxMessageSize int
	// Timeout bounds one exchange with a peer, but not the wait for its turn. 0:
	// DefaultTimeout.
	Timeout time.Duration
	// Rate is how many pushes a second one peer gets in the long run, and Burst how
	// many at once; more wait. They are for peers of version 3, and below what
	// Shoal's server allows; nwaku's is free by default. 0: the defaults. A
	// negative Rate is no limit.
	Rate  float64
	Burst int
	// LegacyRate is the same for peers of version 2, one at once. go-waku allows one
	// a second. 0: DefaultLegacyRate. Negative: no limit.
	LegacyRate float64
}

// ClientStats counts what became of pushes that were sent, or could not be.
type ClientStats struct {
	// Accepted pushes have a Receipt, Refused ones a *StatusError, and Failed ones
	// an *ExchangeError.
	Accepted, Refused, Failed uint64
	// Legacy is how many of the first two were in version 2.
	Legacy uint64
	// Bytes is the length of all requests, in bytes.
	Bytes uint64
}

// Client pushes messages. It is safe for concurrent use and has nothing to close.
type Client struct {
	host  host.Host
	cfg   ClientConfig
	lanes lanes
	paces [2]pace // of the current version and of the legacy one
	stats struct{ accepted, refused, failed, legacy, bytes atomic.Uint64 }
}

// NewClient returns a client on h.
func NewClient(h host.Host, cfg ClientConfig) *Client {
	cfg.MaxMessageSize = cmp.Or(max(cfg.MaxMessageSize, 0), message.DefaultMaxSize)
	cfg.Timeout = cmp.Or(max(cfg.Timeout, 0), DefaultTimeout)
	cfg.Rate = cmp.Or(cfg.Rate, DefaultClientRate)
	cfg.Burst = cmp.Or(max(cfg.Burst, 0), DefaultClientBurst)
	cfg.LegacyRate = cmp.Or(cfg.LegacyRate, DefaultLegacyRate)
	return &Client{host: h, cfg: cfg, paces: [2]pace{newPace(cfg.Rate, cfg.Burst), newPace(cfg.LegacyRate, 1)}}
}

// Stats returns what became of pushes so far.
func (c *Client) Stats() ClientStats {
	s := &c.stats
	return ClientStats{
		Accepted: s.accepted.Load(),
		Refused:  s.refused.Load(),
		Failed:   s.failed.Load(),
		Legacy:   s.legacy.Load(),
		Bytes:    s.bytes.Load(),
	}
}

// Push hands m to p, which relays it on shard s. It dials when there is no
// connection, unless ctx says otherwise (network.WithNoDial).
//
// Pushes to one peer go one after the other, in the order of the calls and no faster
// than the configured rate; after a StatusTooManyRequests the next one waits for as
// long as the peer asked. ctx bounds the waiting as well; when it will end before it
// is the push's turn, that is said at once, with a *TurnError.
//
// The message should have a timestamp: nwaku gives one to a message without, which
// then has another hash.
//
// Errors: those of message.Validate, sharding.Shard.Valid and
// *message.TooLargeError, when nothing was sent; the context's; a *TurnError; a
// [*StatusError] when there was a refusal, and an [*ExchangeError] when there was no
// answer.
func (c *Client) Push(ctx context.Context, p peer.ID, s sharding.Shard, m *message.Message) (Receipt, error) {
	if err := cmp.Or(s.Valid(), m.Validate(), m.CheckSize(c.cfg.MaxMessageSize)); err != nil {
		return Receipt{}, err
	}
	lane, err := c.lanes.enter(ctx, p)
	if err != nil {
		return Receipt{}, err
	}
	defer c.lanes.leave(lane)

	versions := c.versions(p)
	for i, v := range versions {
		undo, err := lane.wait(ctx, p, c.pace(v))
		if err != nil {
			return Receipt{}, err
		}
		r, err := c.push(ctx, p, v, s, m)
		if errors.Is(err, ErrUnsupported) {
			undo() // nobody has counted it
			if i+1 < len(versions) {
				continue
			}
		}
		c.count(v, err)
		lane.answered(err)
		return r, err
	}
	panic("unreachable")
}

// versions returns what to try: first what p is known to speak.
func (c *Client) versions(p peer.ID) [2]*version {
	known, err := c.host.Peerstore().SupportsProtocols(p, ID, LegacyID)
	if err == nil && slices.Contains(known, LegacyID) && !slices.Contains(known, ID) {
		return [2]*version{legacy, current}
	}
	return [2]*version{current, legacy}
}

func (c *Client) pace(v *version) pace {
	if v == legacy {
		return c.paces[1]
	}
	return c.paces[0]
}

// push has one exchange with p.
func (c *Client) push(ctx context.Context, p peer.ID, v *version, s sharding.Shard, m *message.Message) (Receipt, error) {
	id := rand.Text()
	request := v.appendRequest(make([]byte, 0, m.Size()+len(id)+128), id, s.PubsubTopic(), m)
	b, err := reqresp.Do(ctx, c.host, p, v.id, reqresp.Config{
		Service:     service,
		MaxResponse: maxAnswer,
		FirstByte:   c.cfg.Timeout, // the answer follows the request, which may take its time
		Total:       c.cfg.Timeout,
	}, request)
	if err != nil {
		return Receipt{}, exchangeError(p, err)
	}
	c.stats.bytes.Add(uint64(len(request)))
	r, err := v.decodeResponse(b)
	switch {
	case err != nil:
		return Receipt{}, &ExchangeError{Peer: p, Err: err}
	case r.id != id && r.id != "" && r.id != notRead:
		return Receipt{}, &ExchangeError{Peer: p, Err: wire.Malformed("the answer is one to another request")}
	case r.code != StatusSuccess:
		return Receipt{}, newStatusError(p, r.code, r.desc)
	case r.peers == 0:
		return Receipt{}, newStatusError(p, StatusNoPeersToRelay, r.desc)
	}
	return Receipt{Peer: p, RelayPeers: r.peers, Version: v.number}, nil
}

func (c *Client) count(v *version, err error) {
	var status *StatusError
	switch {
	case err == nil:
		c.stats.accepted.Add(1)
	case errors.As(err, &status):
		c.stats.refused.Add(1)
	default:
		c.stats.failed.Add(1)
		return
	}
	if v == legacy {
		c.stats.legacy.Add(1)
	}
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
	case errors.Is(err, wire.ErrBadVarint), errors.As(err, &tooLarge):
		err = wire.Malformed("%v", errors.Unwrap(err))
	case errors.As(err, &e):
		err = fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return &ExchangeError{Peer: p, Err: err}
}
