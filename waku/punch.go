package waku

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// punchWait is how long a circuit may stand without a direct connection. Three
	// tries of punchTry each, and what they have to say before, fit into it.
	punchWait = 22 * time.Second
	punchTry  = 4 * time.Second
	// punchTries is how often the side that was called tries.
	punchTries = 3
	// punchFailures is after how many failures, and no success, the node's address is
	// doubted.
	punchFailures = 3
	// punchRetries is how often it begins anew when they don't understand each other,
	// after punchRetry: with circuits in both directions neither listens.
	punchRetries = 3
	punchRetry   = 500 * time.Millisecond
	// readyLook and readyLooks are how often is looked whether the host has taken note
	// of what a new peer said.
	readyLook  = 50 * time.Millisecond
	readyLooks = 40
	// circuitGrace is how long a circuit stays beside the direct connection: the
	// other side may be about to find out.
	circuitGrace = time.Second
	// maxMeetings is how many peers may be met over circuits at a time.
	maxMeetings = 32
)

type peerID = peer.ID

// punchTable are the circuits of which direct connections are to come.
type punchTable struct {
	node     *Node
	observed basichost.ObservedAddrsManager // nil: unknown
	seen     chan struct{}                  // another peer sees the node somewhere
	ready    chan struct{}                  // closed when holes can be punched
	service  *holepunch.Service

	mu              sync.Mutex
	m               map[peerID]*meeting
	punched, failed uint64
	failure         string
}

// meeting is a peer to whom only circuits stand.
type meeting struct {
	peer  peer.ID
	began time.Time

	// Guarded by the table's mu, but for the channels.
	circuits []network.Conn
	at       ma.Multiaddr // of the direct connection
	tries    int
	retries  int
	last     string // what went wrong

	direct chan struct{} // closed when there is a direct connection
	over   chan struct{} // closed when there can't be one any more
	done   chan struct{} // closed when all is settled
}

// punches tells whether this side does the punching: the one that was called. mu is
// held.
func (m *meeting) punches() bool { return slices.ContainsFunc(m.circuits, isInbound) }

func isInbound(c network.Conn) bool { return c.Stat().Direction == network.DirInbound }

// end closes over. mu is held.
func (m *meeting) end() {
	select {
	case <-m.over:
	default:
		close(m.over)
	}
}

// prepare mounts DCUtR as soon as anybody sees the node somewhere. Circuits that came
// before would be of no use: there would be nothing to tell the other side.
func (t *punchTable) prepare(ctx context.Context) {
	n := t.node
	h, ok := n.host.(interface{ IDService() identify.IDService })
	if !ok {
		return
	}
	for looks := 0; len(t.own()) == 0; {
		run, ok := n.gate.pass(ctx)
		if !ok {
			return
		}
		var again <-chan time.Time
		if looks < readyLooks { // the host is about to note what a peer has said
			again = time.After(readyLook)
			looks++
		}
		select {
		case <-again:
		case <-t.seen:
			looks = 0
		case <-run.Done():
		case <-ctx.Done():
			return
		}
	}
	s, err := holepunch.NewService(n.host, h.IDService(), t.own, holepunch.DirectDialTimeout(punchTry), holepunch.WithTracer(t))
	if err != nil {
		n.cfg.logger.Warn("no hole punching", "err", line(err))
		return
	}
	t.mu.Lock()
	t.service = s
	t.mu.Unlock()
	close(t.ready)
	n.nat.useCircuits()
	n.nat.circuits.changed()
	n.discovery.changed()
	<-ctx.Done()
	if err := s.Close(); err != nil {
		n.cfg.logger.Debug("closing hole punching", "err", line(err))
	}
}

// isReady tells whether holes can be punched.
func (t *punchTable) isReady() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

// peersChanged says that somebody has come, who sees the node somewhere. It doesn't
// wait.
func (t *punchTable) peersChanged() {
	select {
	case t.seen <- struct{}{}:
	default:
	}
}

// awaitReady waits until holes can be punched.
func (t *punchTable) awaitReady(ctx context.Context, p peer.ID) error {
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		return &PeerError{Peer: p, Kind: PeerRelayed, Reason: "is to be reached through a relayer, and no peer has said yet where it sees this node", Err: context.Cause(ctx)}
	}
}

// own are the addresses at which the node may be met: its own public ones, and those
// that anybody sees it at.
func (t *punchTable) own() []ma.Multiaddr {
	addrs := t.node.nat.own()
	if t.observed != nil {
		addrs = append(addrs, t.observed.Addrs(1)...)
	}
	addrs = ma.Unique(addrs)
	return slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool { return isCircuit(a) || !manet.IsPublicAddr(a) })
}

// met is told of every circuit that others relay.
func (t *punchTable) met(c network.Conn) {
	n := t.node
	p := c.RemotePeer()
	_, cut := n.gater.isCut(p)
	leave := func() { n.tasks.start(func(context.Context) { _ = c.Close() }) }
	if cut || !n.mayCircuit() || !n.gate.isOpen() {
		leave()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.isDirect(p) { // no need
		n.tasks.start(func(ctx context.Context) { pause(ctx, circuitGrace, nil); _ = c.Close() })
		return
	}
	m := t.m[p]
	if m == nil {
		if len(t.m) >= maxMeetings {
			leave()
			return
		}
		m = &meeting{
			peer: p, began: time.Now(),
			direct: make(chan struct{}), over: make(chan struct{}), done: make(chan struct{}),
		}
		if !n.tasks.start(func(ctx context.Context) { t.attend(ctx, m) }) {
			return
		}
		t.m[p] = m
		n.emit(Event{Kind: CircuitConnected, Peer: p, Reason: c.RemoteMultiaddr().String()})
	}
	m.circuits = append(m.circuits, c)
	m.settleDirection(n)
}

// settleDirection closes circuits if there are some of both directions: those stay that
// the peer with the smaller id has opened. mu is held.
func (m *meeting) settleDirection(n *Node) {
	out := func(c network.Conn) bool { return !isInbound(c) }
	if !slices.ContainsFunc(m.circuits, isInbound) || !slices.ContainsFunc(m.circuits, out) {
		return
	}
	loses := isInbound
	if m.peer < n.host.ID() {
		loses = out
	}
	for _, c := range m.circuits {
		if loses(c) {
			n.tasks.start(func(context.Context) { _ = c.Close() })
		}
	}
	m.circuits = slices.DeleteFunc(m.circuits, loses)
}

// parted is told of the end of every circuit.
func (t *punchTable) parted(c network.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.m[c.RemotePeer()]
	if m == nil {
		return
	}
	m.circuits = slices.DeleteFunc(m.circuits, func(x network.Conn) bool { return x == c })
	if len(m.circuits) == 0 {
		m.end()
	}
}

// succeeded is told of every direct connection, and tells whether it came of a circuit.
func (t *punchTable) succeeded(c network.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.m[c.RemotePeer()]
	if m == nil || m.at != nil {
		return false
	}
	m.at = c.RemoteMultiaddr()
	close(m.direct)
	return true
}

var errNoPunch = errors.New("no direct connection came of the circuit in time")

// attend sees a meeting to its end.
func (t *punchTable) attend(ctx context.Context, m *meeting) {
	n := t.node
	_, _, run, _ := n.gate.look()
	timer := time.NewTimer(punchWait)
	defer timer.Stop()
	direct := false
	select {
	case <-m.direct:
		direct = true
	case <-m.over:
	case <-timer.C:
	case <-run.Done():
	case <-ctx.Done():
	}
	select { // both at a time
	case <-m.direct:
		direct = true
	default:
	}
	t.mu.Lock()
	delete(t.m, m.peer)
	took := time.Since(m.began).Round(time.Millisecond)
	why := m.last
	if why == "" {
		why = line(errNoPunch)
	}
	quiet := ctx.Err() != nil || run.Err() != nil
	switch {
	case direct:
		t.punched++
	case !quiet:
		t.failed++
		t.failure = fmt.Sprintf("%s: %s", m.peer, why)
	}
	m.last = why
	// Where no hole was ever punched, it is more likely that none can be.
	tried := m.tries > 0 && (t.punched > 0 || t.failed >= punchFailures)
	circuits := slices.Clone(m.circuits)
	t.mu.Unlock()
	switch {
	case direct:
		n.emit(Event{Kind: HolePunched, Peer: m.peer, Reason: fmt.Sprintf("%s after %v", m.at, took)})
	case !quiet:
		n.emit(Event{Kind: HolePunchFailed, Peer: m.peer, Reason: why})
	}
	if !direct { // where it was tried is no place to dial
		n.host.Peerstore().ClearAddrs(m.peer)
	}
	close(m.done)
	switch {
	case direct:
		n.nat.fresh()
	case !quiet && tried:
		n.nat.stale()
	}
	if direct {
		pause(ctx, circuitGrace, nil)
		circuits = slices.DeleteFunc(n.host.Network().ConnsToPeer(m.peer), func(c network.Conn) bool { return !c.Stat().Limited })
	}
	for _, c := range circuits {
		_ = c.Close()
	}
}

// await waits until what stands with a peer is more than a circuit.
func (t *punchTable) await(ctx context.Context, p peer.ID) error {
	t.mu.Lock()
	m := t.m[p]
	t.mu.Unlock()
	if m == nil {
		return nil
	}
	select {
	case <-m.direct:
	case <-m.done:
		if m.at == nil {
			return &PeerError{Peer: p, Kind: PeerRelayed, Reason: "can be reached through a relayer only: " + m.last}
		}
	case <-ctx.Done():
		return &PeerError{Peer: p, Kind: PeerRelayed, Reason: "no direct connection in time", Err: context.Cause(ctx)}
	}
	return nil
}

// Trace implements holepunch.EventTracer: it takes notes of what goes wrong, and ends
// meetings that are over.
func (t *punchTable) Trace(e *holepunch.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.m[e.Remote]
	if m == nil {
		return
	}
	switch x := e.Evt.(type) {
	case *holepunch.ProtocolErrorEvt:
		m.last = line(errors.New(x.Error))
		if !m.punches() {
			return
		}
		if m.retries++; m.retries > punchRetries {
			m.end()
			return
		}
		service := t.service
		t.node.tasks.start(func(ctx context.Context) {
			if pause(ctx, punchRetry, m.over) {
				_ = service.DirectConnect(m.peer) // tells by itself what became of it
			}
		})
	case *holepunch.EndHolePunchEvt:
		if x.Success {
			return
		}
		m.last = "both sides tried, and neither got through"
		if m.tries++; m.punches() && m.tries >= punchTries {
			m.end()
		}
	}
}

// isDirect tells whether a connection with a peer stands that isn't a circuit.
func (n *Node) isDirect(p peer.ID) bool {
	return n.host.Network().Connectedness(p) == network.Connected
}

func (t *punchTable) counts() (punched, failed uint64, failure string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.punched, t.failed, t.failure
}
