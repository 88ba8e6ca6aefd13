package waku_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// apart returns a host in a network of its own: nodes don't rely on their neighbours.
func apart(net *p2ptest.Network) host.Host {
	return net.Host(p2ptest.HostConfig{IP: netip.AddrFrom4([4]byte{21, byte(places.Add(1)), 0, 1})})
}

var places atomic.Uint32

// fleet is a number of nodes that carry the town's shard and know nobody.
func fleet(t *testing.T, net *p2ptest.Network, count int, opts ...waku.Option) (nodes []*waku.Node) {
	t.Helper()
	for range count {
		n := start(t, slices.Concat(services(), opts, []waku.Option{waku.WithHost(apart(net)), waku.WithoutDiscv5()})...)
		join(t, n, waku.Community{Shard: town})
		nodes = append(nodes, n)
	}
	return nodes
}

func records(nodes ...*waku.Node) (texts []string) {
	for _, n := range nodes {
		texts = append(texts, n.ENR())
	}
	return texts
}

// tree publishes the records of nodes.
func tree(t *testing.T, seq uint64, texts ...string) dnstest.Tree {
	t.Helper()
	var records []*enr.Record
	for _, text := range texts {
		r, err := enr.Parse(text)
		require.NoError(t, err)
		records = append(records, r)
	}
	return treeOf(t, seq, records)
}

func treeOf(t *testing.T, seq uint64, records []*enr.Record, domain ...string) dnstest.Tree {
	t.Helper()
	key, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	require.NoError(t, err)
	domain = append(domain, "nodes.example.org")
	published, err := dnstest.Publish(key, domain[0], dnstest.Content{Seq: seq, Records: records})
	require.NoError(t, err)
	return published
}

// A relaying member that knows the records of some nodes connects with as many as it
// needs, and no more.
func TestBootnodes(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 14)
		n := start(t, waku.WithHost(apart(net)), waku.WithBootnodes(records(nodes...)...), waku.WithoutDiscv5())
		time.Sleep(time.Minute) // virtual
		require.Empty(t, n.Peers(), "nobody is needed")
		join(t, n, waku.Community{Shard: town})
		time.Sleep(10 * time.Second) // virtual
		h := n.Health()
		require.Equal(t, waku.Sufficient, h.State, h.Summary)
		const target = 8
		require.Len(t, n.Peers(), target)
		later := time.Hour
		if testing.Short() {
			later = 5 * time.Minute
		}
		time.Sleep(later) // virtual
		require.Len(t, n.Peers(), target)
	})
}

// A light member that knows one node finds others through it, and the relaying members
// that serve nobody aren't bothered.
func TestLightMemberByPeerExchange(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 5)
		first := start(t, waku.WithHost(apart(net)), waku.WithBootnodes(records(nodes...)...), waku.WithoutDiscv5(),
			waku.WithPeerExchangeService(peerexchange.ServerConfig{}))
		join(t, first, waku.Community{Shard: town})
		n := start(t, waku.WithHost(apart(net)), waku.WithStaticPeers(first.Addrs()[0]))
		m := join(t, n, waku.Community{Shard: town}, waku.AsLight())
		_, err := m.Subscribe(lobby)
		require.NoError(t, err)
		time.Sleep(30 * time.Second) // virtual
		h := n.Health()
		require.Equal(t, waku.Sufficient, h.State, "%s %+v", h.Summary, h.Discovery)
		require.Len(t, h.Shards[0].Light.ServicePeers, 2)
	})
}

// A light member that knows one node, which serves peer exchange and nothing else, asks
// that.
func TestLightMemberAsksWhoServesNothing(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 3)
		first := start(t, waku.WithHost(apart(net)), waku.WithBootnodes(records(nodes...)...), waku.WithoutDiscv5(),
			waku.WithPeerExchangeService(peerexchange.ServerConfig{}))
		join(t, first, waku.Community{Shard: town})
		n := start(t, waku.WithHost(apart(net)), waku.WithBootnodes(first.ENR()))
		m := join(t, n, waku.Community{Shard: town}, waku.AsLight())
		_, err := m.Subscribe(lobby)
		require.NoError(t, err)
		time.Sleep(15 * time.Second) // virtual
		h := n.Health()
		require.Equal(t, waku.Sufficient, h.State, "%s %+v", h.Summary, h.Discovery)
	})
}

// Peer exchange names nobody who has been dead for a minute.
func TestPeerExchangeNamesTheLiving(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 8)
		server := start(t, waku.WithHost(apart(net)), waku.WithBootnodes(records(nodes...)...), waku.WithoutDiscv5(),
			waku.WithPeerExchangeService(peerexchange.ServerConfig{Rate: 100, Burst: 100}))
		join(t, server, waku.Community{Shard: town})
		asker := apart(net)
		start(t, waku.WithHost(asker))
		info, err := peer.AddrInfoFromString(server.Addrs()[0])
		require.NoError(t, err)
		time.Sleep(5 * time.Second) // virtual
		require.NoError(t, asker.Connect(within(t), *info))
		client := peerexchange.NewClient(asker, peerexchange.ClientConfig{Rate: 100})
		named := func() map[peer.ID]bool {
			out := map[peer.ID]bool{}
			for range 5 {
				answer, err := client.Ask(context.Background(), info.ID, 60)
				if errors.Is(err, peerexchange.ErrUnavailable) {
					continue
				}
				require.NoError(t, err)
				for _, p := range answer.Peers {
					out[p.Info.ID] = true
				}
			}
			return out
		}
		named()
		time.Sleep(20 * time.Second) // virtual
		require.Len(t, named(), 8)
		for _, n := range nodes[:4] {
			net.Vanish(waku.HostOf(n))
		}
		time.Sleep(time.Minute) // virtual
		alive := named()
		for i, n := range nodes {
			require.Equal(t, i >= 4, alive[n.PeerID()])
		}
	})
}

// A list in DNS is all that a member needs; one that can't be read is told, and the last
// one that could is kept.
func TestDNSTree(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 6)
		list := tree(t, 1, records(nodes...)...)
		zone := dnstest.NewZone(list)
		state := newMemoryState()
		n := start(t, waku.WithHost(apart(net)), waku.WithDNSTrees(list.URL), waku.WithResolvers(zone),
			waku.WithStateStore(state), waku.WithoutDiscv5())
		join(t, n, waku.Community{Shard: town})
		time.Sleep(10 * time.Second) // virtual
		h := n.Health()
		require.Equal(t, waku.Sufficient, h.State, "%s %+v", h.Summary, h.Discovery)
		require.NoError(t, n.Close())
		require.NotEmpty(t, state.names())

		// The resolver has nothing to say any more, and the peers of the last run are gone.
		nobody := resolver(func(string) ([]string, error) { return nil, errors.New("network is unreachable") })
		state.forget("peers")
		again := start(t, waku.WithHost(apart(net)), waku.WithDNSTrees(list.URL), waku.WithResolvers(nobody),
			waku.WithStateStore(state), waku.WithoutDiscv5())
		join(t, again, waku.Community{Shard: town})
		time.Sleep(10 * time.Second) // virtual
		require.Equal(t, waku.Sufficient, again.Health().State, "by the list that was kept")
	})
}

// After a restart a node goes to the peers it had, without asking anybody, and its
// record's number grows, even if the clock was set back.
func TestRestartWithState(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 6)
		state := newMemoryState()
		h := apart(net)
		n := start(t, waku.WithHost(h), waku.WithBootnodes(records(nodes...)...), waku.WithStateStore(state), waku.WithoutDiscv5())
		join(t, n, waku.Community{Shard: town})
		time.Sleep(time.Minute) // virtual
		had := n.Peers()
		require.Len(t, had, 6)
		before, err := enr.Parse(n.ENR())
		require.NoError(t, err)
		require.NoError(t, n.Close())
		for _, p := range had {
			require.NoError(t, h.Network().ClosePeer(p.ID))
		}

		late := func() time.Time { return time.Now().Add(-1000 * time.Hour) }
		again := start(t, waku.WithHost(h), waku.WithStateStore(state), waku.WithClock(late))
		after, err := enr.Parse(again.ENR())
		require.NoError(t, err)
		require.Greater(t, after.Seq(), before.Seq())
		join(t, again, waku.Community{Shard: town})
		time.Sleep(30 * time.Second) // virtual
		require.Len(t, again.Peers(), 6)
	})
}

// A node that everybody dials, and that has dialled nobody, finds them again after a
// restart.
func TestRestartOfWhomAllDial(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 4)
		state := newMemoryState()
		h := apart(net)
		n := start(t, waku.WithHost(h), waku.WithStateStore(state), waku.WithoutDiscv5())
		join(t, n, waku.Community{Shard: town})
		for _, x := range nodes {
			connect(t, x, n)
		}
		time.Sleep(10 * time.Minute) // virtual
		had := n.Peers()
		require.Len(t, had, 4)
		for _, p := range had {
			require.True(t, p.Inbound)
		}
		require.NoError(t, n.Close())
		for _, p := range had {
			require.NoError(t, h.Network().ClosePeer(p.ID))
		}
		again := start(t, waku.WithHost(h), waku.WithStateStore(state), waku.WithoutDiscv5())
		join(t, again, waku.Community{Shard: town})
		time.Sleep(30 * time.Second) // virtual
		dialled := 0
		for _, p := range again.Peers() {
			if !p.Inbound {
				dialled++
			}
		}
		require.NotZero(t, dialled, "%v", again.Peers())
		t.Logf("%d of %d found again", len(again.Peers()), len(had))
	})
}

// Health says why there is nobody.
func TestWhyNoPeers(t *testing.T) {
	foreign := sharding.Shard{Cluster: 16, Index: 999}
	for name, c := range map[string]struct {
		options func(t *testing.T, net *p2ptest.Network) []waku.Option
		shard   sharding.Shard
		want    []string
	}{
		"DNS fails": {func(t *testing.T, net *p2ptest.Network) []waku.Option {
			nobody := resolver(func(string) ([]string, error) { return nil, errors.New("network is unreachable") })
			return []waku.Option{waku.WithDNSTrees(tree(t, 1).URL), waku.WithResolvers(nobody)}
		}, town, []string{"no peers", "DNS tree nodes.example.org", "network is unreachable"}},
		"nobody carries the shard": {func(t *testing.T, net *p2ptest.Network) []waku.Option {
			return []waku.Option{waku.WithBootnodes(records(fleet(t, net, 3)...)...)}
		}, foreign, []string{"of 3 nodes known nobody carries shard 16/999"}},
		"another cluster": {func(t *testing.T, net *p2ptest.Network) []waku.Option {
			n := start(t, waku.WithHost(apart(net)), waku.WithNetwork(waku.Network{Name: "other", Cluster: 1, Private: true}))
			return []waku.Option{waku.WithBootnodes(records(n)...)} // it carries nothing, so its record doesn't tell
		}, town, []string{"no peers", "1 peer in another cluster"}},
		"all are dead": {func(t *testing.T, net *p2ptest.Network) []waku.Option {
			nodes := fleet(t, net, 3)
			for _, n := range nodes {
				net.Vanish(waku.HostOf(n))
			}
			return []waku.Option{waku.WithBootnodes(records(nodes...)...)}
		}, town, []string{"no peers", "3 nodes known, none could be reached"}},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				opts := append(c.options(t, net), waku.WithHost(apart(net)), waku.WithoutDiscv5())
				n := start(t, opts...)
				join(t, n, waku.Community{Shard: c.shard})
				time.Sleep(time.Minute) // virtual
				for _, words := range c.want {
					require.Contains(t, n.Health().Summary, words)
				}
			})
		})
	}
}

// Discover hands out what is found, once, though the node needs nobody.
func TestDiscover(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 6)
		list := tree(t, 1, records(nodes[1:]...)...)
		n := start(t, waku.WithHost(apart(net)), waku.WithDNSTrees(list.URL), waku.WithBootnodes(nodes[0].ENR()),
			waku.WithResolvers(dnstest.NewZone(list)), waku.WithoutDiscv5())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		found := map[peer.ID]waku.Discovered{}
		for d := range n.Discover(ctx) {
			require.NotContains(t, found, d.ID)
			require.Equal(t, []sharding.Shard{town}, d.Shards)
			require.Equal(t, []string{"relay", "filter", "lightpush"}, d.Capabilities)
			found[d.ID] = d
		}
		require.Len(t, found, 6)
		require.Equal(t, "static", found[nodes[0].PeerID()].Source)
		require.Equal(t, "dns", found[nodes[1].PeerID()].Source)
		require.Equal(t, nodes[1].Addrs()[0], found[nodes[1].PeerID()].Addrs[0])
		require.Empty(t, n.Peers())
	})
}

// resolver is a DNS resolver made of a function.
type resolver func(name string) ([]string, error)

func (r resolver) LookupTXT(_ context.Context, name string) ([]string, error) { return r(name) }

// memoryState is a state store in memory.
type memoryState struct {
	mu sync.Mutex
	m  map[string][]byte
}

func newMemoryState() *memoryState { return &memoryState{m: map[string][]byte{}} }

func (s *memoryState) Load(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.m[name]), nil
}

func (s *memoryState) Save(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[name] = slices.Clone(value)
	return nil
}

func (s *memoryState) names() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.m {
		out = append(out, name)
	}
	return out
}

func (s *memoryState) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, name)
}
