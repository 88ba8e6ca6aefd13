//go:build soak

package waku_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// attackers connect with n from one address, graft themselves, offer peer exchange that
// names others of theirs, and come back when they are sent away.
func attackers(t *testing.T, ctx context.Context, net *p2ptest.Network, n *waku.Node, first, count int, ip netip.Addr) (ids []peer.ID) {
	var theirs [][]byte
	for i := range 20 {
		theirs = append(theirs, recordOf(t, firstSybil+50_000+i, enr.Fields{IP4: at(3000 + i), TCP: 60000}).Bytes())
	}
	info := addrInfo(t, n)
	topic := town.PubsubTopic()
	for i := range count {
		h := net.Host(p2ptest.HostConfig{Key: p2ptest.Key(firstSybil + first + i), IP: ip})
		answerMetadata(h)
		answers(h, func(int) [][]byte { return theirs })
		raw := p2ptest.NewRawPubsub(t, h)
		t.Cleanup(raw.Close)
		ids = append(ids, h.ID())
		done := make(chan struct{})
		t.Cleanup(func() { <-done })
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				if h.Connect(ctx, info) == nil {
					_ = raw.Send(info.ID, p2ptest.Subscribe(topic), p2ptest.Graft(topic))
				}
				pauseFor(ctx, 10*time.Second)
			}
		}()
	}
	return ids
}

// All that others may take of a node's connections is taken by attackers from twenty
// addresses: within a minute of its start the node has honest peers in its mesh.
func TestSoakInboundSlotsTaken(t *testing.T) {
	const addresses, each = 20, 12
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		nodes := fleet(t, net, 6)
		for i, a := range nodes {
			connect(t, a, nodes[:i]...)
		}
		h := net.Host(p2ptest.HostConfig{IP: netip.MustParseAddr("21.200.0.1"), Resources: waku.NewResources(t, 300, 30)})
		n := start(t, waku.WithHost(h), waku.WithNetwork(world), waku.WithDNSTrees(tree(t, 1, records(nodes...)...).URL),
			waku.WithBootnodes(records(nodes...)...), waku.WithoutDiscv5(),
			waku.WithResolvers(resolver(func(string) ([]string, error) { return nil, nil })))
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		for i := range addresses {
			attackers(t, ctx, net, n, i*each, each, netip.AddrFrom4([4]byte{66, byte(i), 1, 1}))
		}
		time.Sleep(30 * time.Second) // virtual: they are there first
		join(t, n, waku.Community{Shard: town})
		honest := map[peer.ID]bool{}
		for _, x := range nodes {
			honest[x.PeerID()] = true
		}
		mesh := func() (count int) {
			for _, p := range waku.RelayOf(n).Mesh(town) {
				if honest[p] {
					count++
				}
			}
			return count
		}
		began := time.Now()
		for mesh() < 2 && time.Since(began) < time.Minute {
			time.Sleep(time.Second)
		}
		t.Logf("%d connections, %d honest ones in a mesh of %d after %v", len(n.Peers()), mesh(), len(waku.RelayOf(n).Mesh(town)), time.Since(began))
		require.GreaterOrEqual(t, mesh(), 2)
		time.Sleep(10 * time.Minute) // virtual
		t.Logf("ten minutes later: %d connections, %d honest ones in a mesh of %d", len(n.Peers()), mesh(), len(waku.RelayOf(n).Mesh(town)))
		require.GreaterOrEqual(t, mesh(), 2)
		for _, p := range n.Peers() {
			require.True(t, p.Inbound || honest[p.ID], "an attacker who was sent away was called back")
		}
	})
}

// Twenty members behind one address, and then thirty identities of an attacker's at
// another one, among newcomers from everywhere that fill the node: of the members none is
// sent away.
func TestSoakHouseholdStays(t *testing.T) {
	const crowd = 190
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		h := net.Host(p2ptest.HostConfig{IP: netip.MustParseAddr("21.200.0.1"), Resources: waku.NewResources(t, 300, 30)})
		n := start(t, waku.WithHost(h), waku.WithNetwork(world))
		join(t, n, waku.Community{Shard: town})
		home := netip.MustParseAddr("22.0.0.1")
		var members []peer.ID
		for i := range 20 {
			x := net.Host(p2ptest.HostConfig{Key: p2ptest.Key(500 + i), IP: home})
			answerMetadata(x)
			raw := p2ptest.NewRawPubsub(t, x)
			t.Cleanup(raw.Close)
			require.NoError(t, x.Connect(within(t), addrInfo(t, n)))
			members = append(members, x.ID())
		}
		time.Sleep(3 * time.Minute) // virtual
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		hostile := map[peer.ID]bool{}
		for _, id := range attackers(t, ctx, net, n, 0, 30, netip.MustParseAddr("66.0.0.1")) {
			hostile[id] = true
		}
		for i := range crowd {
			attackers(t, ctx, net, n, 1000+i, 1, netip.AddrFrom4([4]byte{67, byte(i), 1, 1}))
		}
		for range 20 {
			time.Sleep(time.Minute) // virtual
			here := map[peer.ID]bool{}
			bad := 0
			for _, p := range n.Peers() {
				here[p.ID] = true
				if hostile[p.ID] {
					bad++
				}
			}
			for _, id := range members {
				require.True(t, here[id], "a member was sent away: %d connections, %d of 30 from one address", len(here), bad)
			}
		}
		left := 0
		for _, p := range n.Peers() {
			if hostile[p.ID] {
				left++
			}
		}
		t.Logf("%d connections, %d of the thirty are left, all 20 members", len(n.Peers()), left)
	})
}
