package waku

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	mplex "github.com/libp2p/go-libp2p-mplex"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/x/rate"
	"go.uber.org/fx"

	"github.com/status-im/shoal/filter"
)

// newHost makes the host that the options ask for; it doesn't listen yet. Yamux is
// offered first; mplex is all that js-waku as shipped speaks.
func newHost(n *Node) (host.Host, error) {
	c := n.cfg
	resources, err := newResources(c)
	if err != nil {
		return nil, err
	}
	door := newDoorstep(resources, n.gater)
	opts := []libp2p.Option{
		libp2p.Identity(c.identity),
		libp2p.NoListenAddrs,
		libp2p.UserAgent(c.userAgent),
		libp2p.Transport(door.newTCP),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(door.newWebsocket),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.Muxer(mplex.ID, mplex.DefaultTransport),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.ConnectionGater(n.gater),
		libp2p.DisableMetrics(), // they would go to the global registry
	}
	h, err := libp2p.New(append(opts, natOptions(n)...)...)
	if err != nil {
		if closeErr := resources.Close(); closeErr != nil {
			c.logger.Warn("closing the resource manager", "err", closeErr)
		}
		return nil, fmt.Errorf("waku: starting the host: %s", line(err))
	}
	return h, nil
}

// natOptions are how the host finds out whether others can reach it, and tells them.
// Without WithNAT nobody is asked, and the listen addresses are taken for what they are.
func natOptions(n *Node) (opts []libp2p.Option) {
	c := n.cfg
	if c.portMapping {
		opts = append(opts, libp2p.NATPortMap())
	}
	if !c.network.Private && !c.noCircuits && len(c.listenAddrs) > 0 {
		opts = append(opts, libp2p.EnableNATService()) // others may ask this node
	}
	if len(c.external) > 0 {
		opts = append(opts, libp2p.AddrsFactory(c.outside))
	}
	if !c.nat {
		return append(opts, libp2p.DisableRelay(), libp2p.ForceReachabilityPublic(), libp2p.DisableIdentifyAddressDiscovery())
	}
	return append(opts,
		libp2p.EnableRelay(),
		libp2p.EnableAutoNATv2(),
		libp2p.AddrsFactory(n.nat.announce),
		libp2p.WithFxOption(fx.Populate(&n.nat.punches.observed)),
	)
}

// newResources bounds what strangers can make the host hold: connections in all,
// by direction and by address; streams and memory follow libp2p's defaults, which
// grow with the machine.
func newResources(c *config) (*resources, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	auto := scaling.AutoScale()
	conns := rcmgr.ResourceLimits{
		Conns:         rcmgr.LimitVal(c.maxConns),
		ConnsInbound:  rcmgr.LimitVal(inboundShare(c.maxConns)),
		ConnsOutbound: rcmgr.LimitVal(c.maxConns),
		FD:            rcmgr.LimitVal(2 * c.maxConns),
	}
	limits := rcmgr.PartialLimitConfig{System: conns, Transient: conns}
	// Every connection may be a filter subscriber's, who has a stream for pushes;
	// go-waku takes several at once. The library's limits are for the machine.
	usual := auto.ToPartialLimitConfig()
	pushes := rcmgr.LimitVal(pushStreams * c.maxConns)
	limits.System.Streams = max(usual.System.Streams, 2*pushes)
	limits.System.StreamsInbound = max(usual.System.StreamsInbound, pushes)
	limits.System.StreamsOutbound = max(usual.System.StreamsOutbound, pushes)
	// Those without a protocol yet are bounded for each peer, by intake.
	unnamed := rcmgr.LimitVal(maxUnnamed * c.maxConns)
	limits.Transient.Streams = max(usual.Transient.Streams, 2*unnamed)
	limits.Transient.StreamsInbound = max(usual.Transient.StreamsInbound, unnamed)
	limits.Transient.StreamsOutbound = max(usual.Transient.StreamsOutbound, unnamed)
	if c.filterService != nil {
		many := rcmgr.ResourceLimits{Streams: 2 * pushes, StreamsInbound: pushes, StreamsOutbound: pushes}
		limits.Service = map[string]rcmgr.ResourceLimits{filter.Service: many}
		limits.Protocol = map[protocol.ID]rcmgr.ResourceLimits{filter.PushID: many, filter.SubscribeID: many}
	}
	perIP4, perIP6, churn := perAddress(c.maxConnsPerIP)
	m, err := rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Build(auto)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(perIP4, perIP6),
		rcmgr.WithConnRateLimiters(new(rate.Limiter)), // resources has it
	)
	if err != nil {
		return nil, fmt.Errorf("waku: resource manager: %w", err)
	}
	return &resources{ResourceManager: m, churn: churn, intake: newIntake()}, nil
}

// inboundShare is how many of the connections may be such that others dialled.
func inboundShare(maxConns int) int { return max(1, maxConns*2/3) }

// pushStreams is how many streams there may be for each connection of a filter
// service.
const pushStreams = 4

// perAddress holds one IPv4 address or IPv6 /64 to n connections, and to 4n
// attempts a minute: dialling takes one for each transport, and a household comes
// back at once when its router restarts. The manager's own exemption of loopback
// stays for the first; for the second it has to be named again. What counts as an
// attempt by TCP says doorstep.
func perAddress(n int) (ip4, ip6 []rcmgr.ConnLimitPerSubnet, churn *rate.Limiter) {
	ip4 = []rcmgr.ConnLimitPerSubnet{{ConnCount: n, PrefixLength: 32}}
	ip6 = []rcmgr.ConnLimitPerSubnet{{ConnCount: n, PrefixLength: 64}}
	limit := rate.Limit{RPS: float64(attempts(n)) / 60, Burst: attempts(n)}
	churn = &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: limit}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: limit}},
			GracePeriod:      time.Minute,
		},
	}
	return ip4, ip6, churn
}

func attempts(n int) int { return 4 * min(n, math.MaxInt/4) }

// calmHost opens streams to those who are connected, and doesn't dial for it: gossipsub
// would call back peers that this node has just parted from.
type calmHost struct{ host.Host }

// NewStream implements host.Host. Gossip never goes through a circuit.
func (h calmHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	if h.Host.Network().Connectedness(p) == network.Limited {
		return nil, network.ErrLimitedConn
	}
	return h.Host.NewStream(network.WithNoDial(ctx, "relay"), p, ids...)
}

// SetStreamHandler implements host.Host. Nobody gossips through a circuit.
func (h calmHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Host.SetStreamHandler(id, onlyDirect(handle))
}

// SetStreamHandlerMatch implements host.Host.
func (h calmHost) SetStreamHandlerMatch(id protocol.ID, match func(protocol.ID) bool, handle network.StreamHandler) {
	h.Host.SetStreamHandlerMatch(id, match, onlyDirect(handle))
}

func onlyDirect(handle network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		if s.Conn().Stat().Limited {
			_ = s.Reset()
			return
		}
		handle(s)
	}
}
