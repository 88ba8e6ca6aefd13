package filter

import (
	"cmp"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
)

// Defaults of [ClientConfig]. go-waku takes a request a second from a peer, nwaku
// thirty a minute: with these a client stays below both.
const (
	DefaultTimeout     = 10 * time.Second
	DefaultClientRate  = 0.3 // requests a second
	DefaultClientBurst = 10  // requests
	DefaultGap         = 1050 * time.Millisecond
)

// ClientConfig configures a [Client]. The zero value has the defaults.
type ClientConfig struct {
	// OnPush takes what service peers bring. It runs on the goroutine of a stream,
	// for one push after the other; while it does, that stream isn't read. It must
	// return soon after Close is called. Nil: nobody takes anything.
	OnPush func(Push)
	// Accepts says whether a push from p is wanted, before anything is computed
	// about it. Nil: what this client is subscribed to at p. It must be quick.
	Accepts func(p peer.ID, pubsubTopic, contentTopic string) bool
	// OnFailure, if set, is told of every stream of pushes that ended otherwise
	// than by its end, of pushes that can't be taken, and why: see the errors of
	// this package, of package message and of the resource manager. It must be
	// quick and may be called from many goroutines.
	OnFailure func(p peer.ID, err error)
	// MaxMessageSize is the length of the longest message taken, encoded, in
	// bytes. 0: message.DefaultMaxSize.
	MaxMessageSize int
	// Timeout bounds one exchange with a peer, not the wait for its turn. 0:
	// DefaultTimeout.
	Timeout time.Duration
	// Rate is how many requests a second one peer gets in the long run, Burst how
	// many before that, and Gap the least time from an answer to the next request.
	// More wait for their turn, in order. 0: the defaults. A negative Rate: no
	// such limits; a peer's own, told with StatusTooManyRequests, is always kept.
	Rate  float64
	Burst int
	Gap   time.Duration
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.MaxMessageSize = cmp.Or(max(c.MaxMessageSize, 0), message.DefaultMaxSize)
	c.Timeout = cmp.Or(max(c.Timeout, 0), DefaultTimeout)
	c.Rate = cmp.Or(c.Rate, DefaultClientRate)
	c.Burst = cmp.Or(max(c.Burst, 0), DefaultClientBurst)
	c.Gap = cmp.Or(max(c.Gap, 0), DefaultGap)
	return c
}

// ClientStats counts what a client has met.
type ClientStats struct {
	Requests uint64 // sent
	Pushes   uint64 // handed to OnPush
	Bytes    uint64 // of the frames that brought them
	NotAsked uint64 // pushes of what nobody wants
	Invalid  uint64 // pushes of messages that are none, or too large
	Failed   uint64 // streams that ended badly
}

// Client subscribes at service peers and takes their pushes, until it is closed. It
// is safe for concurrent use.
type Client struct {
	host   host.Host
	cfg    ClientConfig
	ctx    context.Context // ends at Close
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	closed   bool
	contacts map[peer.ID]*contact
	streams  int // of pushes, from all peers
	wg       sync.WaitGroup

	stats struct{ requests, pushes, bytes, notAsked, invalid, failed atomic.Uint64 }
}

// contact is what a client knows of one peer; Client.mu guards it. It is forgotten
// when there is nothing to know any more.
type contact struct {
	line    line
	held    criteria
	streams int // of pushes
}

// NewClient takes pushes on h from now on. Subscribe only when peers know it: a
// service peer may look at what identify said of us.
func NewClient(h host.Host, cfg ClientConfig) *Client {
	c := &Client{host: h, cfg: cfg.withDefaults(), contacts: make(map[peer.ID]*contact)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	h.SetStreamHandler(PushID, c.handle)
	return c
}

// Close ends what is going on, requests and pushes, and waits for it. It tells
// nobody: who wants to unsubscribe does so before. It is idempotent, and the error
// is nil.
func (c *Client) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.host.RemoveStreamHandler(PushID)
		c.cancel(net.ErrClosed)
	}
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// Stats returns what the client has met so far.
func (c *Client) Stats() ClientStats {
	s := &c.stats
	return ClientStats{
		Requests: s.requests.Load(),
		Pushes:   s.pushes.Load(),
		Bytes:    s.bytes.Load(),
		NotAsked: s.notAsked.Load(),
		Invalid:  s.invalid.Load(),
		Failed:   s.failed.Load(),
	}
}

// contact returns the peer's, which may be new. c.mu is held.
func (c *Client) contact(p peer.ID) *contact {
	k := c.contacts[p]
	if k == nil {
		c.sweep()
		k = &contact{line: newLine(c.cfg.Burst)}
		c.contacts[p] = k
	}
	return k
}

// fewContacts is how many contacts aren't worth looking through.
const fewContacts = 256

// sweep forgets peers that are no different from strangers. c.mu is held.
func (c *Client) sweep() {
	if len(c.contacts) < fewContacts {
		return
	}
	now := time.Now()
	for p, k := range c.contacts {
		if k.streams == 0 && len(k.held) == 0 && k.line.fresh(now, c.cfg) {
			delete(c.contacts, p)
		}
	}
}

// withClose is ctx, ending with net.ErrClosed at Close at the latest.
func (c *Client) withClose(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(net.ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// withDial lets relayed connections do.
func withDial(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(ctx, Service)
}
