package discv5_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/sharding"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func shards(cluster uint16, indices ...uint16) sharding.Set {
	s, err := sharding.NewSet(cluster, indices...)
	if err != nil {
		panic(err)
	}
	return s
}

// listen starts a node on loopback that serves shards.
func listen(t testing.TB, key int, set sharding.Set, edit ...func(*discv5.Config)) *discv5.Service {
	t.Helper()
	cfg := discv5.Config{
		Key:    p2ptest.Key(key),
		Listen: netip.AddrPortFrom(loopback, 0),
		Fields: enr.Fields{IP4: loopback, TCP: 60000, Capabilities: enr.Relay, Shards: set},
	}
	for _, e := range edit {
		e(&cfg)
	}
	s, err := discv5.Listen(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func boot(nodes ...*discv5.Service) func(*discv5.Config) {
	return func(c *discv5.Config) {
		for _, n := range nodes {
			c.Bootnodes = append(c.Bootnodes, n.Record())
		}
	}
}

// serving keeps records of cluster's shard.
func serving(cluster, index uint16) func(*discv5.Config) {
	return func(c *discv5.Config) {
		c.Keep = func(r *enr.Record) bool {
			set, err := r.Shards()
			return err == nil && set.Contains(sharding.Shard{Cluster: cluster, Index: index})
		}
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Twelve nodes that know one of them find all of their kind, and nobody else.
func TestAllFindEachOther(t *testing.T) {
	first := listen(t, 1, shards(16, 32), serving(16, 32))
	nodes := []*discv5.Service{first}
	for i := 2; i <= 12; i++ {
		nodes = append(nodes, listen(t, i, shards(16, 32), boot(first), serving(16, 32)))
	}
	var strangers []*discv5.Service
	for i := 101; i <= 104; i++ {
		strangers = append(strangers, listen(t, i, shards(99, 32), boot(first), serving(99, 32)))
	}
	start := time.Now()
	for i, n := range nodes {
		found := map[string]bool{}
		for len(found) < len(nodes)-1 {
			r, err := n.Next(within(t, 30*time.Second))
			require.NoError(t, err, "node %d found %d: %v", i, len(found), n.Stats())
			set, err := r.Shards()
			require.NoError(t, err)
			require.Equal(t, uint16(16), set.Cluster())
			require.NotContains(t, found, r.PeerID().String())
			require.NotEqual(t, n.Record().PeerID(), r.PeerID())
			found[r.PeerID().String()] = true
		}
	}
	t.Log("all found within", time.Since(start))
	_ = strangers
	t.Log(first.Stats())
}
