package waku

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// The cadence of nwaku: a few peers often, mesh peers first, all peers seldom.
const (
	pingPeriod  = 10 * time.Second
	pingAllEach = 12 // periods: two minutes
	// pingAllServing is pingAllEach where peers are named to others: who is dead isn't,
	// a minute later.
	pingAllServing = 3
	pingFew        = 10 // peers
	pingTimeout    = 5 * time.Second
	pingTries      = 2
	pingAtOnce     = 64
	// sleptAfter is the gap between two rounds after which nothing that was
	// connected can be trusted.
	sleptAfter = 3 * pingPeriod
	// deadRounds is after how many rounds without a single answer all
	// connections are given up.
	deadRounds = 2
)

// keeper keeps connections alive and finds out which of them are dead.
type keeper struct {
	node   *Node
	last   time.Time // of the last round, with the monotonic clock
	round  int
	silent int // rounds in a row without any answer
}

func (k *keeper) run(ctx context.Context) {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	k.last = time.Now()
	for {
		run, ok := k.node.gate.pass(ctx)
		if !ok {
			return
		}
		now, done := during(ctx, run)
		select {
		case <-ticker.C:
			k.tick(now, time.Now())
		case <-k.node.networkChanged:
			k.node.retryStatic()
			k.node.circuitsChanged()
			k.node.registerAnew()
			if k.node.nat != nil {
				k.node.nat.stale()
			}
			for _, s := range k.node.shards.all() {
				s.light.pingNow()
			}
			k.pingAll(now, k.choose(true))
		case <-now.Done():
			ticker.Stop()
			if _, ok := k.node.gate.pass(ctx); ok {
				ticker.Reset(pingPeriod)
				k.last, k.silent = time.Now(), 0
			}
		}
		done()
	}
}

// NetworkChanged says that the device's network is another one, or was away: what is
// connected is asked at once whether it still is, what doesn't answer is dropped,
// and static peers that are gone are dialled. It doesn't wait. Programs on devices
// that tell them so should pass it on; without it a node finds out by itself,
// within half a minute. While the node is paused there is nothing to ask.
func (n *Node) NetworkChanged() {
	if !n.gate.isOpen() {
		return
	}
	n.discovery.networkChanged()
	select {
	case n.networkChanged <- struct{}{}:
	default: // about to be looked after
	}
}

// tick is one round. A machine that slept either shows a gap on the monotonic
// clock, or none there but a jump of the wall clock; the latter may as well be
// somebody setting the clock, so then peers are asked before they are given up.
func (k *keeper) tick(ctx context.Context, now time.Time) {
	gap := now.Sub(k.last)
	defer func() { k.last = time.Now() }() // asking peers takes its time
	jumped := k.node.clock.check()
	for _, s := range k.node.shards.all() {
		s.gaps.tick()
	}
	k.round++
	switch {
	case gap > sleptAfter:
		k.silent = 0
		k.node.dropAll("the node slept for " + gap.Round(time.Second).String())
		return
	case k.silent >= deadRounds:
		k.silent = 0
		k.node.dropAll("nobody answered pings any more")
		return
	}
	each := pingAllEach
	if k.node.exchange != nil {
		each = pingAllServing
	}
	all := jumped || k.round%each == 0
	asked, answered := k.pingAll(ctx, k.choose(all))
	if asked > 0 && answered == 0 {
		k.silent++
	} else {
		k.silent = 0
	}
	k.node.dropLeech()
	if k.round%pingAllEach == 0 {
		k.node.dropUseless(ctx)
	}
}

// choose returns everybody, or the mesh peers filled up to pingFew.
func (k *keeper) choose(all bool) []peer.ID {
	everybody := k.node.peers.proven()
	if all {
		return everybody
	}
	mesh := map[peer.ID]bool{}
	for _, s := range k.node.shards.joined() {
		for _, p := range k.node.relay.Mesh(s.shard) {
			mesh[p] = true
		}
	}
	rand.Shuffle(len(everybody), func(i, j int) { everybody[i], everybody[j] = everybody[j], everybody[i] })
	var few, others []peer.ID
	for _, p := range everybody {
		if mesh[p] {
			few = append(few, p)
		} else {
			others = append(others, p)
		}
	}
	if room := pingFew - len(few); room > 0 {
		few = append(few, others[:min(room, len(others))]...)
	}
	return few
}

func (k *keeper) pingAll(ctx context.Context, peers []peer.ID) (asked, answered int) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		slots = make(chan struct{}, pingAtOnce)
	)
	for _, p := range peers {
		if !k.node.speaks(p, ping.ID) {
			k.node.meshAnswered(p, k.node.moment())
			continue
		}
		asked++
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			if k.node.pingOrDrop(ctx, p) {
				mu.Lock()
				answered++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return asked, answered
}

// pingOrDrop disconnects a peer that doesn't answer.
func (n *Node) pingOrDrop(ctx context.Context, p peer.ID) bool {
	for try := range pingTries {
		began := n.moment()
		if rtt, ok := n.ping(ctx, p); ok {
			n.meshAnswered(p, began)
			n.peers.measured(p, rtt)
			n.discovery.book.Alive(time.Now(), p, rtt)
			return true
		}
		if ctx.Err() != nil {
			return true // the node is closing, or paused: nobody's fault
		}
		if !n.linked(p) {
			return false // it left meanwhile, which isn't silence
		}
		if try == 0 {
			n.meshDoubted(p, began)
		}
	}
	if n.peers.isPunched(p) {
		n.nat.stale()
	}
	n.meshDoubted(p, n.moment())
	n.drop(p, "no answer to pings")
	return false
}

// linked tells whether a connection to p still works, be it that the host has
// yet to hear of its end.
func (n *Node) linked(p peer.ID) bool {
	return slices.ContainsFunc(n.host.Network().ConnsToPeer(p), func(c network.Conn) bool {
		return !c.IsClosed() && !c.Stat().Limited
	})
}

func (n *Node) ping(ctx context.Context, p peer.ID) (time.Duration, bool) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	results := ping.Ping(network.WithNoDial(ctx, "ping"), n.host, p)
	select {
	case res, ok := <-results:
		return res.RTT, ok && res.Error == nil
	case <-ctx.Done():
		return 0, false
	}
}
