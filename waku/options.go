package waku

import (
	"context"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// Option changes what [New] builds. The order of options doesn't matter; two
// that contradict each other fail in New.
type Option func(*config)

// WithNetwork chooses the network. Default: [Local].
func WithNetwork(network Network) Option {
	return func(c *config) { c.once("WithNetwork"); c.network = network }
}

// WithListenAddrs sets the multiaddrs listened on: TCP, QUIC (/udp/…/quic-v1) or
// WebSocket (/tcp/…/ws). Called without addresses the node doesn't listen.
// Default: ephemeral ports of the loopback address, one for each transport.
func WithListenAddrs(addrs ...string) Option {
	return func(c *config) { c.once("WithListenAddrs"); c.listen = addrs }
}

// WithNodeKey sets the node's identity: a secp256k1 private key of 32 bytes. See
// [GenerateNodeKey] and [ParseNodeKey]. Default: a new one.
func WithNodeKey(key []byte) Option {
	return func(c *config) { c.once("WithNodeKey"); c.nodeKey = key }
}

// WithHost runs the node on a host of the caller's, who keeps it: Close leaves it
// open. Addresses, identity (it must be a secp256k1 key), user agent and
// connection limits are then the host's. For tests, simulations and programs that
// have a host already.
func WithHost(h host.Host) Option {
	return func(c *config) { c.once("WithHost"); c.host = h }
}

// WithUserAgent sets the name shown to peers (libp2p identify). Default:
// "shoal".
func WithUserAgent(name string) Option {
	return func(c *config) { c.once("WithUserAgent"); c.userAgent = name }
}

// WithStaticPeers names peers to stay connected with, as full multiaddrs. They
// are dialled at the start and again, with growing pauses, whenever they are
// gone. New doesn't wait for them. May be given several times.
func WithStaticPeers(addrs ...string) Option {
	return func(c *config) { c.static = append(c.static, addrs...) }
}

// WithRelayProfile sets the GossipSub parameters. Default: relay.Default().
func WithRelayProfile(p relay.Profile) Option {
	return func(c *config) { c.once("WithRelayProfile"); c.profile = p }
}

// WithMaxConns sets how many connections the node may have. No more than two
// thirds of them are such that others dialled. From nine tenths of either number on,
// those of least use are ended, so that there is room for others to be looked at.
// Default: 300.
func WithMaxConns(n int) Option {
	return func(c *config) { c.once("WithMaxConns"); c.maxConns = n }
}

// WithMaxConnsPerIP sets how many connections one IP address (IPv6: one /64) may
// have, and how many peers on it keep full standing in relay meshes. Loopback is
// exempt. Default: 30.
func WithMaxConnsPerIP(n int) Option {
	return func(c *config) { c.once("WithMaxConnsPerIP"); c.maxConnsPerIP = n }
}

// WithPeerBudget sets what one peer may forward on one shard. Default: the zero
// config, 200 messages and 4 MiB a second. Now and Counters are the node's.
func WithPeerBudget(b dosguard.PeerBudgetConfig) Option {
	return func(c *config) { c.once("WithPeerBudget"); c.peerBudget = b }
}

// WithMaxMessageSize sets the largest encoded message in bytes, in place of the
// network's.
func WithMaxMessageSize(bytes int) Option {
	return func(c *config) { c.once("WithMaxMessageSize"); c.maxMessageSize = bytes }
}

// WithMessageWindow sets how far a signed message's timestamp may be from the
// clock, either way. Nodes of a network should agree on it. Default: 5 minutes.
func WithMessageWindow(d time.Duration) Option {
	return func(c *config) { c.once("WithMessageWindow"); c.window = d }
}

// WithProtectedShard makes the node pass on only what one of keys has signed, on
// a shard that it carries for others: [Node.Join] then needs no key. May be given
// for several shards, and again for one of them to add keys.
func WithProtectedShard(shard sharding.Shard, keys ...*dosguard.PublicKey) Option {
	return func(c *config) { c.protected = append(c.protected, protectedShard{shard, keys}) }
}

// WithValidator plugs in a validator of the application's for one shard. It runs
// after the built-in ones, on messages of both directions, several at a time. It
// has two seconds for a message unless [ValidatorTimeout] says otherwise; one
// that takes longer, or panics, counts as Ignore. One that ignores its context is
// abandoned, and after 16 abandoned calls not asked again until one of them
// returns: [Health] names it. May be given several times; all must accept.
func WithValidator(shard sharding.Shard, v message.Validator, opts ...ValidatorOption) Option {
	return func(c *config) { c.validators = append(c.validators, newValidatorConfig(shard, v, opts)) }
}

// ValidatorOption changes how [WithValidator] treats a validator.
type ValidatorOption func(*validatorConfig)

// ValidatorName is how Health and errors call the validator. Default: the name of
// the function.
func ValidatorName(name string) ValidatorOption {
	return func(c *validatorConfig) { c.name = name }
}

// ValidatorTimeout is how long the validator may take for one message.
func ValidatorTimeout(d time.Duration) ValidatorOption {
	return func(c *validatorConfig) { c.timeout = d }
}

// WithLogger sends what is worth an operator's attention to l. Default: silence.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.once("WithLogger"); c.logger = l }
}

// WithMetrics registers the node's metrics with r until Close. Two nodes need two
// registerers, see prometheus.WrapRegistererWith. Default: none.
func WithMetrics(r prometheus.Registerer) Option {
	return func(c *config) { c.once("WithMetrics"); c.metrics = r }
}

// WithArchive keeps the messages of all joined shards in an archive, such as one of
// store/sqlite or store/postgres, and answers questions from it (13/WAKU2-STORE).
// What the archive missed while the node was away is asked from other store nodes.
// The archive stays the caller's, who closes it after the node.
func WithArchive(a store.Archive, opts ...ArchiveOption) Option {
	return func(c *config) {
		c.once("WithArchive")
		c.archive = &archiveConfig{archive: a, window: defaultWindow, resume: resumeDefault}
		for _, opt := range opts {
			opt(c.archive)
		}
	}
}

// WithFilterService serves light members: what they ask for of the shards that this
// node relays is pushed to them (12/WAKU2-FILTER). Carries is the node's.
func WithFilterService(c filter.ServerConfig) Option {
	return func(o *config) { o.once("WithFilterService"); o.filterService = &c }
}

// WithLightPushService publishes for light members, on the shards that this node
// relays (19/WAKU2-LIGHTPUSH, versions 3 and 2), what the shard's validators
// accept. MaxMessageSize is the node's.
func WithLightPushService(c lightpush.ServerConfig) Option {
	return func(o *config) { o.once("WithLightPushService"); o.lightPushService = &c }
}

// WithPeerExchangeService names peers to whoever asks (34/WAKU2-PEER-EXCHANGE): such of
// the network as were found and answered a dial within the last minute.
func WithPeerExchangeService(c peerexchange.ServerConfig) Option {
	return func(o *config) { o.once("WithPeerExchangeService"); o.exchangeService = &c }
}

// WithBootnodes adds nodes to begin with, as records ("enr:…"), to the network's. The
// node looks for the peers that its shards need: by discv5 (33/WAKU2-DISCV5) while it
// relays, and by asking peers that serve peer exchange. May be given several times.
func WithBootnodes(records ...string) Option {
	return func(c *config) { c.bootTexts = append(c.bootTexts, records...) }
}

// WithDNSTrees adds lists of nodes in DNS (EIP-1459) to the network's, as
// "enrtree://KEY@NAME". They are read while peers are missing. May be given several
// times.
func WithDNSTrees(urls ...string) Option {
	return func(c *config) { c.trees = append(c.trees, urls...) }
}

// Resolver looks TXT records up; [net.Resolver] does.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// WithResolvers sets whom to ask for lists of nodes: the first, and the next one when
// that fails. Default: the system's resolver. See [ResolverAt].
func WithResolvers(r ...Resolver) Option {
	return func(c *config) { c.once("WithResolvers"); c.resolvers = r }
}

// ResolverAt asks the DNS server at an IP address, with a port or without:
// "1.1.1.1", "[::1]:5353".
func ResolverAt(addr string) (Resolver, error) { return dnsdisc.At(addr) }

// WithDiscv5 has discv5 listen on a UDP address, such as "0.0.0.0:9000", and run all
// the time: for nodes that others begin with. An address that isn't 0.0.0.0 or :: is
// what the record says; otherwise the node finds out where others see it.
// Default: any port, while a shard is relayed, and only if there is somebody to begin
// with.
func WithDiscv5(listen string) Option {
	return func(c *config) { c.once("WithDiscv5"); c.discv5Text = listen }
}

// WithoutDiscv5 never runs discv5, which needs UDP: peers are found by lists and by
// asking others alone.
func WithoutDiscv5() Option {
	return func(c *config) { c.once("WithoutDiscv5") }
}

// WithNAT is for nodes that others may not be able to reach, behind a home router, say.
// The node finds out whether they can (AutoNAT, versions 1 and 2), for as long as it
// runs. If they can't, it reserves circuits at two relayers that it has dialled (circuit
// relay v2), announces these in place of its own addresses, registers them with the
// rendezvous points among its peers for each shard that it relays, and dials others of
// its kind by theirs. A circuit only serves to make the direct connection (DCUtR), by TCP
// or QUIC: nobody is a peer before that stands. A shard for which no mesh comes to stand
// is served by filter and light push meanwhile. If others can reach the node, it does
// none of that and helps as other relayers do, see [WithoutCircuitRelay].
//
// [Health] and events tell what happens. On a private network ([Network].Private)
// nobody is behind anything, and nobody is asked. It can't be had with [WithHost].
func WithNAT() Option { return func(c *config) { c.once("WithNAT"); c.nat = true } }

// WithPortMapping asks the router to let others in, by UPnP or NAT-PMP, and announces
// the address that it gives. Routers often lie or forget; with [WithNAT] the address is
// held against what others see. NAT-PMP doesn't work with go-libp2p v0.51: it doesn't
// find out whom to ask.
func WithPortMapping() Option {
	return func(c *config) { c.once("WithPortMapping"); c.portMapping = true }
}

// WithExternalIP says by which IP address others reach the node where its machine doesn't
// have that address itself: in a container, or behind a router that maps all ports to
// themselves. It is announced with the ports listened on, in identify and in the record,
// that of discv5 included, and stands for all of the node's own addresses of its kind.
// One of each kind can be named. Unless the network is private it has to be an address of
// the internet. It can't be had with [WithHost], [WithNAT] or [WithPortMapping].
func WithExternalIP(ips ...string) Option {
	return func(c *config) { c.once("WithExternalIP"); c.externalTexts = ips }
}

// WithoutRendezvousPoint doesn't let others register with this node. By default a node
// that relays a shard, and that others can reach, is a rendezvous point for it.
func WithoutRendezvousPoint() Option {
	return func(c *config) { c.once("WithoutRendezvousPoint"); c.noPoint = true }
}

// WithoutCircuitRelay doesn't let others be reached through this node, nor find out by
// it whether they can be. By default a node that relays a shard, and that others can
// reach, holds circuits ready for as many peers as half of the connections that others
// may make ([WithMaxConns]: 100 of 300), no more than a quarter of them for peers that
// don't carry a shard of its own. A circuit ends after two minutes or 128 KiB in one
// direction; no more than four a second are opened in the long run, or 1 MiB/s in all.
func WithoutCircuitRelay() Option {
	return func(c *config) { c.once("WithoutCircuitRelay"); c.noCircuits = true }
}

// WithStateStore keeps what a restart should still know: good peers, which are dialled
// first then, and lists of nodes; the number of the node's record, which must grow;
// messages that were sent and aren't stored yet, 1,024 and 4 MiB of them at most, see
// [Node.Deliveries]; and up to when the content topics that were read are complete: the
// first reader of a topic goes on from there, and is given from store nodes what was
// published since. See [StateDir]. Default: nothing is kept.
func WithStateStore(s StateStore) Option {
	return func(c *config) { c.once("WithStateStore"); c.state = s }
}

// WithGapLimits sets how old messages may be that are read back from store nodes for
// readers, and how many bytes one gap may cost. What is older, or more, is given up, and
// told. Default: 30 days, and no limit of bytes, which zero is.
func WithGapLimits(age time.Duration, bytes int64) Option {
	return func(c *config) { c.once("WithGapLimits"); c.gapAge, c.gapBytes = age, bytes }
}

// WithFilterPing sets how often a light member asks its service peers whether they
// still know what to push, from a second to four minutes. Default: a minute.
func WithFilterPing(period time.Duration) Option {
	return func(c *config) { c.once("WithFilterPing"); c.filterPing = period }
}

// WithClock sets the clock that timestamps are taken from and held against.
// Timers don't follow it. Default: time.Now.
func WithClock(now func() time.Time) Option {
	return func(c *config) { c.once("WithClock"); c.now = now }
}
