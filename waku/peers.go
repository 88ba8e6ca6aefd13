package waku

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

const (
	// maxDisconnects is how many of the last disconnections are kept.
	maxDisconnects = 16
	// uselessAfter is how long a relay peer may be connected without a shard in
	// common.
	uselessAfter = time.Minute
	// uselessTimeout bounds asking all such peers again, uselessAtOnce at a time.
	uselessTimeout = 8 * time.Second
	uselessAtOnce  = 32
	// testerGrace is how long somebody may stay who doesn't say what it is, and may
	// have been asked to find out whether it can reach this node: AutoNAT dials back
	// from a host of its own, several times.
	testerGrace = 3 * time.Second
	// anewAfter is how long after a connection another one with the same peer isn't of the
	// same attempt.
	anewAfter = 10 * time.Second
)

// remote is a connected peer. Its fields are guarded by peerTable's mu, except
// the channels.
type remote struct {
	id      peer.ID
	addr    string
	inbound bool
	since   time.Time // the node's clock
	began   time.Time // monotonic
	number  uint64    // of the connection made last, among all of the node's
	proven  bool      // belongs to the network
	punched bool      // connected through a hole: its address is good for nothing else
	shards  []sharding.Shard
	rtt     time.Duration
	reason  string // why this node ends it
	foreign error  // why it isn't of this network, by what it asked with
	err     error  // why the handshake failed

	settled chan struct{} // closed when the handshake is over
	gone    chan struct{} // closed with the last connection
}

// peerTable is who is connected, and who was lately.
type peerTable struct {
	mu          sync.Mutex
	m           map[peer.ID]*remote
	made        uint64       // connections
	disconnects []Disconnect // the latest last
}

func (t *peerTable) get(p peer.ID) *remote {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[p]
}

// proven returns the peers that belong to the network.
func (t *peerTable) proven() []peer.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []peer.ID
	for p, r := range t.m {
		if r.proven {
			out = append(out, p)
		}
	}
	return out
}

// cameBy is the number of the connection that a peer made last: another one says that it
// was away meanwhile. Zero: it isn't there.
func (t *peerTable) cameBy(p peer.ID) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.m[p]; r != nil {
		return r.number
	}
	return 0
}

func (t *peerTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// dialledFirst puts those first that this node has dialled: anybody can come by himself,
// under any number of names.
func (t *peerTable) dialledFirst(ids []peer.ID) []peer.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(ids, func(a, b peer.ID) int { return order(t.came(a), t.came(b)) })
	return ids
}

// came tells whether a peer isn't one that this node has dialled. mu is held.
func (t *peerTable) came(p peer.ID) bool { return t.m[p] == nil || t.m[p].inbound }

// host is the IP address that a peer is connected by, or its id.
func (t *peerTable) host(p peer.ID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.m[p]; r != nil {
		if parts := strings.SplitN(r.addr, "/", 4); len(parts) > 2 {
			return parts[2]
		}
	}
	return string(p)
}

// forget is for the end of the node.
func (t *peerTable) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.m)
}

func (t *peerTable) measured(p peer.ID, rtt time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.m[p]; r != nil {
		r.rtt = rtt
	}
}

// blame notes why a peer is about to be disconnected; the first reason counts.
func (t *peerTable) blame(p peer.ID, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.m[p]; r != nil && r.reason == "" {
		r.reason = reason
	}
}

// heard notes what a peer said of itself when it asked: nil if that is right.
func (t *peerTable) heard(p peer.ID, foreign error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.m[p]; r != nil {
		r.foreign = foreign
	}
}

// carries returns the shards that a peer serves, after noting them if they are news.
func (t *peerTable) carries(r *remote, news []sharding.Shard) []sharding.Shard {
	t.mu.Lock()
	defer t.mu.Unlock()
	if news != nil {
		r.shards = news
	}
	return r.shards
}

// failed is why a handshake failed.
func (t *peerTable) failed(r *remote) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return r.err
}

// isPunched tells whether a peer is connected through a hole.
func (t *peerTable) isPunched(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[p] != nil && t.m[p].punched
}

func (t *peerTable) roundTrip(r *remote) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return r.rtt
}

func (t *peerTable) foreign(r *remote) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return r.foreign
}

// lastReason is why a peer was disconnected last.
func (t *peerTable) lastReason(p peer.ID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range slices.Backward(t.disconnects) {
		if d.Peer == p {
			return d.Reason
		}
	}
	return connectionLost
}

func (t *peerTable) lastDisconnects() []Disconnect {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Clone(t.disconnects)
	slices.Reverse(out)
	return out
}

const connectionLost = "the connection was lost, or closed by the peer"

// connected is told of every connection.
func (n *Node) connected(_ network.Network, c network.Conn) {
	p := c.RemotePeer()
	if c.Stat().Limited { // a way to make a connection, and none itself
		if n.nat != nil {
			n.nat.punches.met(c)
		}
		return
	}
	if reason, cut := n.gater.isCut(p); cut { // only a host of the caller's lets it come so far
		n.tasks.start(func(context.Context) { n.drop(p, reason) })
		return
	}
	if !n.gate.isOpen() {
		n.tasks.start(func(context.Context) { _ = c.Close() })
		return
	}
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	if c.IsClosed() { // its end is being told, or was
		return
	}
	switch r := n.peers.m[p]; {
	case r == nil:
	case r.err == nil:
		if time.Since(r.began) > anewAfter { // it finds the one there was dead
			n.peers.made++
			r.number = n.peers.made
			n.lightsChanged()
		}
		return
	default: // turned away, and back before it was gone
		n.lost(r)
	}
	r := &remote{
		id:      p,
		addr:    c.RemoteMultiaddr().String(),
		inbound: c.Stat().Direction == network.DirInbound,
		since:   n.cfg.now(),
		began:   time.Now(),
		settled: make(chan struct{}),
		gone:    make(chan struct{}),
	}
	n.peers.made++
	r.number = n.peers.made
	n.peers.m[p] = r
	n.discovery.connected(r, c)
	if n.nat != nil && n.nat.punches.succeeded(c) {
		r.punched = true
		n.discovery.book.Borrowed(time.Now(), p)
	}
	n.tasks.start(func(ctx context.Context) { n.shakeHands(ctx, r) })
}

// meet makes sure that a connection is known, even if its start was told before
// anybody listened, or is about to be told.
func (n *Node) meet(c network.Conn) {
	if c.Stat().Limited {
		return
	}
	n.connected(n.host.Network(), c)
	n.disconnected(n.host.Network(), c) // if its end was told before
}

// disconnected is told of the end of every connection.
func (n *Node) disconnected(nw network.Network, c network.Conn) {
	p := c.RemotePeer()
	if c.Stat().Limited {
		if n.nat != nil {
			n.nat.punches.parted(c)
		}
		return
	}
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	// Asked under the lock: a new connection must find the entry, or none.
	if r := n.peers.m[p]; r != nil && nw.Connectedness(p) != network.Connected {
		n.lost(r)
	}
}

// lost takes a peer out of the table. The table's mu is held.
func (n *Node) lost(r *remote) {
	delete(n.peers.m, r.id)
	close(r.gone)
	if r.punched { // who dials there again spoils the next hole
		n.host.Peerstore().ClearAddrs(r.id)
	}
	n.circuitsChanged()
	n.discovery.lost(r)
	n.lightsChanged()
	reason := r.reason
	switch {
	case reason != "":
	case r.foreign != nil: // it hung up first, and libraries may dial it again
		reason = r.foreign.Error()
		n.gater.reject(r.id, reason)
	default:
		reason = connectionLost
	}
	if len(n.peers.disconnects) == maxDisconnects {
		n.peers.disconnects = n.peers.disconnects[1:]
	}
	n.peers.disconnects = append(n.peers.disconnects, Disconnect{Peer: r.id, At: n.cfg.now(), Reason: reason, kind: r.kind()})
	if r.proven {
		n.emit(Event{Kind: PeerDisconnected, Peer: r.id, Reason: reason})
	}
}

// drop disconnects a peer for a reason.
func (n *Node) drop(p peer.ID, reason string) {
	n.peers.blame(p, reason)
	if err := n.host.Network().ClosePeer(p); err != nil {
		n.cfg.logger.Debug("closing a connection", "peer", p, "err", err)
	}
}

// dropAll disconnects everybody; static peers come back.
func (n *Node) dropAll(reason string) {
	n.cfg.logger.Info("dropping all connections", "reason", reason)
	n.peers.mu.Lock()
	var all []peer.ID
	for p := range n.peers.m {
		all = append(all, p)
	}
	n.peers.mu.Unlock()
	for _, p := range all {
		n.drop(p, reason)
	}
	n.retryStatic()
}

// settle ends the handshake with a peer: why is nil if it belongs here. Events are
// emitted under the lock, to keep their order.
func (n *Node) settle(r *remote, shards []sharding.Shard, why error) {
	defer close(r.settled)
	n.peers.mu.Lock()
	r.err, r.shards, r.proven = why, shards, why == nil
	here := n.peers.m[r.id] == r
	var silence *silenceError
	leftByItself := (!here || !n.gate.isOpen()) && errors.As(why, &silence)
	tester := n.nat != nil && r.inbound && errors.As(why, &silence) && errors.Is(silence.err, reqresp.ErrUnsupported)
	switch {
	case why == nil && here:
		n.emit(Event{Kind: PeerConnected, Peer: r.id})
	case why != nil && !leftByItself && !tester:
		n.emit(Event{Kind: PeerRejected, Peer: r.id, Reason: why.Error()})
	}
	n.peers.mu.Unlock()
	n.lightsChanged()
	n.discovery.settled(r.id, why)
	if why == nil && here {
		if n.nat != nil {
			n.nat.punches.peersChanged()
		}
		n.circuitsChanged()
		n.discovery.pointsChanged()
		n.pointConnected(r.id)
	}
	if tester && here {
		n.tasks.start(func(ctx context.Context) {
			pause(ctx, testerGrace, r.gone)
			n.drop(r.id, why.Error())
		})
		return
	}
	if why != nil && here && !leftByItself {
		n.cfg.logger.Info("peer turned away", "peer", r.id, "reason", why)
		n.gater.reject(r.id, why.Error())
		n.drop(r.id, why.Error())
	}
}

// connect dials a peer and waits until it has proven to belong here.
func (n *Node) connect(ctx context.Context, info peer.AddrInfo) (*remote, error) {
	n.gater.pardon(info.ID)
	if reason, cut := n.gater.isCut(info.ID); cut {
		return nil, &PeerError{Peer: info.ID, Kind: PeerBarred, Reason: "was cut, which lasts ten minutes: " + reason}
	}
	if !n.mayCircuit() {
		if info.Addrs = slices.DeleteFunc(slices.Clone(info.Addrs), isCircuit); len(info.Addrs) == 0 {
			return nil, &PeerError{Peer: info.ID, Kind: PeerRelayed, Reason: "is to be reached through a relayer, which is for nodes that others can't reach (WithNAT)"}
		}
	} else if !slices.ContainsFunc(info.Addrs, func(a ma.Multiaddr) bool { return !isCircuit(a) }) && len(info.Addrs) > 0 {
		if err := n.nat.punches.awaitReady(ctx, info.ID); err != nil {
			return nil, err
		}
	}
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID) // whoever calls this decides when
	}
	if err := n.host.Connect(ctx, info); err != nil {
		if ctx.Err() != nil {
			return nil, &PeerError{Peer: info.ID, Kind: PeerUnreachable, Reason: "no connection in time", Err: context.Cause(ctx)}
		}
		return nil, &PeerError{Peer: info.ID, Kind: PeerUnreachable, Reason: "can't be reached: " + line(err), Err: err}
	}
	r := n.peers.get(info.ID)
	if r == nil && n.nat != nil {
		if err := n.nat.punches.await(ctx, info.ID); err != nil {
			return nil, err
		}
		r = n.peers.get(info.ID)
	}
	if r == nil {
		for _, c := range n.host.Network().ConnsToPeer(info.ID) {
			n.meet(c)
		}
		r = n.peers.get(info.ID)
	}
	if r == nil { // gone again
		return nil, n.peers.gone(info.ID)
	}
	select {
	case <-r.settled: // soon, if the peer is gone again
	case <-n.tasks.ctx.Done():
		return nil, errNodeClosed
	case <-ctx.Done():
		return nil, &PeerError{Peer: info.ID, Kind: PeerSilent, Reason: "no handshake in time", Err: context.Cause(ctx)}
	}
	return r, n.verdictOn(r)
}

// kind is what the handshakes make of a peer that can't be kept. The table's mu is held.
func (r *remote) kind() PeerErrorKind {
	var silence *silenceError
	switch {
	case errors.As(r.err, &silence):
		return PeerSilent
	case r.err != nil, !r.proven && r.foreign != nil:
		return PeerForeign
	}
	return PeerLost
}

// gone is why a peer that was here a moment ago isn't any more.
func (t *peerTable) gone(p peer.ID) *PeerError {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range slices.Backward(t.disconnects) {
		if d.Peer != p {
			continue
		}
		return &PeerError{Peer: p, Kind: d.kind, Reason: d.Reason}
	}
	return &PeerError{Peer: p, Kind: PeerLost, Reason: connectionLost}
}

// verdictOn returns why a peer can't be kept.
func (n *Node) verdictOn(r *remote) error {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	switch {
	case r.err != nil:
		return &PeerError{Peer: r.id, Kind: r.kind(), Reason: r.err.Error(), Err: r.err}
	case r.proven:
		return nil
	case r.reason != "":
		return &PeerError{Peer: r.id, Kind: r.kind(), Reason: r.reason}
	case r.foreign != nil:
		return &PeerError{Peer: r.id, Kind: r.kind(), Reason: r.foreign.Error(), Err: r.foreign}
	}
	return &PeerError{Peer: r.id, Kind: PeerLost, Reason: connectionLost}
}

// circuitsChanged has a look at the circuits, because of a peer.
func (n *Node) circuitsChanged() {
	if n.nat != nil {
		n.nat.circuits.changed()
	}
}

// isMember tells whether a peer carries a shard that this node relays, by what it says or
// by what it announced to relay.
func (n *Node) isMember(r *remote) bool {
	theirs := n.peers.carries(r, nil)
	return slices.ContainsFunc(n.shards.joined(), func(s *shard) bool {
		return n.relays(s.shard) && (slices.Contains(theirs, s.shard) || slices.Contains(n.relay.Peers(s.shard), r.id))
	})
}

// speaks tells whether identify found a protocol at a peer.
func (n *Node) speaks(p peer.ID, id protocol.ID) bool {
	found, err := n.host.Peerstore().SupportsProtocols(p, id)
	return err == nil && len(found) > 0
}

// dropUseless disconnects relay peers that have had time and share no shard with
// this node. Peers that don't say what they carry are left alone (js-waku), and so
// are static ones.
func (n *Node) dropUseless(ctx context.Context) {
	if len(n.shards.joined()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, uselessTimeout)
	defer cancel()
	var asking sync.WaitGroup
	slots := make(chan struct{}, uselessAtOnce)
	for _, p := range n.peers.proven() {
		r := n.peers.get(p)
		if r == nil || time.Since(r.began) < uselessAfter || n.isStatic(p) || !n.speaks(p, relay.ID) ||
			!n.isUseless(p, n.peers.carries(r, nil)) {
			continue
		}
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			n.askUseless(ctx, p, r)
		})
	}
	asking.Wait()
}

// dropLeech disconnects one relay peer that this node dialled and that takes and never
// gives, so that somebody else is found. Those that came by themselves would only come
// again.
func (n *Node) dropLeech() {
	for _, p := range n.peers.proven() {
		r := n.peers.get(p)
		if r != nil && !r.inbound && time.Since(r.began) >= uselessAfter && !n.isStatic(p) && n.relay.Leech(p) {
			n.drop(p, "it takes messages and never gives any, as many here do")
			return
		}
	}
}

// askUseless asks a peer again, since what it carries may have changed.
func (n *Node) askUseless(ctx context.Context, p peer.ID, r *remote) {
	theirs, err := n.askMetadata(ctx, p)
	switch {
	case err != nil && n.isClosed():
	case err != nil:
		n.drop(p, "no shard in common, and asked again it gave no answer")
	case n.isUseless(p, n.peers.carries(r, theirs)):
		n.drop(p, "no shard in common: peer carries "+shardList(theirs))
	}
}

// isUseless tells whether a peer says what it carries, to metadata, and carries
// nothing of ours, by that and by what it announced to relay.
func (n *Node) isUseless(p peer.ID, theirs []sharding.Shard) bool {
	for _, s := range n.shards.joined() {
		if slices.Contains(theirs, s.shard) || slices.Contains(n.relay.Peers(s.shard), p) {
			return false
		}
	}
	return len(theirs) > 0
}

func (n *Node) isStatic(p peer.ID) bool {
	return slices.ContainsFunc(n.static, func(s *staticPeer) bool { return s.info.ID == p })
}
