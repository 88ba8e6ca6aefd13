package lightpush

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/message"
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
	// Concurrency is how many messages the Relayer has at once. Others wait, peers
	// taking turns, for two seconds, and are then answered with
	// StatusServiceNotAvailable. 0: DefaultConcurrency.
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
	budget   *reqresp.Budget[peer.ID]
	turns    *turns // one for each message that the relayer has
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
		budget:  reqresp.NewBudget[peer.ID](cfg.Rate, cfg.Burst, reqresp.DefaultBudgetKeys),
		turns:   newTurns(cfg.Concurrency),
	}
	for _, v := range []*version{current, legacy} {
		s.exchanges = append(s.exchanges, reqresp.Serve(h, v.id, reqresp.Config{
			Service:     service,
			MaxRequest:  2*cfg.MaxMessageSize + envelope,
			MaxResponse: maxID + reqresp.MaxWords + 64,
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

func (s *Server) failed(from peer.ID, err error) {
	s.stats.failed.Add(1)
	s.tell(from, err)
}

func (s *Server) tell(from peer.ID, err error) {
	if s.cfg.OnFailure != nil {
		s.cfg.OnFailure(from, err)
	}
}
