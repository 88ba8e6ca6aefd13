package scale

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/simnet"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

var shard = sharding.Shard{Cluster: 16, Index: 128}

// dialSpread is how long it takes until all have begun to connect, as in life they
// wouldn't all at once.
const dialSpread = 8 * time.Second

// leechEvery is how many seconds it takes, on average, until a peer picker looks whether
// somebody whom it chose gives nothing, as package waku's does.
const leechEvery = 10

// retryEvery is how many seconds it takes, on average, until somebody known is tried.
const retryEvery = 10

// node is one node and what it has seen.
type node struct {
	number int
	role   Role
	slow   bool
	host   *simnet.Host
	relay  *relay.Relay
	sub    *relay.Subscription
	gone   atomic.Bool
	raw    *raw    // an attacker's instead of a relay
	knew   []*node // whom it connected to at first

	// took holds for each message how long it took to come, or less than zero.
	took   []atomic.Int64
	twice  atomic.Int64
	before simnet.Traffic // counting began
	bytes  simnet.Traffic // while counting
}

// world is one run.
type world struct {
	cfg     Config
	rand    *rand.Rand
	net     *simnet.Network
	key     *dosguard.PrivateKey
	nodes   []*node // members, then the fleet, then attackers
	hostile map[peer.ID]bool
	forged  atomic.Int64 // delivered
	heldBy  []float64
	began   time.Time
	pace    float64 // wall seconds for a second of load

	say       []utterance
	delivered atomic.Int64

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newWorld(ctx context.Context, cfg Config) (*world, error) {
	key, err := dosguard.ParsePrivateKey("5526a8990317c9b7b58d07843d270f9cd1d9aaee129294c1c478abf7261dd9e6")
	if err != nil {
		return nil, err
	}
	w := &world{
		cfg: cfg, key: key, net: simnet.New(cfg.Net), began: time.Now(),
		rand: rand.New(rand.NewPCG(cfg.Seed, 0xca1e)),
	}
	w.ctx, w.stop = context.WithCancel(ctx)
	w.plan()
	w.hostile = map[peer.ID]bool{}
	for i := range cfg.Members + cfg.Fleet + cfg.Attack.Attackers {
		one := w.newNode
		if i >= cfg.Members+cfg.Fleet {
			one = w.newAttacker
		}
		n, err := one(i)
		if err != nil {
			return w, err
		}
		w.nodes = append(w.nodes, n)
		if n.role == Attacker {
			w.hostile[n.host.ID()] = true
		}
	}
	return w, nil
}

func (w *world) newNode(i int) (*node, error) {
	c := w.cfg
	n := &node{number: i, role: Member, took: make([]atomic.Int64, len(w.say))}
	for k := range n.took {
		n.took[k].Store(-1)
	}
	profile, line := c.Profile, c.Line
	other, slow := w.rand.Float64() < c.Other, w.rand.Float64() < c.Slow
	switch {
	case i >= c.Members:
		n.role, profile, line = Fleet, c.FleetProfile, c.FleetLine
	case slow:
		n.slow, line = true, c.SlowLine
	}
	if other && n.role == Member {
		profile = c.OtherProfile
	}
	n.host = w.net.Host(simnet.HostConfig{Line: line})
	r, err := relay.New(n.host, relay.Config{Profile: profile})
	if err != nil {
		return nil, fmt.Errorf("scale: node %d: %w", i, err)
	}
	n.relay = r
	guard := dosguard.NewSigned(dosguard.SignedConfig{Keys: dosguard.NewRegistry(w.key.PublicKey())})
	r.SetRules(shard, relay.Rules{Screen: guard.Screen, Validator: guard.Validate})
	if n.sub, err = r.Subscribe(shard, relay.SubscribeConfig{}); err != nil {
		return nil, fmt.Errorf("scale: node %d: %w", i, err)
	}
	w.wg.Go(func() { w.listen(n) })
	return n, nil
}

// members and fleet are the nodes of a role.
func (w *world) members() []*node { return w.nodes[:w.cfg.Members] }
func (w *world) fleet() []*node   { return w.nodes[w.cfg.Members : w.cfg.Members+w.cfg.Fleet] }

func (w *world) attackers() []*node { return w.nodes[w.cfg.Members+w.cfg.Fleet:] }

// honest are all but the attackers.
func (w *world) honest() []*node { return w.nodes[:w.cfg.Members+w.cfg.Fleet] }

// found draws members that a member finds, and attackers among them: they look alike.
func (w *world) found(count, itself int) (all []*node) {
	attackers := w.attackers()
	if w.cfg.Attack.Kind == "eclipse" {
		attackers = nil
	}
	for _, k := range w.pick(count, w.cfg.Members+len(attackers), itself) {
		if k < w.cfg.Members {
			all = append(all, w.nodes[k])
		} else {
			all = append(all, attackers[k-w.cfg.Members])
		}
	}
	return all
}

// connect lets everybody connect to whom the lot decides.
func (w *world) connect() {
	dial := func(from, to *node) {
		from.knew = append(from.knew, to)
		after := time.Duration(w.rand.Int64N(int64(dialSpread)))
		time.AfterFunc(after, func() { w.dial(from, to) })
	}
	fleet := w.fleet()
	for i, n := range w.nodes {
		switch n.role {
		case Member:
			for _, to := range w.found(w.cfg.Dials, i) {
				dial(n, to)
			}
			for _, k := range w.pick(w.cfg.FleetLinks, len(fleet), -1) {
				dial(n, fleet[k])
			}
		case Fleet:
			for _, k := range w.pick(min(8, len(fleet)-1), len(fleet), i-w.cfg.Members) {
				dial(n, fleet[k])
			}
		case Attacker:
			if w.cfg.Attack.Kind == "eclipse" {
				dial(n, w.nodes[0])
				continue
			}
			for _, k := range w.pick(w.cfg.Attack.Dials, w.cfg.Members, -1) {
				dial(n, w.nodes[k])
			}
		}
	}
}

func (w *world) dial(from, to *node) {
	if w.ctx.Err() == nil && !from.gone.Load() {
		_ = from.host.Connect(w.ctx, peer.AddrInfo{ID: to.host.ID()})
	}
}

// pick draws count different numbers below n, and not one of them itself.
func (w *world) pick(count, n, itself int) []int {
	chosen := make([]int, 0, count)
	taken := map[int]bool{itself: true}
	for len(chosen) < count && len(taken) <= n {
		if k := w.rand.IntN(n); !taken[k] {
			taken[k] = true
			chosen = append(chosen, k)
		}
	}
	return chosen
}

// mend is what a peer picker does: who has lost links looks for others, and now and then
// tries those that it knew, lest a network that was parted stays so. It runs each virtual
// second; a dial takes its time.
func (w *world) mend() {
	fleet := w.fleet()
	for i, n := range w.nodes {
		if n.gone.Load() || n.role != Member {
			continue
		}
		if len(n.knew) > 0 && w.rand.IntN(retryEvery) == 0 {
			go w.dial(n, n.knew[w.rand.IntN(len(n.knew))]) // nothing happens if it is connected
		}
		if w.rand.IntN(leechEvery) == 0 {
			w.dropLeech(n)
		}
		toFleet, dialled := 0, 0
		for _, c := range n.host.Network().Conns() {
			switch {
			case w.isFleet(c.RemotePeer()):
				toFleet++
			case c.Stat().Direction == network.DirOutbound:
				dialled++
			}
		}
		if toFleet < w.cfg.FleetLinks {
			for _, k := range w.pick(1, len(fleet), -1) {
				go w.dial(n, fleet[k])
			}
		}
		if dialled < w.cfg.Dials {
			for _, to := range w.found(1, i) {
				n.knew = append(n.knew, to)
				go w.dial(n, to)
			}
		}
	}
}

// dropLeech lets a member's peer picker give up one leech that it had dialled.
func (w *world) dropLeech(n *node) {
	for _, c := range n.host.Network().Conns() {
		if c.Stat().Direction == network.DirOutbound && n.relay.Leech(c.RemotePeer()) {
			n.knew = slices.DeleteFunc(n.knew, func(x *node) bool { return x.host.ID() == c.RemotePeer() })
			_ = n.host.Network().ClosePeer(c.RemotePeer())
			return
		}
	}
}

func (w *world) isFleet(p peer.ID) bool {
	for _, n := range w.fleet() {
		if n.host.ID() == p {
			return true
		}
	}
	return false
}

// kill ends a node without a word.
func (w *world) kill(n *node) {
	n.gone.Store(true)
	w.net.Kill(n.host, w.cfg.Notice)
	w.wg.Go(func() { _ = n.relay.Close() })
}

// close ends everything and waits for it.
func (w *world) close() {
	w.stop()
	for _, n := range w.nodes {
		w.wg.Go(func() {
			if n.relay != nil {
				_ = n.relay.Close()
			}
			_ = n.host.Close()
		})
	}
	w.wg.Wait()
	// What is still on the wire ends a few round trips later.
	time.Sleep(time.Minute)
}
