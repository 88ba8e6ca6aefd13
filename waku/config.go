package waku

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

const (
	defaultMaxConns      = 300
	defaultMaxConnsPerIP = 30
	defaultWindow        = 5 * time.Minute
	defaultValidatorTime = 2 * time.Second
	maxUserAgent         = 64 // bytes
)

// config is what the options say; check fills in the rest.
type config struct {
	given map[string]int

	network        Network
	listen         []string
	nodeKey        []byte
	host           host.Host
	userAgent      string
	static         []string
	profile        relay.Profile
	maxConns       int
	maxConnsPerIP  int
	maxMessageSize int
	peerBudget     dosguard.PeerBudgetConfig
	window         time.Duration
	protected      []protectedShard
	validators     []*validatorConfig
	logger         *slog.Logger
	metrics        prometheus.Registerer
	now            func() time.Time
	archive        *archiveConfig

	filterService    *filter.ServerConfig
	lightPushService *lightpush.ServerConfig
	filterPing       time.Duration

	exchangeService *peerexchange.ServerConfig
	bootTexts       []string
	trees           []string
	resolvers       []Resolver
	discv5Text      string
	nat             bool
	portMapping     bool
	externalTexts   []string
	noPoint         bool
	noCircuits      bool
	state           StateStore
	delivery        DeliveryConfig
	gapAge          time.Duration
	gapBytes        int64
	unfilled        bool // in tests: gaps aren't filled

	// Derived.
	identity    crypto.PrivKey
	listenAddrs []ma.Multiaddr
	staticPeers []peer.AddrInfo
	bootnodes   []*enr.Record
	discv5      netip.AddrPort // not valid: the node decides
	external    []netip.Addr   // one of each kind at most
}

type protectedShard struct {
	shard sharding.Shard
	keys  []*dosguard.PublicKey
}

type validatorConfig struct {
	shard   sharding.Shard
	v       message.Validator
	name    string
	timeout time.Duration
}

func newValidatorConfig(s sharding.Shard, v message.Validator, opts []ValidatorOption) *validatorConfig {
	c := &validatorConfig{shard: s, v: v, timeout: defaultValidatorTime}
	if v != nil {
		if f := runtime.FuncForPC(reflect.ValueOf(v).Pointer()); f != nil {
			c.name = strings.TrimSuffix(f.Name()[strings.LastIndexByte(f.Name(), '/')+1:], "-fm")
		}
	}
	for _, opt := range opts {
		opt(c)
	}
	return c
}

func (c *config) once(name string) { c.given[name]++ }

// newConfig follows the options; it opens nothing.
func newConfig(ctx context.Context, opts []Option) (*config, error) {
	c := &config{given: map[string]int{}}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("waku: New: an option is nil")
		}
		opt(c)
	}
	for _, check := range []func() error{
		c.checkTwice, c.checkHost, c.checkNetwork, c.checkIdentity, c.checkListen,
		c.checkLimits, c.checkShards, c.checkStatic, c.checkArchive, c.checkDiscovery,
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	c.logger = carefulLogger(c.logger)
	c.now = carefulClock(c.now)
	c.peerBudget.Now, c.peerBudget.Counters = nil, nil
	return c, context.Cause(ctx)
}

func optionErr(err error, names ...string) error { return &OptionError{Options: names, Err: err} }

func optionErrf(name, format string, args ...any) error {
	return optionErr(fmt.Errorf(format, args...), name)
}

func (c *config) checkTwice() error {
	var twice []string
	for name, n := range c.given {
		if n > 1 {
			twice = append(twice, name)
		}
	}
	if len(twice) == 0 {
		return nil
	}
	slices.Sort(twice)
	return optionErr(fmt.Errorf("given %d times, give it once", c.given[twice[0]]), twice[0], twice[0])
}

func (c *config) checkHost() error {
	if c.given["WithHost"] == 0 {
		return nil
	}
	if c.host == nil {
		return optionErrf("WithHost", "the host is nil: leave the option out and the node makes its own")
	}
	for _, other := range []string{"WithListenAddrs", "WithNodeKey", "WithUserAgent", "WithMaxConns", "WithNAT", "WithPortMapping", "WithExternalIP"} {
		if c.given[other] > 0 {
			return optionErr(errors.New("the host given decides that already: use one of the two"), "WithHost", other)
		}
	}
	return nil
}

func (c *config) checkNetwork() error {
	if c.given["WithNetwork"] == 0 {
		c.network = Local
	}
	switch {
	case c.given["WithMaxMessageSize"] > 0 && c.maxMessageSize <= 0:
		return optionErrf("WithMaxMessageSize", "%d bytes, want a positive number", c.maxMessageSize)
	case c.network.MaxMessageSize < 0:
		return optionErrf("WithNetwork", "MaxMessageSize is %d bytes, want a positive number", c.network.MaxMessageSize)
	case c.maxMessageSize > 0:
		c.network.MaxMessageSize = c.maxMessageSize
	case c.network.MaxMessageSize == 0:
		c.network.MaxMessageSize = message.DefaultMaxSize
	}
	return nil
}

func (c *config) checkIdentity() error {
	if c.host != nil {
		c.identity = c.host.Peerstore().PrivKey(c.host.ID())
		if c.identity == nil || c.identity.Type() != crypto.Secp256k1 {
			return optionErrf("WithHost", "the host's identity isn't a secp256k1 key, which a Waku node needs: see libp2p.Identity")
		}
		return nil
	}
	if c.given["WithNodeKey"] == 0 {
		c.nodeKey = GenerateNodeKey()
	}
	var err error
	if c.identity, err = identityFrom(c.nodeKey); err != nil {
		return optionErr(err, "WithNodeKey")
	}
	if c.given["WithUserAgent"] == 0 {
		c.userAgent = "shoal"
	}
	if c.userAgent == "" || len(c.userAgent) > maxUserAgent {
		return optionErrf("WithUserAgent", "want 1 to %d bytes, have %d", maxUserAgent, len(c.userAgent))
	}
	return nil
}

func (c *config) checkListen() error {
	if c.given["WithListenAddrs"] == 0 {
		c.listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"}
	}
	if c.host != nil {
		return nil
	}
	for _, text := range c.listen {
		addr, err := parseListenAddr(text)
		if err != nil {
			return optionErr(err, "WithListenAddrs")
		}
		c.listenAddrs = append(c.listenAddrs, addr)
	}
	return nil
}

func (c *config) checkLimits() error {
	if err := c.checkDelivery(); err != nil {
		return err
	}
	c.maxConns = c.orDefault("WithMaxConns", c.maxConns, defaultMaxConns)
	c.maxConnsPerIP = c.orDefault("WithMaxConnsPerIP", c.maxConnsPerIP, defaultMaxConnsPerIP)
	if c.given["WithMessageWindow"] == 0 {
		c.window = defaultWindow
	}
	if c.given["WithFilterPing"] == 0 {
		c.filterPing = defaultFilterPing
	}
	if c.given["WithRelayProfile"] == 0 {
		c.profile = relay.Default()
	}
	if c.given["WithGapLimits"] == 0 {
		c.gapAge = resumeDefault
	}
	switch {
	case c.maxConns < 1:
		return optionErrf("WithMaxConns", "%d connections, want a positive number", c.maxConns)
	case c.maxConnsPerIP < 1:
		return optionErrf("WithMaxConnsPerIP", "%d connections, want a positive number", c.maxConnsPerIP)
	case c.given["WithMaxConns"] > 0 && c.given["WithMaxConnsPerIP"] > 0 && c.maxConnsPerIP > c.maxConns:
		return optionErr(fmt.Errorf("%d in all can't hold %d from one address: raise the first or lower the second",
			c.maxConns, c.maxConnsPerIP), "WithMaxConns", "WithMaxConnsPerIP")
	case c.peerBudget.Messages < 0 || c.peerBudget.MessageBurst < 0 || c.peerBudget.Bytes < 0 ||
		c.peerBudget.ByteBurst < 0 || c.peerBudget.Peers < 0:
		return optionErrf("WithPeerBudget", "a number in it is negative: zero stands for the default")
	case c.filterPing < time.Second || c.filterPing > maxFilterPing:
		return optionErrf("WithFilterPing", "%v, want from %v to %v, after which service peers forget", c.filterPing, time.Second, maxFilterPing)
	case c.gapAge <= 0 || c.gapBytes < 0:
		return optionErrf("WithGapLimits", "%v and %d bytes, want a positive time, and no negative number", c.gapAge, c.gapBytes)
	case c.window <= 0:
		return optionErrf("WithMessageWindow", "%v, want a positive duration such as 5m", c.window)
	case c.profile == relay.Profile{}:
		return optionErrf("WithRelayProfile", "the profile is empty: start from relay.Default() or relay.Fleet(d)")
	}
	return nil
}

func (c *config) orDefault(option string, have, otherwise int) int {
	if c.given[option] == 0 {
		return otherwise
	}
	return have
}

func (c *config) checkShards() error {
	for _, p := range c.protected {
		if err := c.checkShard("WithProtectedShard", p.shard); err != nil {
			return err
		}
		if len(p.keys) == 0 || slices.Contains(p.keys, nil) {
			return optionErrf("WithProtectedShard", "shard %s: a key is missing: name the public key that signs its messages", p.shard)
		}
	}
	for i, v := range c.validators {
		if err := c.checkShard("WithValidator", v.shard); err != nil {
			return err
		}
		switch {
		case v.v == nil:
			return optionErrf("WithValidator", "shard %s: the validator is nil", v.shard)
		case v.timeout <= 0:
			return optionErrf("WithValidator", "shard %s: ValidatorTimeout is %v, want a positive duration", v.shard, v.timeout)
		case v.name == "":
			return optionErrf("WithValidator", "shard %s: ValidatorName is empty", v.shard)
		case slices.ContainsFunc(c.validators[:i], func(x *validatorConfig) bool { return x.shard == v.shard && x.name == v.name }):
			return optionErrf("WithValidator", "shard %s has two validators called %q: tell them apart with ValidatorName", v.shard, v.name)
		}
	}
	return nil
}

// checkShard names both options when a shard isn't the network's.
func (c *config) checkShard(option string, s sharding.Shard) error {
	if err := s.Valid(); err != nil {
		return optionErr(err, option)
	}
	if s.Cluster != c.network.Cluster {
		return optionErr(fmt.Errorf("shard %s isn't one of network %s: a node belongs to one cluster", s, c.network), option, "WithNetwork")
	}
	return nil
}

func (c *config) checkArchive() error {
	a := c.archive
	switch {
	case a == nil:
		return nil
	case a.archive == nil:
		return optionErrf("WithArchive", "the archive is nil: open one with store/sqlite or store/postgres, or leave the option out")
	case a.window <= 0:
		return optionErrf("WithArchive", "ArchiveWindow is %v, want a positive duration such as 5m", a.window)
	case a.resume < 0:
		return optionErrf("WithArchive", "ArchiveResume is %v, want a duration, or zero not to ask", a.resume)
	}
	return nil
}

func (c *config) checkStatic() error {
	self, err := peer.IDFromPrivateKey(c.identity)
	if err != nil {
		return err
	}
	for _, text := range c.static {
		info, err := parsePeerAddr(text)
		if err != nil {
			return optionErr(err, "WithStaticPeers")
		}
		if info.ID == self {
			return optionErrf("WithStaticPeers", "%s is this node itself: name another", text)
		}
		i := slices.IndexFunc(c.staticPeers, func(x peer.AddrInfo) bool { return x.ID == info.ID })
		if i < 0 {
			c.staticPeers = append(c.staticPeers, info)
			continue
		}
		c.staticPeers[i].Addrs = append(c.staticPeers[i].Addrs, info.Addrs...)
	}
	return nil
}

func (c *config) checkDiscovery() error {
	for _, text := range c.network.Bootnodes {
		if err := c.bootnode(text); err != nil {
			return optionErr(err, "WithNetwork")
		}
	}
	for _, text := range c.bootTexts {
		if err := c.bootnode(text); err != nil {
			return optionErr(err, "WithBootnodes")
		}
	}
	given := c.trees
	c.trees = nil
	for _, from := range []struct {
		option string
		urls   []string
	}{{"WithNetwork", c.network.DNSTrees}, {"WithDNSTrees", given}} {
		for _, url := range from.urls {
			if _, err := dnsdisc.ParseURL(url); err != nil {
				return optionErr(err, from.option)
			}
			if !slices.Contains(c.trees, url) {
				c.trees = append(c.trees, url)
			}
		}
	}
	if c.given["WithResolvers"] > 0 && (len(c.resolvers) == 0 || slices.Contains(c.resolvers, nil)) {
		return optionErrf("WithResolvers", "a resolver is missing: see ResolverAt, or leave the option out")
	}
	if c.given["WithStateStore"] > 0 && c.state == nil {
		return optionErrf("WithStateStore", "the store is nil: see StateDir, or leave the option out")
	}
	if c.given["WithDiscv5"] > 0 && c.given["WithoutDiscv5"] > 0 {
		return optionErr(errors.New("use one of the two"), "WithDiscv5", "WithoutDiscv5")
	}
	if c.given["WithDiscv5"] > 0 {
		addr, err := netip.ParseAddrPort(c.discv5Text)
		if err != nil {
			return optionErrf("WithDiscv5", "%q: want an IP address and a port, such as 0.0.0.0:9000", c.discv5Text)
		}
		c.discv5 = addr
	}
	return c.checkExternal()
}

func (c *config) bootnode(text string) error {
	r, err := enr.Parse(text)
	if err != nil {
		return fmt.Errorf("%.32s…: %w", text, err)
	}
	shards, err := r.Shards()
	if err != nil {
		return fmt.Errorf("%.32s…: %w", text, err)
	}
	if shards.Len() > 0 && shards.Cluster() != c.network.Cluster {
		return fmt.Errorf("%.32s… is a node of cluster %d, network %s isn't", text, shards.Cluster(), c.network)
	}
	c.bootnodes = append(c.bootnodes, r)
	return nil
}
