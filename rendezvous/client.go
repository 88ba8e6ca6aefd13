package rendezvous

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// DefaultTimeout is for one exchange.
const DefaultTimeout = 10 * time.Second

// ClientConfig configures a [Client]. The zero value has the defaults.
type ClientConfig struct {
	// Timeout bounds one exchange with a point. 0: DefaultTimeout.
	Timeout time.Duration
}

// ClientStats counts what became of requests that were sent, or could not be.
type ClientStats struct {
	// Answered requests were granted, Refused ones have a *StatusError, and Failed
	// ones an *ExchangeError. A request to unregister that was sent is Answered.
	Answered, Refused, Failed uint64
	// Peers is how many peers the answers had, and Discarded how many registrations
	// were left out of them.
	Peers, Discarded uint64
}

// Client registers with rendezvous points and asks them for peers. It is safe for
// concurrent use and has nothing to close.
type Client struct {
	host  host.Host
	cfg   ClientConfig
	stats struct{ answered, refused, failed, peers, discarded atomic.Uint64 }

	mu     sync.Mutex
	addrs  []ma.Multiaddr // of record
	record []byte         // the newest, since it needn't be signed again
}

// NewClient returns a client on h, whose key signs what it registers.
func NewClient(h host.Host, cfg ClientConfig) *Client {
	cfg.Timeout = cmp.Or(max(cfg.Timeout, 0), DefaultTimeout)
	return &Client{host: h, cfg: cfg}
}

// Stats returns what became of requests so far.
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

// Register leaves the host's addresses with p for a time, and returns for how long
// they will be kept there. Registering again replaces the addresses and the time.
//
// Addresses that don't fit are left out, those behind them first: at most MaxAddrs
// and MaxAddrBytes are taken. ttl is rounded to seconds; 0: DefaultTTL. It dials when
// there is no connection, unless ctx says otherwise (network.WithNoDial).
//
// Errors: ErrNamespace, ErrNoAddress and ErrNoKey, when nothing was sent; a
// [*StatusError] when the point refused, and an [*ExchangeError] when there was no
// answer.
func (c *Client) Register(ctx context.Context, p peer.ID, ns string, addrs []ma.Multiaddr, ttl time.Duration) (granted time.Duration, err error) {
	if err := checkNamespace(ns); err != nil {
		return 0, err
	}
	record, err := c.sign(addrs)
	if err != nil {
		return 0, err
	}
	seconds := uint64(max(cmp.Or(ttl, DefaultTTL)/time.Second, 1))
	r, err := c.exchange(ctx, p, request{kind: kindRegister, reg: register{ns: []byte(ns), record: record, ttl: seconds}}, 0)
	if err != nil {
		return 0, err
	}
	if r.ttl == 0 { // it isn't said by all
		return time.Duration(seconds) * time.Second, nil
	}
	return toTTL(r.ttl), nil
}

// toTTL is so many seconds, at most MaxTTL.
func toTTL(seconds uint64) time.Duration {
	return time.Duration(min(seconds, uint64(MaxTTL/time.Second))) * time.Second
}

// sign returns a signed record of the addresses.
func (c *Client) sign(addrs []ma.Multiaddr) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	same := func(a, b ma.Multiaddr) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }
	if c.record != nil && slices.EqualFunc(c.addrs, addrs, same) {
		return c.record, nil
	}
	key := c.host.Peerstore().PrivKey(c.host.ID())
	if key == nil {
		return nil, ErrNoKey
	}
	record, err := seal(key, addrs)
	if err != nil {
		return nil, err
	}
	c.addrs, c.record = slices.Clone(addrs), record
	return record, nil
}

// Unregister takes the host's registration back. Points don't answer to that: without
// an error it was sent, and the point has let go of the stream.
//
// Errors: ErrNamespace, and an [*ExchangeError].
func (c *Client) Unregister(ctx context.Context, p peer.ID, ns string) error {
	if err := checkNamespace(ns); err != nil {
		return err
	}
	_, err := c.do(ctx, p, request{kind: kindUnregister, reg: register{ns: []byte(ns)}}, envelope)
	if letGo(err) {
		err = nil
	}
	if err != nil {
		err = exchangeError(p, err)
	}
	c.count(err)
	return err
}

// letGo reports whether all that happened is that the other side ended the stream,
// which it may do while we are closing our side: what a stream says then depends on
// the multiplexer.
func letGo(err error) bool {
	var (
		e       *reqresp.Error
		timeout *reqresp.TimeoutError
		conn    *network.ConnError
		large   *wire.FrameTooLargeError
	)
	switch {
	case !errors.As(err, &e), e.Op == "open", errors.As(err, &timeout), errors.As(err, &conn), errors.As(err, &large),
		errors.Is(err, reqresp.ErrUnsupported), errors.Is(err, wire.ErrBadVarint),
		errors.Is(err, network.ErrResourceLimitExceeded),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	}
	return true
}

// Discover asks p for n peers of a namespace, one at least and MaxPeers at most; 0:
// DefaultPeers. Without a namespace it asks for peers of all. It goes on where the
// cookie points to; one of another point or namespace, or one that the point has
// forgotten, is the beginning. It dials when there is no connection, unless ctx says
// otherwise (network.WithNoDial).
//
// A point that doesn't know the namespace has no peers in it: that is no error.
//
// Errors: ErrNamespace, a [*StatusError] when the point refused, and an
// [*ExchangeError] when there was no answer. An Answer without peers is no error.
func (c *Client) Discover(ctx context.Context, p peer.ID, ns string, n int, from Cookie) (Answer, error) {
	if ns != "" {
		if err := checkNamespace(ns); err != nil {
			return Answer{}, err
		}
	}
	n = min(max(cmp.Or(n, DefaultPeers), 1), MaxPeers)
	q := request{kind: kindDiscover, reg: register{ns: []byte(ns)}, limit: uint64(n)}
	if from.point == p && from.ns == ns && len(from.value) <= maxCookie {
		q.cookie = []byte(from.value)
	}
	r, err := c.exchange(ctx, p, q, n)
	var status *StatusError
	if errors.As(err, &status) {
		switch {
		case status.Code == StatusInvalidCookie && len(q.cookie) > 0:
			q.cookie = nil
			r, err = c.exchange(ctx, p, q, n)
		case status.Code == StatusInvalidNamespace && ns != "":
			return Answer{}, nil
		}
	}
	if err != nil {
		return Answer{}, err
	}
	a := check(r, ns, n, c.host.ID())
	a.Cookie = Cookie{point: p, ns: ns, value: string(r.cookie)}
	c.stats.peers.Add(uint64(len(a.Peers)))
	for _, n := range a.Refused {
		c.stats.discarded.Add(uint64(n))
	}
	return a, nil
}

// maxCookie is the length of the longest cookie that is sent back: a longer one
// might not be read.
const maxCookie = narrow - MaxNamespace - 64

// leastAnswer is read in any case, in bytes: not everybody counts.
const leastAnswer = 64 << 10

// exchange has one exchange with p and returns the response that grants it.
func (c *Client) exchange(ctx context.Context, p peer.ID, q request, n int) (r response, err error) {
	defer func() { c.count(err) }()
	b, err := c.do(ctx, p, q, max(n*perPeer+envelope, leastAnswer))
	if err != nil {
		return response{}, exchangeError(p, err)
	}
	r, err = decodeResponse(b, q.kind+1, n)
	switch {
	case err != nil:
		return response{}, &ExchangeError{Peer: p, Err: err}
	case r.status != StatusOK:
		return response{}, newStatusError(p, r.status, r.text)
	}
	return r, nil
}

func (c *Client) do(ctx context.Context, p peer.ID, q request, longest int) ([]byte, error) {
	return reqresp.Do(ctx, c.host, p, ID, reqresp.Config{
		Service:     service,
		MaxResponse: longest,
		FirstByte:   c.cfg.Timeout,
		Total:       c.cfg.Timeout,
	}, appendRequest(nil, q))
}

func (c *Client) count(err error) {
	var status *StatusError
	switch {
	case err == nil:
		c.stats.answered.Add(1)
	case errors.As(err, &status):
		c.stats.refused.Add(1)
	default:
		c.stats.failed.Add(1)
	}
}

// checkNamespace returns ErrNamespace unless ns can be one.
func checkNamespace(ns string) error {
	if ns == "" || len(ns) > MaxNamespace || !utf8.ValidString(ns) {
		return fmt.Errorf("%w: %q", ErrNamespace, ns[:min(len(ns), MaxNamespace)])
	}
	return nil
}

// check returns what holds of an answer to a question for n peers by self.
func check(r response, ns string, n int, self peer.ID) Answer {
	var a Answer
	refuse := func(why string, n int) {
		if a.Refused == nil {
			a.Refused = make(map[string]int)
		}
		a.Refused[why] += n
	}
	type place struct {
		peer peer.ID
		ns   string
	}
	at := make(map[place]int, min(n, len(r.regs)))
	for i, g := range r.regs {
		if len(a.Peers) >= n {
			refuse(RefusedSurplus, len(r.regs)-i)
			break
		}
		p, wrong := checkOne(g, ns)
		if wrong == "" && p.Info.ID == self {
			wrong = RefusedSelf
		}
		if wrong != "" {
			refuse(wrong, 1)
			continue
		}
		here := place{p.Info.ID, p.Namespace}
		j, known := at[here]
		switch {
		case !known:
			at[here] = len(a.Peers)
			a.Peers = append(a.Peers, p)
			continue
		case p.Seq > a.Peers[j].Seq:
			a.Peers[j] = p
		}
		refuse(RefusedDuplicate, 1)
	}
	if r.more > 0 {
		refuse(RefusedSurplus, r.more)
	}
	return a
}

// checkOne is who a registration is about, unless something is wrong with it.
func checkOne(g register, ns string) (p Peer, wrong string) {
	switch {
	case len(g.record) == 0:
		return Peer{}, RefusedMalformed
	case ns != "" && string(g.ns) != ns, checkNamespace(string(g.ns)) != nil:
		return Peer{}, RefusedNamespace
	case g.timed && g.ttl == 0:
		return Peer{}, RefusedExpired
	}
	r, wrong := openRecord(g.record)
	if wrong != "" {
		return Peer{}, wrong
	}
	return Peer{
		Info:      peer.AddrInfo{ID: r.peer, Addrs: r.addrs},
		Namespace: string(g.ns),
		Seq:       r.seq,
		TTL:       toTTL(g.ttl),
		Record:    g.record,
	}, ""
}

// exchangeError turns an error of reqresp.Do into ours.
func exchangeError(p peer.ID, err error) error {
	return &ExchangeError{Peer: p, Err: reqresp.Reason(err, ErrUnsupported, ErrTooLarge)}
}
