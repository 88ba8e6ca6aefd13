package p2ptest

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/insecure"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"
)

// Config says what a Network is like. The zero value is the fastest one.
type Config struct {
	// Latency is how long a byte takes from one host to another; 0: no time.
	Latency time.Duration
}

// Network is an in-memory network of libp2p hosts. It belongs to one test and
// ends with it.
type Network struct {
	t       testing.TB
	latency time.Duration

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	conns     map[*conn]netip.Addr // open ends, and whose they are
	away      map[netip.Addr]bool
	sides     map[netip.Addr]int // of a Split; nil: there is none
	meters    map[netip.Addr]*meter
	nextPort  uint16
	hosts     int
}

// New returns an empty network. Inside a synctest bubble it must be called
// with the bubble's own t.
func New(t testing.TB, c Config) *Network {
	return &Network{
		t: t, latency: c.Latency, listeners: make(map[netip.AddrPort]*listener),
		conns: make(map[*conn]netip.Addr), away: make(map[netip.Addr]bool),
		meters: make(map[netip.Addr]*meter),
	}
}

// Hosts returns n hosts on a network of their own, closed when the test ends.
// They listen but aren't connected: see Connect, Line, Ring, Star and Full.
func Hosts(t testing.TB, n int) []host.Host {
	t.Helper()
	return New(t, Config{}).Hosts(n)
}

// HostConfig says what one host is like. The zero value is what most tests
// need.
type HostConfig struct {
	// Key is the host's identity; nil: Key of the host's number on its network,
	// so that peer ids are the same in every run.
	Key crypto.PrivKey
	// IP is the address the host listens on and dials from. Several hosts may
	// share one. Zero: an address of its own, routable-looking (20.0.0.0/8).
	IP netip.Addr
	// Port is the TCP port listened on; 0: any.
	Port uint16
	// Resources is the host's resource manager; nil: none, everything is allowed.
	Resources network.ResourceManager
	// Gater is asked about every connection; nil: none.
	Gater connmgr.ConnectionGater
}

// Hosts adds n hosts with the zero HostConfig.
func (n *Network) Hosts(count int) []host.Host {
	n.t.Helper()
	hosts := make([]host.Host, count)
	for i := range hosts {
		hosts[i] = n.Host(HostConfig{})
	}
	return hosts
}

// Host adds a host; it is closed when the test ends. Everything above the wire
// is as in life: swarm, identify, multistream, yamux with its back-pressure,
// deadlines, resource manager, gater. Three things are left out because they
// would be most of the work of a large test: encryption (a peer is who it says
// it is), signed peer records, and yamux's pings.
func (n *Network) Host(c HostConfig) host.Host {
	n.t.Helper()
	c = n.withDefaults(c)
	require := require.New(n.t)

	id, err := peer.IDFromPrivateKey(c.Key)
	require.NoError(err)
	store, err := pstoremem.NewPeerstore()
	require.NoError(err)
	require.NoError(store.AddPrivKey(id, c.Key))
	pub := c.Key.GetPublic()
	require.NoError(store.AddPubKey(id, pub))

	bus := eventbus.NewBus()
	opts := []swarm.Option{swarm.WithResourceManager(c.Resources), swarm.WithIPv6BlackHoleSuccessCounter(nil)}
	if c.Gater != nil {
		opts = append(opts, swarm.WithConnectionGater(c.Gater))
	}
	sw, err := swarm.NewSwarm(id, store, bus, opts...)
	require.NoError(err)
	up, err := upgrader.New(
		[]sec.SecureTransport{insecure.NewWithIdentity(insecure.ID, id, cachedKey{c.Key, pub})},
		[]upgrader.StreamMuxer{{ID: yamux.ID, Muxer: quietYamux()}},
		nil, c.Resources, c.Gater)
	require.NoError(err)
	require.NoError(sw.AddTransport(&memTransport{net: n, ip: c.IP, upgrader: up, rcmgr: c.Resources}))

	h, err := basichost.NewHost(sw, &basichost.HostOpts{
		EventBus:                bus,
		DisableSignedPeerRecord: true,
		EnablePing:              true,
	})
	require.NoError(err)
	n.t.Cleanup(func() { h.Close() })
	require.NoError(sw.Listen(n.listenAddr(c)))
	h.Start()
	return h
}

// Options returns what makes a host of libp2p.New one of this network, for
// tests of code that builds its own host. Such a host encrypts and signs as
// its options say, and takes a few milliseconds more.
func (n *Network) Options(c HostConfig) []libp2p.Option {
	n.t.Helper()
	c = n.withDefaults(c)
	opts := []libp2p.Option{
		libp2p.Identity(c.Key),
		libp2p.ListenAddrs(n.listenAddr(c)),
		libp2p.Transport(func(u transport.Upgrader, rm network.ResourceManager) *memTransport {
			return &memTransport{net: n, ip: c.IP, upgrader: u, rcmgr: rm}
		}),
		libp2p.Muxer(yamux.ID, quietYamux()),
		libp2p.ResourceManager(c.Resources),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
	}
	if c.Gater != nil {
		opts = append(opts, libp2p.ConnectionGater(c.Gater))
	}
	return opts
}

func (n *Network) withDefaults(c HostConfig) HostConfig {
	n.mu.Lock()
	number := n.hosts
	n.hosts++
	n.mu.Unlock()
	if c.Key == nil {
		c.Key = Key(number)
	}
	if !c.IP.IsValid() {
		c.IP = netip.AddrFrom4([4]byte{20, byte(number >> 16), byte(number >> 8), byte(number)})
	}
	if c.Resources == nil {
		c.Resources = &network.NullResourceManager{}
	}
	return c
}

func (n *Network) listenAddr(c HostConfig) ma.Multiaddr {
	a, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.IP, c.Port)))
	require.NoError(n.t, err)
	return a
}

// quietYamux is yamux without pings: a session measures its round trip once.
func quietYamux() *yamux.Transport {
	c := *yamux.DefaultTransport.Config()
	c.EnableKeepAlive = false
	c.MeasureRTTInterval = 1000 * time.Hour
	return (*yamux.Transport)(&c)
}

// cachedKey spares every handshake the curve multiplication of GetPublic.
type cachedKey struct {
	crypto.PrivKey
	pub crypto.PubKey
}

func (k cachedKey) GetPublic() crypto.PubKey { return k.pub }

// Key returns the n-th test identity, the same in every run.
func Key(n int) crypto.PrivKey {
	seed := binary.BigEndian.AppendUint64([]byte("shoal test identity "), uint64(n))
	d := sha256.Sum256(seed)
	k, err := crypto.UnmarshalSecp256k1PrivateKey(d[:])
	if err != nil {
		panic(err) // one digest in 2^128 isn't a key
	}
	return k
}
