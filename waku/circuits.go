package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// circuitsWanted is at how many relayers a private node reserves a circuit.
	circuitsWanted = 2
	// circuitAddrs is how many addresses of each are announced: one for TCP and one
	// for QUIC, as a rule.
	circuitAddrs = 2
	// reserveTimeout bounds a request for a circuit.
	reserveTimeout = 10 * time.Second
	// A relayer that failed rests for firstCircuitRest, each time for twice as long;
	// one that refused, for circuitRefusedRest at least.
	firstCircuitRest   = 5 * time.Second
	longestCircuitRest = 30 * time.Minute
	circuitRefusedRest = time.Minute
	// circuitLook is how often is looked for a relayer while circuits are missing,
	// doubled up to longestCircuitLook while there is none.
	circuitLook        = 2 * time.Second
	longestCircuitLook = 5 * time.Minute
	// leastRenewal is how long a circuit is left alone, however short it lives.
	leastRenewal = 20 * time.Second
)

// circuitKeeper keeps circuits reserved while the node is private, as AutoRelay does,
// but at those relayers alone that are peers of the node's shards, those first that it
// has dialled itself, and without a timer while it has what it wants.
type circuitKeeper struct {
	node    *Node
	wake    chan struct{}
	emitter event.Emitter

	mu        sync.Mutex
	held      map[peer.ID]*heldCircuit
	rests     map[peer.ID]circuitRest
	failure   string
	announced []ma.Multiaddr
}

type heldCircuit struct {
	addrs   []ma.Multiaddr
	since   time.Time // the node's clock
	renew   time.Time
	expires time.Time
	remote  *remote // the connection that it hangs on
}

type circuitRest struct {
	count int
	until time.Time
}

func newCircuitKeeper(n *Node) *circuitKeeper {
	return &circuitKeeper{node: n, wake: make(chan struct{}, 1), held: map[peer.ID]*heldCircuit{}, rests: map[peer.ID]circuitRest{}}
}

func (k *circuitKeeper) open() error {
	emitter, err := k.node.host.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful)
	if err != nil {
		return fmt.Errorf("waku: announcing circuits: %w", err)
	}
	k.emitter = emitter
	k.node.onClose(emitter.Close)
	return nil
}

// changed says that peers, shards or the verdict may have changed. It doesn't wait and
// may be called with any lock held.
func (k *circuitKeeper) changed() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// wanted tells whether the node is one that needs circuits: it relays, listens, and
// can't be reached.
func (k *circuitKeeper) wanted() bool {
	n := k.node
	return n.nat.isPrivate() && n.relaysAny() && len(n.nat.own()) > 0 && n.nat.punches.isReady()
}

func (k *circuitKeeper) keep(ctx context.Context) {
	look := circuitLook
	for {
		run, ok := k.node.gate.pass(ctx)
		if !ok {
			return
		}
		wait, news := k.tend(ctx, run, look)
		if news {
			look = circuitLook
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-due:
			look = min(2*look, longestCircuitLook)
		case <-k.wake:
		case <-run.Done():
			look = circuitLook
			k.prune(false, line(ErrPaused))
			k.announce(false)
		case <-ctx.Done():
			return
		}
	}
}

// tend makes of the circuits what they should be, and returns when to look again; zero:
// when something has changed.
func (k *circuitKeeper) tend(ctx, run context.Context, look time.Duration) (wait time.Duration, news bool) {
	n := k.node
	ctx, done := during(ctx, run)
	defer done()
	soonest := func(d time.Duration) {
		if d = max(d, time.Millisecond); wait == 0 || d < wait {
			wait = d
		}
	}
	wanted := k.wanted()
	news = k.prune(wanted, "not needed any more")
	if v := n.nat.verdict.Load(); v.is == ReachabilityUnknown && !wanted {
		soonest(unknownFor - time.Since(v.since))
	}
	if wanted {
		for _, p := range k.due(time.Now()) {
			k.reserve(ctx, p)
		}
		for _, p := range k.candidates() {
			if k.count() >= circuitsWanted || ctx.Err() != nil {
				break
			}
			news = k.reserve(ctx, p) || news
		}
	}
	k.announce(false)
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for _, c := range k.held {
		soonest(c.renew.Sub(now))
	}
	if wanted && len(k.held) < circuitsWanted {
		soonest(look)
		for _, r := range k.rests {
			if left := r.until.Sub(now); left > 0 {
				soonest(left)
			}
		}
	}
	return wait, news
}

func (k *circuitKeeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

// prune gives up circuits that are over, or not wanted for a reason.
func (k *circuitKeeper) prune(wanted bool, unwanted string) (news bool) {
	n := k.node
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, c := range k.held {
		why := ""
		switch {
		case !wanted:
			why = unwanted
		case n.peers.get(p) != c.remote:
			why = n.peers.lastReason(p)
		case !now.Before(c.expires):
			why = "it wasn't renewed"
		default:
			continue
		}
		delete(k.held, p)
		news = true
		n.emit(Event{Kind: CircuitLost, Peer: p, Reason: why})
	}
	for p, r := range k.rests {
		if now.Sub(r.until) > longestCircuitRest {
			delete(k.rests, p)
		}
	}
	return news
}

// due are the relayers whose circuits are to be renewed.
func (k *circuitKeeper) due(now time.Time) (ids []peer.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, c := range k.held {
		if !now.Before(c.renew) {
			ids = append(ids, p)
		}
	}
	return ids
}

// candidates are the peers that may be asked for a circuit, the best first: those that
// carry a shard of ours, that this node has dialled, that aren't at one address with
// another relayer of ours, and are near.
func (k *circuitKeeper) candidates() []peer.ID {
	n := k.node
	type candidate struct {
		id    peer.ID
		ranks [3]int
		rtt   time.Duration
	}
	k.mu.Lock()
	taken := map[string]bool{}
	now := time.Now()
	resting := func(p peer.ID) bool { return k.held[p] != nil || now.Before(k.rests[p].until) }
	for p := range k.held {
		taken[n.peers.host(p)] = true
	}
	proven := slices.DeleteFunc(n.peers.proven(), resting)
	k.mu.Unlock()
	var all []candidate
	for _, p := range proven {
		r := n.peers.get(p)
		if r == nil || !n.speaks(p, proto.ProtoIDv2Hop) || len(k.addrsOf(r, nil)) == 0 {
			continue
		}
		c := candidate{id: p, rtt: n.peers.roundTrip(r)}
		for i, worse := range []bool{!n.isMember(r), r.inbound, taken[n.peers.host(p)]} {
			if worse {
				c.ranks[i] = 1
			}
		}
		all = append(all, c)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(slices.Compare(a.ranks[:], b.ranks[:]), cmp.Compare(a.rtt/(100*time.Millisecond), b.rtt/(100*time.Millisecond)))
	})
	var ids []peer.ID
	for _, c := range all {
		ids = append(ids, c.id)
	}
	return ids
}

// reserve asks for a circuit, or for more time.
func (k *circuitKeeper) reserve(ctx context.Context, p peer.ID) (ok bool) {
	n := k.node
	r := n.peers.get(p)
	if r == nil {
		return false
	}
	asking, cancel := context.WithTimeout(network.WithNoDial(ctx, "circuit"), reserveTimeout)
	granted, err := circuit.Reserve(asking, n.host, peer.AddrInfo{ID: p})
	cancel()
	if ctx.Err() != nil {
		return false
	}
	var addrs []ma.Multiaddr
	if err == nil {
		if addrs = k.addrsOf(r, granted.Addrs); len(addrs) == 0 {
			err = errors.New("it has no address that others could dial")
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if err != nil {
		k.failed(p, err, now)
		return false
	}
	delete(k.rests, p)
	left := time.Until(granted.Expiration)
	c := &heldCircuit{
		addrs: addrs, since: n.cfg.now(), remote: r,
		renew: now.Add(max(left*3/4-rand.N(left/8+1), leastRenewal)), expires: now.Add(left),
	}
	if old := k.held[p]; old != nil {
		c.since = old.since
	} else {
		n.emit(Event{Kind: CircuitReserved, Peer: p})
	}
	k.held[p] = c
	return true
}

// failed has a relayer rest. A circuit that it holds lives on while it may. mu is held.
func (k *circuitKeeper) failed(p peer.ID, err error, now time.Time) {
	n := k.node
	var refused circuit.ReservationError
	words := line(err)
	least := time.Duration(0)
	if errors.As(err, &refused) {
		words = circuitWords(refused)
		if refused.Status != circuitpb.Status_CONNECTION_FAILED {
			least = circuitRefusedRest
		}
	}
	k.failure = fmt.Sprintf("%s: %s", p, words)
	r := k.rests[p]
	rest := max(min(firstCircuitRest<<min(r.count, 10), longestCircuitRest), least)
	k.rests[p] = circuitRest{r.count + 1, now.Add(rest)}
	n.cfg.logger.Debug("no circuit", "relayer", p, "err", words)
	if c := k.held[p]; c != nil {
		c.renew = now.Add(min(rest, max(time.Until(c.expires)/2, leastRenewal)))
	}
}

func circuitWords(e circuit.ReservationError) string {
	switch e.Status {
	case circuitpb.Status_RESERVATION_REFUSED, circuitpb.Status_RESOURCE_LIMIT_EXCEEDED:
		return "it has no circuit left"
	case circuitpb.Status_PERMISSION_DENIED:
		return "it gives us no circuit"
	}
	if err := e.Unwrap(); err != nil {
		return line(err)
	}
	return e.Reason
}

// addrsOf are the circuit's addresses: where this node has dialled the relayer, and
// where that says that it can be, as far as others could dial these.
func (k *circuitKeeper) addrsOf(r *remote, said []ma.Multiaddr) (out []ma.Multiaddr) {
	n := k.node
	through, err := ma.NewMultiaddr("/p2p/" + r.id.String() + "/p2p-circuit")
	if err != nil {
		return nil
	}
	var bases []ma.Multiaddr
	if at, err := ma.NewMultiaddr(r.addr); err == nil && !r.inbound {
		bases = append(bases, at)
	}
	if said == nil {
		said = n.host.Peerstore().Addrs(r.id)
	}
	slices.SortStableFunc(said, func(a, b ma.Multiaddr) int { return cmp.Compare(transportRank(a), transportRank(b)) })
	taken := map[int]bool{}
	for _, a := range append(bases, said...) {
		a, owner := peer.SplitAddr(a)
		if owner != "" && owner != r.id || len(a) == 0 || isCircuit(a) || taken[transportRank(a)] || !n.mayTell(a) {
			continue
		}
		taken[transportRank(a)] = true
		if out = append(out, a.Encapsulate(through)); len(out) == circuitAddrs {
			break
		}
	}
	return out
}

// addrs are the addresses of all circuits, one of each relayer first.
func (k *circuitKeeper) addrs() (out []ma.Multiaddr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var held []*heldCircuit
	for _, c := range k.held {
		held = append(held, c)
	}
	slices.SortFunc(held, func(a, b *heldCircuit) int { return a.since.Compare(b.since) })
	for i := range circuitAddrs {
		for _, c := range held {
			if i < len(c.addrs) {
				out = append(out, c.addrs[i])
			}
		}
	}
	return out
}

// announce tells the host of the circuits, and through it everybody, if they have
// changed or what is announced may have for another reason.
func (k *circuitKeeper) announce(anyway bool) {
	if k.emitter == nil {
		return
	}
	addrs := k.addrs()
	k.mu.Lock()
	same := slices.EqualFunc(addrs, k.announced, ma.Multiaddr.Equal)
	k.announced = addrs
	k.mu.Unlock()
	if same && !anyway {
		return
	}
	if err := k.emitter.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: addrs}); err != nil && !k.node.isClosed() {
		k.node.cfg.logger.Warn("announcing circuits", "err", line(err))
	}
	if !same {
		k.node.refreshRecord()
		k.node.registerAnew()
	}
}

// relayers are the peers that circuits of ours lead through.
func (k *circuitKeeper) relayers() (ids []peer.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.held {
		ids = append(ids, p)
	}
	return ids
}
