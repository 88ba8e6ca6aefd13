package waku

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// The pause after the n-th failure is firstPause·2ⁿ⁻¹, at most longestPause,
	// give or take a quarter.
	firstPause   = time.Second
	longestPause = 2 * time.Minute
	// stableAfter is how long a connection must have stood for the next failure
	// to count as the first.
	stableAfter = 30 * time.Second
	dialTimeout = 20 * time.Second
)

// staticPeer keeps one peer connected.
type staticPeer struct {
	node *Node
	info peer.AddrInfo
	wake chan struct{} // try now

	mu    sync.Mutex
	state StaticPeer
}

func newStaticPeer(n *Node, info peer.AddrInfo) *staticPeer {
	return &staticPeer{node: n, info: info, wake: make(chan struct{}, 1), state: StaticPeer{Peer: info.ID}}
}

func (s *staticPeer) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		run, ok := s.node.gate.pass(ctx)
		if !ok {
			return
		}
		gone, err := s.connect(ctx, run)
		if err == nil {
			s.set(func(st *StaticPeer) { *st = StaticPeer{Peer: s.info.ID, Connected: true} })
			began := time.Now()
			select {
			case <-gone:
			case <-ctx.Done():
				return
			}
			if time.Since(began) >= stableAfter {
				failures = 0
			}
			err = errors.New(s.node.peers.lastReason(s.info.ID))
		}
		if run.Err() != nil {
			failures = 0
			s.set(func(st *StaticPeer) { *st = StaticPeer{Peer: s.info.ID, LastError: line(ErrPaused)} })
			continue
		}
		failures++
		wait := pauseAfter(failures)
		s.set(func(st *StaticPeer) {
			*st = StaticPeer{
				Peer: s.info.ID, Failures: failures, LastError: line(err),
				NextTry: s.node.cfg.now().Add(wait),
			}
		})
		if !s.rest(ctx, wait) {
			return
		}
		if run.Err() != nil {
			failures = 0
		}
	}
}

// rest waits, but no longer than the first pause once somebody calls retry.
func (s *staticPeer) rest(ctx context.Context, wait time.Duration) bool {
	g := s.node.gate
	run, ok := g.pass(ctx)
	least := min(wait, firstPause)
	return ok && g.rest(ctx, least, nil) && (run.Err() != nil || g.rest(ctx, wait-least, s.wake))
}

func pauseAfter(failures int) time.Duration {
	d := longestPause
	if failures < 16 {
		d = min(d, firstPause<<(failures-1))
	}
	return d*3/4 + rand.N(d/2)
}

// connect returns a channel that ends with the connection.
func (s *staticPeer) connect(ctx, run context.Context) (gone <-chan struct{}, err error) {
	ctx, done := during(ctx, run)
	defer done()
	limit := dialTimeout
	if slices.ContainsFunc(s.info.Addrs, isCircuit) {
		limit += punchWait
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := s.node.connect(ctx, s.info)
	if err != nil {
		return nil, err
	}
	return r.gone, nil
}

// retry ends a long pause.
func (s *staticPeer) retry() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *staticPeer) set(change func(*StaticPeer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

func (s *staticPeer) health() StaticPeer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}
