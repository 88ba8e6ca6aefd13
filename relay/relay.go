// Package relay is Waku Relay (11/WAKU2-RELAY): a GossipSub mesh for every
// shard, guarded by the shard's own rules.
//
//	r, err := relay.New(host, relay.Config{})
//	r.SetRules(shard, relay.Rules{Screen: guard.Screen, Validator: guard.Validate})
//	sub, err := r.Subscribe(shard, relay.SubscribeConfig{})
//	receipt, err := r.Publish(ctx, shard, msg)
//	env, err := sub.Next(ctx)
//
// A message passes three doors on its way in, the cheapest first:
//
//	inspector   on the router's event loop, before the mesh is told (IDONTWANT):
//	            size, structure, per-peer budgets, the shard's Screen
//	gate        in a bounded set of goroutines per shard: the shard's Validator
//	queues      one bounded queue per Subscription; what overflows is counted
//	            and reported to the reader who was too slow
//
// Only what all doors accept is forwarded. The rules of a shard outlive its
// subscriptions, so leaving and joining again opens no gap. Delivery happens
// from the gate, at the moment of the last verdict.
//
// The package speaks the protocol id /vac/waku/relay/2.0.0 with GossipSub
// v1.2's IDONTWANT, unsigned and anonymous (StrictNoSign), and identifies
// messages by the SHA-256 of their bytes. It needs a host and nothing above;
// it doesn't find or dial peers.
package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// ID is the protocol id of Waku Relay (11/WAKU2-RELAY).
const ID = protocol.ID("/vac/waku/relay/2.0.0")

const (
	// frameOverhead is what a GossipSub frame adds to one encoded message, at
	// most, on a static shard (14/WAKU2-MESSAGE sizes).
	frameOverhead = 64
	// validateQueue holds what the event loop handed over and the gate hasn't
	// taken yet. A message is called off at other peers before it is queued,
	// so a full queue would lose it for good.
	validateQueue = 1024
	// validating bounds the goroutines that judge, over all shards.
	validating = 8192
	// maxKept bounds how many messages wait for a profile's ForwardDelay at once.
	maxKept = 1024
	// seenTTL is how long a message id is remembered (11/WAKU2-RELAY).
	seenTTL = 120 * time.Second
	// outboundQueue is the number of RPCs that may wait for one peer.
	outboundQueue = 1024
	// closeTimeout bounds how long Close waits for validators.
	closeTimeout = 3 * time.Second
)

// ErrNotSubscribed is returned by Publish for a shard without a Subscription.
var ErrNotSubscribed = errors.New("relay: not subscribed to this shard")

// Config holds what a Relay can be told. The zero value works.
type Config struct {
	// Profile is the set of GossipSub parameters. Zero: Default().
	Profile Profile
	// MaxMessageSize is the largest encoded message in bytes, published or
	// forwarded. Zero: message.DefaultMaxSize.
	MaxMessageSize int
	// MaxPeersPerAddr is how many peers on one IP address (IPv6: one /64) keep
	// full standing. Those that came later get a negative score, which costs
	// them mesh slots but no gossip. Loopback is exempt. Zero: 30.
	MaxPeersPerAddr int
	// Logger receives what is worth an operator's attention. Nil: silent.
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// MemoryKey returns what keys the sums of [Known]. It is called before the first
	// message is delivered, and may take a moment. Nil: a new one.
	MemoryKey func() [16]byte
	// OnEvent is called for every Event, from the relay's own goroutines. It
	// must not block and must not call back into the Relay. Nil: none.
	OnEvent func(Event)
	// OnTraffic is called for every copy of a message that comes from a peer or is
	// queued for one, before it is judged, on shards that were ever subscribed or given
	// rules. Data is to be read only, and not kept. It must be quick, and must not call
	// back into the Relay. Nil: none.
	OnTraffic func(s sharding.Shard, data []byte, out bool)
}

// Relay is a node's part in the meshes of its shards. Its methods are safe for
// concurrent use.
type Relay struct {
	host    host.Host
	cfg     Config
	profile Profile
	log     *slog.Logger

	turning sync.Mutex             // one of Pause, Resume and Close after the other
	router  atomic.Pointer[router] // nil: paused, or closed

	seed     maphash.Seed
	key      func() *knownKey
	shards   shardTable
	peers    *peerBook
	notifiee network.Notifiee
	traffic

	closed     atomic.Bool
	life       context.Context // until Close
	end        context.CancelFunc
	publishers sync.RWMutex // held while a router's event loop must live
	own        ownIDs
	judging    inflight
	kept       atomic.Int64 // messages delivered and not yet forwarded
	cutters    cutters
	scores     atomic.Pointer[map[peer.ID]float64] // the router's part, at the last look

	// Defences that tests switch off, to see what they are worth.
	uncut, lenient bool
}

// New starts relaying on h. It joins no shard and dials nobody. The host stays
// the caller's: Close doesn't close it.
func New(h host.Host, cfg Config) (*Relay, error) {
	if h == nil {
		return nil, errors.New("relay: a host is required")
	}
	if cfg.Profile == (Profile{}) {
		cfg.Profile = Default()
	}
	if err := cfg.Profile.validate(); err != nil {
		return nil, err
	}
	if cfg.MaxMessageSize == 0 {
		cfg.MaxMessageSize = message.DefaultMaxSize
	}
	if cfg.MaxMessageSize < 0 {
		return nil, fmt.Errorf("relay: MaxMessageSize is %d, want a positive number of bytes", cfg.MaxMessageSize)
	}
	if cfg.MaxPeersPerAddr < 0 {
		return nil, fmt.Errorf("relay: MaxPeersPerAddr is %d, want a positive number of peers", cfg.MaxPeersPerAddr)
	}
	if slices.Contains(h.Mux().Protocols(), ID) {
		return nil, errors.New("relay: this host has a relay already, or somebody else handles " + string(ID))
	}
	if cfg.MaxPeersPerAddr == 0 {
		cfg.MaxPeersPerAddr = 30
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Relay{
		host:    h,
		cfg:     cfg,
		profile: cfg.Profile,
		seed:    maphash.MakeSeed(),
		key:     sync.OnceValue(func() *knownKey { return newKey(cfg.MemoryKey) }),
		log:     cfg.Logger,
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.peers = newPeerBook(r)
	r.notifiee = r.peers.notifiee()
	h.Network().Notify(r.notifiee)
	for _, c := range h.Network().Conns() {
		r.arrived(c)
	}
	if err := r.startRouter(); err != nil {
		r.end()
		h.Network().StopNotify(r.notifiee)
		return nil, err
	}
	return r, nil
}

func (r *router) options() []pubsub.Option {
	return []pubsub.Option{
		pubsub.WithGossipSubProtocols([]protocol.ID{ID}, r.features),
		pubsub.WithGossipSubParams(r.profile.params()),
		pubsub.WithFloodPublish(r.profile.FloodPublish),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithSeenMessagesTTL(seenTTL),
		pubsub.WithMaxMessageSize(r.cfg.MaxMessageSize + frameOverhead),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithValidateThrottle(validating),
		pubsub.WithValidateWorkers(1),
		pubsub.WithDefaultValidator(r.gate, pubsub.WithValidatorConcurrency(validating)),
		pubsub.WithAppSpecificRpcInspector(r.inspect),
		pubsub.WithBlacklist((*refusals)(r.Relay)),
		pubsub.WithSubscriptionFilter((*subscriptionFilter)(r.Relay)),
		pubsub.WithPeerScore(r.scoreParams(), scoreThresholds()),
		pubsub.WithPeerScoreInspect(r.cutGraylisted, inspectInterval),
		pubsub.WithRawTracer((*tracer)(r)),
		pubsub.WithLogger(slog.New(slog.DiscardHandler)),
		pubsub.WithRPCLogger(slog.New(slog.DiscardHandler)),
	}
}

// features says what peers on our protocol id understand. Those that don't know
// IDONTWANT skip the control field. The router asks before each IDONTWANT.
func (r *router) features(f pubsub.GossipSubFeature, id protocol.ID) bool {
	switch f {
	case pubsub.GossipSubFeatureMesh, pubsub.GossipSubFeaturePX:
		return id == ID
	case pubsub.GossipSubFeatureExtensions:
		return id == ID // we have none to send, but the router forgets peers only so
	case pubsub.GossipSubFeatureIdontwant:
		return id == ID && !r.probing.Load()
	default:
		return false
	}
}

// sum tells bytes from each other, quickly and only within this Relay.
func (r *Relay) sum(data []byte) uint64 { return maphash.Bytes(r.seed, data) }

func messageID(m *pb.Message) string { return dataID(m.GetData()) }

// dataID is the message id of all three implementations, 11/WAKU2-RELAY.
func dataID(data []byte) string {
	sum := sha256.Sum256(data)
	return string(sum[:])
}

// Close leaves every shard, closes every Subscription and ends what the Relay
// started. It is idempotent and returns within a few seconds; the error names
// the shards whose validators were still running then.
func (r *Relay) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.end()
	for _, st := range r.shards.all() {
		st.closeAll()
	}
	r.host.Network().StopNotify(r.notifiee)
	r.turning.Lock()
	r.stopRouter()
	for _, s := range r.streams() { // wakes the library's readers
		_ = s.Reset()
	}
	r.turning.Unlock()
	err := r.judging.wait(closeTimeout)
	r.cutters.wait()
	return err
}

// streams are the library's.
func (r *Relay) streams() (all []network.Stream) {
	for _, c := range r.host.Network().Conns() {
		for _, s := range c.GetStreams() {
			if s.Protocol() == ID {
				all = append(all, s)
			}
		}
	}
	return all
}

// Peers returns the connected peers that announced the shard.
func (r *Relay) Peers(s sharding.Shard) []peer.ID {
	if rt := r.router.Load(); rt != nil {
		return rt.ps.ListPeers(s.PubsubTopic())
	}
	return nil
}

// Mesh returns the peers in this node's mesh for the shard.
func (r *Relay) Mesh(s sharding.Shard) []peer.ID {
	if r.closed.Load() {
		return nil
	}
	return r.peers.mesh(s.PubsubTopic())
}

// MaxMessageSize is the largest encoded message in bytes.
func (r *Relay) MaxMessageSize() int { return r.cfg.MaxMessageSize }

// Profile returns the parameters in use.
func (r *Relay) Profile() Profile { return r.profile }

// emit tells the application. Its panic must not end the router.
func (r *Relay) emit(e Event) {
	if r.cfg.OnEvent == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("OnEvent panicked", "event", e.Kind, "panic", p)
		}
	}()
	r.cfg.OnEvent(e)
}

var errClosed = fmt.Errorf("relay: %w", net.ErrClosed)
