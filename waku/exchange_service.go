package waku

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/peerexchange"
)

const (
	// maxExchange is how many peers an answer of peer exchange has at most.
	maxExchange = 60
	// A peer is named only if it answered a dial within exchangeFresh; it is dialled
	// again after exchangeCheck, while anybody has asked within exchangeAsked.
	exchangeFresh = 55 * time.Second
	exchangeCheck = 30 * time.Second
	exchangeAsked = 5 * time.Minute
	// exchangeRound is how often is looked whom to dial, exchangeAtOnce at a time.
	exchangeRound  = 5 * time.Second
	exchangeAtOnce = 4
	exchangeDial   = 5 * time.Second
)

// exchangeService keeps a number of peers at hand that can be named to others, for as
// long as others ask.
type exchangeService struct {
	node   *Node
	server *peerexchange.Server
	wake   chan struct{}

	mu    sync.Mutex
	asked time.Time
	pool  map[peer.ID]exchangePeer
}

type exchangePeer struct {
	record []byte
	at     time.Time // when it was reached last
}

func (n *Node) openExchangeService(c peerexchange.ServerConfig) {
	x := &exchangeService{node: n, wake: make(chan struct{}, 1), pool: map[peer.ID]exchangePeer{}}
	n.exchange = x
	x.server = peerexchange.NewServer(n.host, x.sample, c)
	n.onClose(x.server.Close)
	n.tasks.start(x.run)
}

// sample names up to count peers to one that asks.
func (x *exchangeService) sample(from peer.ID, count int) [][]byte {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = now
	select {
	case x.wake <- struct{}{}:
	default:
	}
	var fresh [][]byte
	for p, one := range x.pool {
		if p != from && now.Sub(one.at) < exchangeFresh {
			fresh = append(fresh, one.record)
		}
	}
	for _, r := range x.node.discovery.book.Sample(now, from, count, exchangeFresh) { // at first there is no pool
		if !slices.ContainsFunc(fresh, func(have []byte) bool { return bytes.Equal(have, r) }) {
			fresh = append(fresh, r)
		}
	}
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	return fresh[:min(count, len(fresh))]
}

func (x *exchangeService) run(ctx context.Context) {
	for {
		run, ok := x.node.gate.pass(ctx)
		if !ok {
			return
		}
		x.mu.Lock()
		idle := x.asked.IsZero() || time.Since(x.asked) > exchangeAsked
		if idle {
			clear(x.pool)
		}
		x.mu.Unlock()
		if idle {
			select {
			case <-x.wake:
			case <-run.Done():
			case <-ctx.Done():
			}
			continue
		}
		x.check(run)
		if !x.node.gate.rest(ctx, exchangeRound, nil) {
			return
		}
	}
}

// check dials those that haven't been reached for a while, and forgets those that can't
// be any more.
func (x *exchangeService) check(run context.Context) {
	n := x.node
	now := time.Now()
	var due sync.WaitGroup
	slots := make(chan struct{}, exchangeAtOnce)
	candidates := n.discovery.book.Candidates(now, maxExchange)
	wanted := map[peer.ID]bool{}
	for _, c := range candidates {
		wanted[c.Info.ID] = true
		x.mu.Lock()
		one, known := x.pool[c.Info.ID]
		x.mu.Unlock()
		if known && now.Sub(one.at) < exchangeCheck {
			continue
		}
		slots <- struct{}{}
		due.Go(func() {
			defer func() { <-slots }()
			ok := n.reaches(run, c.Info)
			x.mu.Lock()
			defer x.mu.Unlock()
			if ok {
				x.pool[c.Info.ID] = exchangePeer{c.Record, time.Now()}
			} else {
				delete(x.pool, c.Info.ID)
			}
		})
	}
	due.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, one := range x.pool {
		if !wanted[p] && time.Since(one.at) > exchangeFresh {
			delete(x.pool, p)
		}
	}
}

// reaches dials a peer beside the connections that there are, to see that others could,
// and hangs up.
func (n *Node) reaches(ctx context.Context, info peer.AddrInfo) bool {
	s, ok := n.host.Network().(*swarm.Swarm)
	if !ok {
		return n.peers.get(info.ID) != nil
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeDial)
	defer cancel()
	for _, a := range info.Addrs {
		t := s.TransportForDialing(a)
		if t == nil || !n.cfg.network.Private && !isIP(a) {
			continue // what a name resolves to would go unseen
		}
		if c, err := t.Dial(ctx, a, info.ID); err == nil {
			_ = c.Close()
			return true
		}
	}
	return false
}

func isIP(a ma.Multiaddr) bool {
	return len(a) > 0 && (a[0].Protocol().Code == ma.P_IP4 || a[0].Protocol().Code == ma.P_IP6)
}
