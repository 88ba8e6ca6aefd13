package scorecard

import (
	"context"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

const (
	townShards = 6
	firstShard = 128
)

// town is a network of nodes on loopback that know nobody but those they begin with.
type town struct {
	t       *testing.T
	network waku.Network
	nodes   []*waku.Node
}

// shardsOf are the two shards of the i-th node.
func (w *town) shardsOf(i int) []sharding.Shard {
	return []sharding.Shard{w.shard(i % townShards), w.shard((i + 1 + i/townShards%2) % townShards)}
}

func (w *town) shard(i int) sharding.Shard {
	return sharding.Shard{Cluster: w.network.Cluster, Index: uint16(firstShard + i)}
}

func (w *town) node(opts ...waku.Option) *waku.Node {
	w.t.Helper()
	opts = append([]waku.Option{waku.WithNetwork(w.network), waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0")}, opts...)
	n, err := waku.New(w.t.Context(), opts...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, n.Close()) })
	return n
}

func (w *town) join(n *waku.Node, shards ...sharding.Shard) {
	w.t.Helper()
	for _, s := range shards {
		_, err := n.Join(w.t.Context(), waku.Community{Shard: s})
		require.NoError(w.t, err)
	}
}

// settle starts nodes that join two shards each, and counts who carries what.
func (w *town) settle(count int, opts ...waku.Option) map[sharding.Shard]int {
	carriers := map[sharding.Shard]int{}
	for i := range count {
		n := w.node(opts...)
		w.join(n, w.shardsOf(i)...)
		w.nodes = append(w.nodes, n)
		for _, s := range w.shardsOf(i) {
			carriers[s]++
		}
	}
	return carriers
}

// served tells whether a node has all the relay peers it looks for, of the others that
// there are.
func served(n *waku.Node, others func(sharding.Shard) int) bool {
	h := n.Health()
	for _, m := range h.Discovery.Missing {
		if m.Service == "relay" && m.Have < min(m.Target, others(m.Shard)) {
			return false
		}
	}
	return h.Peers > 0
}

// meshed tells whether a node has a full mesh on all its shards, as far as there are
// others.
func meshed(n *waku.Node, others func(sharding.Shard) int) bool {
	for _, s := range n.Health().Shards {
		if s.Mesh < min(relay.Default().DLow, others(s.Shard)) {
			return false
		}
	}
	return true
}

// await waits until all of nodes fulfil a condition, and logs how long they took.
func (w *town) await(nodes []*waku.Node, what string, ok func(*waku.Node) bool) {
	w.t.Helper()
	began := time.Now()
	left := slices.Clone(nodes)
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	var half time.Duration
	for {
		left = slices.DeleteFunc(left, ok)
		took := time.Since(began).Round(10 * time.Millisecond)
		if half == 0 && len(left) <= len(nodes)/2 {
			half = took
		}
		if len(left) == 0 {
			w.t.Logf("%s: half of %d nodes after %v, all after %v", what, len(nodes), half, took)
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			h := left[0].Health()
			w.t.Fatalf("%s: %d of %d nodes haven't, the first: %s %+v", what, len(left), len(nodes), h.Summary, h.Discovery)
		}
	}
}

// Nodes that know one address find the peers of their shards, and nobody of
// another cluster; when half of them vanish the others close the gaps; a shard that is
// joined later is found.
func TestTown(t *testing.T) { liveInTown(t, 24) }

func liveInTown(t *testing.T, count int) {
	if testing.Short() {
		count = 12
	}
	w := &town{t: t, network: waku.Local}
	w.network.Cluster = 4711
	boot := w.node(waku.WithDiscv5("127.0.0.1:0")) // it carries nothing: strangers begin with it too
	w.network.Bootnodes = []string{boot.ENR()}
	foreign := &town{t: t, network: waku.Local}
	foreign.network.Cluster = 4712
	foreign.network.Bootnodes = w.network.Bootnodes
	for range 6 {
		foreign.join(foreign.node(), foreign.shard(0))
	}

	carriers := w.settle(count)
	others := func(s sharding.Shard) int { return carriers[s] - 1 }
	w.await(w.nodes, "a first peer", func(n *waku.Node) bool { return n.Health().Peers > 0 })
	w.await(w.nodes, "the peers of all shards", func(n *waku.Node) bool { return served(n, others) })
	w.await(w.nodes, "a mesh on all shards", func(n *waku.Node) bool { return meshed(n, others) })
	for _, n := range w.nodes {
		for _, p := range n.Peers() {
			for _, s := range p.Shards {
				require.Equal(t, w.network.Cluster, s.Cluster)
			}
		}
	}

	half := count / 2
	for i, n := range w.nodes[half:] {
		require.NoError(t, n.Close())
		for _, s := range w.shardsOf(half + i) {
			carriers[s]--
		}
	}
	w.await(w.nodes[:half], "the peers of all shards again", func(n *waku.Node) bool { return served(n, others) })
	w.await(w.nodes[:half], "a mesh on all shards again", func(n *waku.Node) bool { return meshed(n, others) })

	late := w.shard(99)
	latecomers := []*waku.Node{w.nodes[0], w.nodes[3], w.nodes[half-1]}
	for _, n := range latecomers {
		w.join(n, late)
	}
	w.await(latecomers, "the others of a new shard", func(n *waku.Node) bool {
		return slices.ContainsFunc(n.Health().Shards, func(s waku.ShardHealth) bool { return s.Shard == late && s.Peers == 2 })
	})
}

// The same from a list in DNS that names a few of them, and a light member from one
// service of peer exchange.
func TestTownFromOneName(t *testing.T) { liveByName(t, 18) }

func liveByName(t *testing.T, count int) {
	if testing.Short() {
		count = 6
	}
	w := &town{t: t, network: waku.Local}
	w.network.Cluster = 4713
	fleet := []waku.Option{
		waku.WithDiscv5("127.0.0.1:0"), waku.WithFilterService(filter.ServerConfig{}),
		waku.WithLightPushService(lightpush.ServerConfig{}), waku.WithPeerExchangeService(peerexchange.ServerConfig{}),
	}
	var content dnstest.Content
	for i := range 3 {
		n := w.node(fleet...)
		w.join(n, w.shard(2*i), w.shard(2*i+1))
		r, err := enr.Parse(n.ENR())
		require.NoError(t, err)
		content.Records = append(content.Records, r)
	}
	key, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	require.NoError(t, err)
	content.Seq = 1
	tree, err := dnstest.Publish(key, "town.example.org", content)
	require.NoError(t, err)
	server, err := dnstest.Serve(dnstest.NewZone(tree))
	require.NoError(t, err)
	defer server.Close()
	resolver, err := waku.ResolverAt(server.Addr())
	require.NoError(t, err)
	w.network.DNSTrees = []string{tree.URL}

	carriers := w.settle(count, waku.WithResolvers(resolver), waku.WithFilterService(filter.ServerConfig{}),
		waku.WithLightPushService(lightpush.ServerConfig{}), waku.WithPeerExchangeService(peerexchange.ServerConfig{}))
	w.await(w.nodes, "a first peer", func(n *waku.Node) bool { return n.Health().Peers > 0 })
	w.await(w.nodes, "the peers of all shards", func(n *waku.Node) bool {
		return served(n, func(s sharding.Shard) int { return carriers[s] })
	})

	w.network.DNSTrees = nil
	phone := w.node(waku.WithStaticPeers(w.nodes[0].Addrs()[0]))
	for i := range townShards {
		m, err := phone.Join(t.Context(), waku.Community{Shard: w.shard(i)}, waku.AsLight())
		require.NoError(t, err)
		_, err = m.Subscribe("/town/1/lobby/proto")
		require.NoError(t, err)
	}
	w.await([]*waku.Node{phone}, "two service peers on all shards, by peer exchange", func(n *waku.Node) bool {
		return n.Health().State == waku.Sufficient
	})
}
