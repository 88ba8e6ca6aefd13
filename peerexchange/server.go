package peerexchange

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// Sampler returns records for a peer that asks, RLP encoded: n at most, picked at
// random, each of another peer, of the same cluster and known to be alive. It may be
// called from many goroutines and must be quick. None: the peer is told that there
// are none. A panic is contained.
//
// Records that some client couldn't read are left out, since one of them spoils the
// whole answer for go-waku and js-waku, and so is the asking peer's own. Nobody
// changes what is returned.
type Sampler func(from peer.ID, n int) [][]byte

// Defaults of [ServerConfig].
const (
	DefaultServerRate  = 1.0 // questions a second
	DefaultServerBurst = 5   // questions
	DefaultPatience    = 500 * time.Millisecond
)

// ServerConfig configures a [Server]. The zero value has the defaults.
type ServerConfig struct {
	// MaxPeers is how many peers there are at most in an answer, whatever is asked
	// for. 0: DefaultMaxPeers.
	MaxPeers int
	// Rate is how many questions a second a peer may ask in the long run, and
	// Burst how many at once; more are answered with StatusTooManyRequests. 0: the
	// defaults. A negative Rate is no limit.
	Rate  float64
	Burst int
	// Patience is how long a question beyond Rate is kept waiting rather than
	// refused: js-waku takes a refusal for an answer without peers. 0:
	// DefaultPatience. Negative: none.
	Patience time.Duration
	// OnFailure, if set, is told of every question that got no answer, and why.
	// Streams on which nothing came are among them, and nothing bad: js-waku opens
	// one ahead of need. It must be quick and may be called from many goroutines.
	OnFailure func(from peer.ID, err error)
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.MaxPeers = cmp.Or(max(c.MaxPeers, 0), DefaultMaxPeers)
	c.Rate = cmp.Or(c.Rate, DefaultServerRate)
	c.Burst = cmp.Or(max(c.Burst, 0), DefaultServerBurst)
	c.Patience = max(cmp.Or(c.Patience, DefaultPatience), 0)
	return c
}

const (
	// serverTotal is for the whole exchange, beside Patience.
	serverTotal = 10 * time.Second
	// stallLimit is how long an answer waits for one who doesn't take it.
	stallLimit = 5 * time.Second
	// exchanges is how many run at once, and streams how many with one peer. Whoever
	// sends half a request holds his share, so that it takes many names to hold
	// them all.
	exchanges = 1024
	streams   = 8
	// comeBack is when a peer for whom there was nothing may ask again.
	comeBack = 5 * time.Second
)

// ServerStats counts what a server has done.
type ServerStats struct {
	// Answers counts by status. Those never given are absent.
	Answers map[StatusCode]uint64
	// Failed counts the exchanges that came to nothing: not read to their end,
	// answer not sent, refused unread.
	Failed uint64
	// Peers is how many peers the answers had, and Unfit how many records of the
	// Sampler were left out of them.
	Peers, Unfit uint64
}

// Server answers questions of other peers until it is closed.
type Server struct {
	sample Sampler
	cfg    ServerConfig
	budget *reqresp.Budget[peer.ID]
	fit    fit

	exchanges *reqresp.Server
	stats     struct {
		answers              [len(statuses)]atomic.Uint64
		failed, peers, unfit atomic.Uint64
	}
}

// NewServer answers on h from now on.
func NewServer(h host.Host, sample Sampler, cfg ServerConfig) *Server {
	cfg = cfg.withDefaults()
	s := &Server{sample: sample, cfg: cfg, budget: reqresp.NewBudget[peer.ID](cfg.Rate, cfg.Burst, reqresp.DefaultBudgetKeys)}
	s.exchanges = reqresp.Serve(h, ID, reqresp.Config{
		Service:     service,
		MaxRequest:  maxRequest,
		MaxResponse: cfg.MaxPeers*perPeer + envelope,
		Total:       serverTotal + cfg.Patience,
		Stall:       stallLimit,
		Concurrency: exchanges,
		PerPeer:     streams,
		OnFailure:   s.failed,
		Refuse:      s.refuse,
	}, s.handle)
	return s
}

// Close ends running exchanges and waits for them and for the Sampler. It is
// idempotent.
func (s *Server) Close() error { return s.exchanges.Close() }

// Stats returns what the server has done so far.
func (s *Server) Stats() ServerStats {
	c := &s.stats
	out := ServerStats{
		Answers: make(map[StatusCode]uint64),
		Failed:  c.failed.Load(),
		Peers:   c.peers.Load(),
		Unfit:   c.unfit.Load(),
	}
	for i := range c.answers {
		if n := c.answers[i].Load(); n > 0 {
			out.Answers[statuses[i].code] = n
		}
	}
	return out
}

func (s *Server) handle(ctx context.Context, from peer.ID, b []byte) ([]byte, error) {
	wait, ok := s.budget.Take(from, time.Now(), s.cfg.Patience)
	if !ok {
		return s.apologise(StatusTooManyRequests, "", wait), nil
	}
	if err := reqresp.Sleep(ctx, wait); err != nil {
		return nil, err
	}
	asked, err := decodeRequest(b)
	if err != nil {
		return s.apologise(StatusBadRequest, err.Error(), 0), nil
	}
	records := s.records(from, int(min(cmp.Or(asked, DefaultPeers), uint64(s.cfg.MaxPeers))))
	if len(records) == 0 {
		return s.apologise(StatusServiceUnavailable, "no peers to offer", comeBack), nil
	}
	s.stats.peers.Add(uint64(len(records)))
	return s.answer(response{code: StatusSuccess, records: records}), nil
}

// records returns what there is for a peer, n records at most.
func (s *Server) records(from peer.ID, n int) [][]byte {
	sample := s.sample(from, n)
	out := make([][]byte, 0, min(n, len(sample)))
	for _, raw := range sample[:min(n, len(sample))] {
		owner, ok := s.fit.owner(raw)
		switch {
		case !ok:
			s.stats.unfit.Add(1)
		case owner != from:
			out = append(out, raw)
		}
	}
	return out
}

func (s *Server) apologise(code StatusCode, reason string, wait time.Duration) []byte {
	return s.answer(response{code: code, desc: words(code, reason, wait)})
}

func (s *Server) answer(r response) []byte {
	s.stats.answers[r.code.index()].Add(1)
	return appendResponse(make([]byte, 0, len(r.records)*perPeer+len(r.desc)+32), r)
}

// refuse answers what handle doesn't get to see. Who can't pay for it at once is
// hung up on.
func (s *Server) refuse(from peer.ID, b []byte, err error) []byte {
	if b == nil {
		if _, ok := s.budget.Take(from, time.Now(), 0); !ok {
			return nil
		}
	}
	var tooLarge *wire.FrameTooLargeError
	if errors.As(err, &tooLarge) {
		return s.apologise(StatusBadRequest, tooLarge.Error(), 0)
	}
	return s.apologise(StatusServiceUnavailable, "no memory", time.Second)
}

func (s *Server) failed(from peer.ID, err error) {
	s.stats.failed.Add(1)
	if s.cfg.OnFailure != nil {
		s.cfg.OnFailure(from, err)
	}
}

// fit remembers which records any client can read, and whose they are.
type fit struct {
	mu     sync.Mutex
	owners map[string]peer.ID // by record; "": unfit
}

// maxFit is how many records are remembered: 2 MB at most.
const maxFit = 4096

func (f *fit) owner(raw []byte) (owner peer.ID, ok bool) {
	f.mu.Lock()
	owner, known := f.owners[string(raw)]
	f.mu.Unlock()
	if known {
		return owner, owner != ""
	}
	if r, wrong := decode(raw); wrong == "" && r.Whole() {
		if p, wrong := describe(r); wrong == "" {
			owner = p.Info.ID
		}
	}
	if len(raw) > perPeer {
		return "", false // not worth remembering
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owners == nil || len(f.owners) >= maxFit {
		f.owners = make(map[string]peer.ID)
	}
	f.owners[string(raw)] = owner
	return owner, owner != ""
}
