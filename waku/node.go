package waku

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/rendezvous"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// closeTimeout bounds Close: what isn't ours (the host's transports) may hang.
const closeTimeout = 4 * time.Second

// Node is a running Waku node. Its methods are safe for concurrent use.
type Node struct {
	cfg    *config
	host   host.Host
	relay  *relay.Relay
	events eventHub
	gater  *gater
	peers  peerTable
	shards shardTable
	clock  *clockWatch
	static []*staticPeer
	tasks  *tasks
	gate   *gate
	record recordKeeper
	asker  *metadata.Client

	telemetry *telemetry

	archiver    *archiver // nil without an archive
	storeServer *store.Server
	storeClient *store.Client
	stores      restTable

	// As a light member, and as one that serves such; the servers are nil unless
	// options ask for them.
	filterClient *filter.Client
	pushClient   *lightpush.Client
	// slowPushClient is for messages that aren't urgent.
	slowPushClient *lightpush.Client
	outgoing       outgoing
	filterServer   *filter.Server
	pushServer     *lightpush.Server
	filters        restTable
	pushers        restTable

	state          *stateKeeper
	marks          map[sharding.Shard]savedShard // what an earlier run knew
	memoryKey      [16]byte
	marksLoaded    chan struct{} // closed when these two are there
	discovery      *discovery
	exchangeClient *peerexchange.Client
	exchanges      restTable
	exchange       *exchangeService // nil unless options ask for it

	// Being reached by others, and helping them to be.
	nat          *natKeeper // nil without WithNAT
	rendezvous   *rendezvous.Client
	registration *registration // nil without WithNAT
	helper       helper
	points       restTable
	meshes       chan struct{}

	stamps    sync.Mutex
	lastStamp time.Time
	lastSent  atomic.Pointer[time.Time] // monotonic

	networkChanged chan struct{}

	life     sync.RWMutex // held while joining
	closed   atomic.Bool
	closing  sync.Once
	closeErr error
	undo     []func() error // what Close does, the last first
}

// New returns a running node. Without options it is a relay node of the [Local]
// network that listens on ephemeral loopback ports, has an identity of its own
// for its lifetime, and contacts nobody.
//
// ctx bounds the start alone. An error names the option that can't be followed,
// or both of two that contradict each other; nothing is left running then.
func New(ctx context.Context, opts ...Option) (*Node, error) {
	cfg, err := newConfig(ctx, opts)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:    cfg,
		gater:  newGater(),
		tasks:  newTasks(),
		peers:  peerTable{m: map[peer.ID]*remote{}},
		shards: shardTable{m: map[sharding.Shard]*shard{}},

		networkChanged: make(chan struct{}, 1),
		meshes:         make(chan struct{}, 1),
		marksLoaded:    make(chan struct{}),
	}
	n.outgoing.dirty = make(chan struct{}, 1)
	n.gate = newGate(n.tasks.ctx)
	n.gater.gate = n.gate
	n.state = newStateKeeper(cfg.state, func(name string, err error) {
		cfg.logger.Warn("the state store failed", "name", name, "err", line(err))
	})
	for _, t := range []*restTable{&n.stores, &n.filters, &n.pushers, &n.exchanges, &n.points} {
		t.gate = n.gate
	}
	n.helper.node = n
	n.gater.mayCircuit = n.mayCircuit
	if cfg.nat {
		n.nat = newNATKeeper(n)
	}
	n.clock = newClockWatch(cfg.now, cfg.window, n.peers.count, n.clockEvent)
	n.telemetry = newTelemetry(cfg.now)
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// start opens one thing after the other; Close closes what was opened.
func (n *Node) start(ctx context.Context) error {
	n.onClose(func() error { n.tasks.end(); return nil })
	for _, info := range n.cfg.staticPeers {
		n.static = append(n.static, newStaticPeer(n, info))
		n.gater.name(info)
	}
	if err := n.openHost(); err != nil {
		return err
	}
	n.makeDiscovery()
	n.tasks.start(n.loadMarks)
	if err := n.openRelay(); err != nil {
		return err
	}
	n.storeClient = store.NewClient(n.host, store.ClientConfig{Verify: n.verifyHistory})
	n.openArchive()
	n.openServices()
	n.openRegistration()
	n.helper.open()
	n.onClose(n.helper.close)
	if err := n.openMetrics(); err != nil {
		return err
	}
	for _, p := range n.cfg.protected {
		if err := n.ensureShard(p.shard).configure(p.keys); err != nil {
			return optionErr(err, "WithProtectedShard")
		}
	}
	n.serveMetadata()
	n.watchPeers()
	if err := n.listen(); err != nil {
		return err
	}
	if err := n.openRecord(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("waku: New: %w", err)
	}
	n.tasks.start(n.keepGate)
	n.tasks.start((&keeper{node: n}).run)
	n.tasks.start(n.state.run)
	n.openDeliveries(ctx)
	if n.cfg.state != nil {
		n.tasks.start(n.keepMarks)
	}
	if err := n.openNAT(); err != nil {
		return err
	}
	if err := n.openDiscovery(ctx); err != nil {
		return err
	}
	for _, s := range n.static {
		n.tasks.start(s.run)
	}
	return nil
}

func (n *Node) onClose(f func() error) { n.undo = append(n.undo, f) }

func (n *Node) openHost() error {
	if n.host = n.cfg.host; n.host != nil {
		return nil
	}
	h, err := newHost(n)
	if err != nil {
		return err
	}
	n.host = h
	n.onClose(h.Close)
	return nil
}

// listen comes when everything is mounted: peers ask as soon as they are connected.
func (n *Node) listen() error {
	for i, addr := range n.cfg.listenAddrs {
		if err := n.host.Network().Listen(addr); err != nil {
			return optionErr(fmt.Errorf("can't listen on %s (%s): choose another address or port", n.cfg.listen[i], line(err)), "WithListenAddrs")
		}
	}
	return nil
}

func (n *Node) openRelay() error {
	r, err := relay.New(calmHost{n.host}, relay.Config{
		MemoryKey:       func() [16]byte { <-n.marksLoaded; return n.memoryKey },
		Profile:         n.cfg.profile,
		MaxMessageSize:  n.cfg.network.MaxMessageSize,
		MaxPeersPerAddr: n.cfg.maxConnsPerIP,
		Logger:          n.cfg.logger,
		OnEvent:         n.onRelay,
		OnTraffic:       n.telemetry.relayed,
		// Its books are about how long ago things were, so it has the system's
		// clock, which doesn't jump in that respect, whatever WithClock says.
	})
	if err != nil {
		return optionErr(err, "WithRelayProfile")
	}
	n.relay = r
	n.onClose(r.Close)
	n.onClose(n.closeShards)
	return nil
}

func (n *Node) openMetrics() error {
	r := n.cfg.metrics
	if r == nil {
		return nil
	}
	c := collector{n}
	if err := r.Register(c); err != nil {
		var already prometheus.AlreadyRegisteredError
		if errors.As(err, &already) {
			err = errors.New("the registerer has a node's metrics already: give each node its own, or prometheus.WrapRegistererWith labels")
		}
		return optionErr(err, "WithMetrics")
	}
	n.onClose(func() error { r.Unregister(c); return nil })
	return nil
}

// watchPeers hears of connections, those included that a host of the caller's has
// already.
func (n *Node) watchPeers() {
	watch := &network.NotifyBundle{ConnectedF: n.connected, DisconnectedF: n.disconnected}
	n.host.Network().Notify(watch)
	n.onClose(func() error { n.host.Network().StopNotify(watch); n.peers.forget(); return nil })
	for _, c := range n.host.Network().Conns() {
		n.meet(c)
	}
}

// onRelay is called by relay, sometimes on its event loop: it only takes notes.
func (n *Node) onRelay(e relay.Event) {
	switch e.Kind {
	case relay.PeerCut:
		n.gater.cut(e.Peer, e.Reason)
		n.discovery.book.Cut(time.Now(), e.Peer, time.Now().Add(cutFor))
		n.peers.blame(e.Peer, "cut: "+e.Reason)
		n.emit(Event{Kind: PeerCut, Peer: e.Peer, Reason: e.Reason})
	case relay.MeshChanged:
		if s := n.shards.get(e.Shard); s != nil {
			s.meshChanged(e.Count)
		}
		n.meshesChanged()
	case relay.Overload:
		if s := n.shards.get(e.Shard); s != nil {
			go s.gaps.doubt(n.moment().before(time.Second))
		}
	case relay.ReaderLost:
		n.emit(Event{Kind: MessagesLost, Shard: e.Shard})
	case relay.ValidatorPanic:
		n.emit(Event{Kind: ValidatorTrouble, Shard: e.Shard, Reason: "panic: " + e.Reason})
	}
}

// sendGrace is how long what was handed to peers has to leave before their
// connections are closed: Send doesn't wait for that.
const sendGrace = 250 * time.Millisecond

// Close ends every membership, connection and goroutine of the node, within five
// seconds, and waits for them. It is idempotent; every call returns the same
// error, which names plugged-in validators that ignored their context and are
// still running.
func (n *Node) Close() error {
	n.closing.Do(func() { n.closeErr = n.shutdown() })
	return n.closeErr
}

func (n *Node) shutdown() error {
	n.life.Lock()
	n.closed.Store(true)
	n.life.Unlock()
	n.flush(n.shards.all()...)
	if sent := n.lastSent.Load(); sent != nil {
		time.Sleep(sendGrace - time.Since(*sent))
	}
	n.freeze()
	n.tasks.cancel()
	n.endDeliveries()
	done := make(chan error, 1)
	go func() {
		var errs []error
		for i := len(n.undo) - 1; i >= 0; i-- {
			if err := n.undo[i](); err != nil {
				errs = append(errs, err)
			}
		}
		done <- errors.Join(errs...)
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	defer n.events.close()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("waku: Close: not all has ended after %v", closeTimeout)
	}
}

// closeShards leaves everything and ends the plugged-in validators.
func (n *Node) closeShards() error {
	var errs []error
	var plugins []*plugin
	for _, s := range n.shards.all() {
		errs = append(errs, s.close())
		plugins = append(plugins, s.plugins...)
	}
	if n.archiver != nil {
		n.archiver.running.Wait() // what has arrived is being kept
	}
	return errors.Join(append(errs, closePlugins(plugins))...)
}

func (n *Node) isClosed() bool { return n.closed.Load() }

// PeerID is the node's libp2p identity.
func (n *Node) PeerID() peer.ID { return n.host.ID() }

// Network is the network that the node belongs to.
func (n *Node) Network() Network { return n.cfg.network }

// Addrs are the addresses the node can be reached at, as full multiaddrs that
// end in /p2p/<peer id>: what [Node.Connect] and [WithStaticPeers] take. TCP, which
// everybody speaks, comes first, then QUIC, then WebSocket.
func (n *Node) Addrs() []string {
	var out []string
	for _, a := range n.addrs() {
		out = append(out, a.String()+"/p2p/"+n.host.ID().String())
	}
	return out
}

// Connect dials a peer, once: a full multiaddr that ends in /p2p/<peer id>, or several
// of the same peer, of which the first that answers serves. See
// [WithStaticPeers] for peers to stay connected with. It returns when the peer has
// proven that it belongs to this network; otherwise a *[PeerError] says what was
// wrong with it, or the error is [ErrPaused]. A peer that was cut is refused for ten minutes.
func (n *Node) Connect(ctx context.Context, addr string, more ...string) (peer.ID, error) {
	if n.isClosed() {
		return "", errNodeClosed
	}
	info, err := parsePeerAddr(addr)
	if err != nil {
		return "", fmt.Errorf("waku: Connect: %w", err)
	}
	for _, text := range more {
		other, err := parsePeerAddr(text)
		switch {
		case err != nil:
			return "", fmt.Errorf("waku: Connect: %w", err)
		case other.ID != info.ID:
			return "", fmt.Errorf("waku: Connect: %s is another peer than %s: connect with one after the other", text, addr)
		}
		info.Addrs = append(info.Addrs, other.Addrs...)
	}
	if info.ID == n.host.ID() {
		return "", fmt.Errorf("waku: Connect: %s is this node itself", addr)
	}
	run, err := n.gate.enter(ctx)
	if err != nil {
		return "", err
	}
	ctx, done := during(ctx, run)
	defer done()
	defer n.gater.name(info)()
	if _, err := n.connect(ctx, info); err != nil {
		switch {
		case n.isClosed():
			return "", errNodeClosed
		case run.Err() != nil:
			return "", ErrPaused
		}
		return "", err
	}
	n.discovery.book.Found(time.Now(), peers.Sighting{Info: info, Source: peers.Application})
	return info.ID, nil
}

// Disconnect closes the connections to a peer. A static peer is dialled again, another
// one not before ten minutes have passed.
func (n *Node) Disconnect(p peer.ID) error {
	if n.isClosed() {
		return errNodeClosed
	}
	n.peers.blame(p, "disconnected by the application")
	n.discovery.book.Cut(time.Now(), p, time.Now().Add(leftAlone))
	if err := n.host.Network().ClosePeer(p); err != nil {
		return fmt.Errorf("waku: Disconnect: %s", line(err))
	}
	return nil
}

// retryStatic dials the static peers that are gone without waiting out their
// pauses.
func (n *Node) retryStatic() {
	for _, s := range n.static {
		s.retry()
	}
}

// shardsChanged follows a Join or Leave.
func (n *Node) shardsChanged() {
	n.helper.review()
	n.registerAnew()
	n.meshesChanged()
	if n.nat != nil {
		n.nat.circuits.changed()
	}
	n.refreshRecord()
	n.retryStatic()
	n.discovery.shardsChanged()
}
