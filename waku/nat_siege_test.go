package waku_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/waku"
)

// between are walls that no two of the given hosts get through.
func (w *natWorld) walled(count int) (hosts []host.Host) {
	var walls []*wall
	for range count {
		x := &wall{from: map[peer.ID]bool{}}
		walls = append(walls, x)
		hosts = append(hosts, w.host(p2ptest.HostConfig{Gater: x}))
	}
	for i := range hosts {
		for j, o := range hosts {
			if i != j {
				walls[i].from[o.ID()] = true
			}
		}
	}
	return hosts
}

// NATs that can't be punched: both sides say so, the circuits are gone, nobody counts as
// a peer, and tries get rare.
func TestNATPunchFails(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		r := w.relayer()
		hosts := w.walled(2)
		static := waku.WithStaticPeers(r.Addrs()...)
		a, _, alog := w.member(hosts[0], network.ReachabilityPrivate, static)
		b, _, blog := w.member(hosts[1], network.ReachabilityPrivate, static)
		time.Sleep(time.Minute)
		synctest.Wait()
		failed := append(alog.of(waku.HolePunchFailed), blog.of(waku.HolePunchFailed)...)
		require.NotEmpty(t, failed)
		t.Log(failed[0])
		for _, n := range []*waku.Node{a, b} {
			peers := n.Peers()
			require.Len(t, peers, 1)
			require.Equal(t, r.PeerID(), peers[0].ID)
			require.NotZero(t, n.Health().NAT.PunchFailed)
			require.Contains(t, n.Health().NAT.Failure, "attempts at a direct connection failed")
		}
		if testing.Short() {
			return
		}
		time.Sleep(time.Hour)
		before := len(alog.of(waku.CircuitConnected))
		time.Sleep(time.Hour)
		synctest.Wait()
		tries := len(alog.of(waku.CircuitConnected)) - before
		t.Logf("%d circuits in the first hour, %d in the second", before, tries)
		require.LessOrEqual(t, tries, 6)
		require.Zero(t, waku.MeetingsOf(a)+waku.MeetingsOf(b))
		for _, c := range hosts[0].Network().ConnsToPeer(b.PeerID()) {
			t.Errorf("a circuit is left: %s", c.RemoteMultiaddr())
		}
	})
}

// A relayer dies: the circuit is replaced at once, and what is announced follows.
func TestNATRelayerDies(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		var addrs []string
		relayers := map[peer.ID]*waku.Node{}
		hosts := map[peer.ID]host.Host{}
		for range 3 {
			h := w.host(p2ptest.HostConfig{})
			r := w.relayerOn(h)
			relayers[r.PeerID()], hosts[r.PeerID()] = r, h
			addrs = append(addrs, r.Addrs()...)
		}
		n, _, log := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPrivate, waku.WithStaticPeers(addrs...))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		health := n.Health().NAT
		require.Len(t, health.Circuits, 2)
		require.NotEmpty(t, health.Registrations)
		require.Empty(t, health.Failure)
		gone := health.Circuits[0].Relayer
		other := health.Circuits[1].Relayer

		require.NoError(t, hosts[gone].Network().Close()) // as when its process ends
		time.Sleep(2 * time.Second)
		synctest.Wait()
		health = n.Health().NAT
		require.Len(t, health.Circuits, 2)
		for _, c := range health.Circuits {
			require.NotEqual(t, gone, c.Relayer)
		}
		require.NotEmpty(t, log.of(waku.CircuitLost))
		// The others know of it.
		for _, reg := range health.Registrations {
			require.NotEqual(t, gone, reg.Point)
		}
		time.Sleep(10 * time.Second)
		point := relayers[other].Health().Helper.Point
		require.Equal(t, 1, point.Registrations)
		record, err := enr.Parse(n.ENR())
		require.NoError(t, err)
		require.NotContains(t, record.Fields().Multiaddrs[0].String(), gone.String())
		// And it lasts: circuits are renewed for as long as it takes.
		if testing.Short() {
			time.Sleep(2 * time.Minute)
		} else {
			time.Sleep(12 * time.Hour)
		}
		synctest.Wait()
		health = n.Health().NAT
		require.Len(t, health.Circuits, 2)
		require.NotEmpty(t, health.Registrations)
		require.Len(t, log.of(waku.CircuitLost), 1)
	})
}

// A rendezvous point restarts and has forgotten everybody: they register again.
func TestNATPointRestarts(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		at := p2ptest.HostConfig{Key: p2ptest.Key(777), Port: 30303}
		at.IP = fleetIP
		h := w.host(at)
		r := w.relayerOn(h)
		n, _, _ := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPrivate, waku.WithStaticPeers(r.Addrs()...))
		time.Sleep(10 * time.Second)
		require.Equal(t, 1, r.Health().Helper.Point.Registrations)
		require.NoError(t, r.Close())
		require.NoError(t, h.Close())
		time.Sleep(10 * time.Second)
		require.Empty(t, n.Health().NAT.Circuits)
		again := w.relayerOn(w.host(at))
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, again.Health().Helper.Point.Registrations)
		require.Len(t, n.Health().NAT.Circuits, 1)
	})
}

// What is found out while the node runs is followed.
func TestNATReachabilityChanges(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		r := w.relayer()
		h := w.host(p2ptest.HostConfig{})
		n, _, log := w.member(h, network.ReachabilityPrivate, waku.WithStaticPeers(r.Addrs()...))
		own := h.Addrs()[0]
		private := func() {
			t.Helper()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			require.Equal(t, waku.ReachabilityPrivate, n.Health().NAT.Reachability)
			require.NotEmpty(t, n.Health().NAT.Circuits)
			require.Nil(t, n.Health().Helper.Point)
			require.Nil(t, n.Health().Helper.Circuits)
			for _, a := range n.Addrs() {
				require.Contains(t, a, "/p2p-circuit")
			}
			record, err := enr.Parse(n.ENR())
			require.NoError(t, err)
			f := record.Fields()
			require.False(t, f.IP4.IsValid() || f.IP6.IsValid(), f)
			require.Zero(t, f.TCP+f.UDP+f.TCP6+f.UDP6)
			require.NotEmpty(t, f.Multiaddrs)
			for _, a := range f.Multiaddrs {
				require.Contains(t, a.String(), "/p2p-circuit")
				require.NotContains(t, a.String(), ipOf(own))
			}
		}
		private()
		setReachability(t, h, network.ReachabilityPublic)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, waku.ReachabilityPublic, n.Health().NAT.Reachability)
		require.Empty(t, n.Health().NAT.Circuits)
		require.NotNil(t, n.Health().Helper.Point)
		require.NotNil(t, n.Health().Helper.Circuits)
		record, err := enr.Parse(n.ENR())
		require.NoError(t, err)
		require.Equal(t, ipOf(own), record.Fields().IP4.String())
		require.Empty(t, record.Fields().Multiaddrs)
		require.NotEmpty(t, n.Health().NAT.Registrations)
		require.NotNil(t, r.Health().Helper.Point)

		setReachability(t, h, network.ReachabilityPrivate)
		private()
		changes := log.of(waku.ReachabilityChanged)
		require.GreaterOrEqual(t, len(changes), 2)
		require.Equal(t, waku.ReachabilityPublic, changes[len(changes)-2].Reachability)
		require.Equal(t, waku.ReachabilityPrivate, changes[len(changes)-1].Reachability)
	})
}

func ipOf(a ma.Multiaddr) string { return strings.Split(a.String(), "/")[2] }

// A public node never uses a circuit, whoever tells it of one.
func TestPublicNodeUsesNoCircuit(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		r := w.relayer()
		static := waku.WithStaticPeers(r.Addrs()...)
		b, _, blog := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPrivate, static)
		plain := w.relayer(static) // doesn't ask whether it is public
		a, _, alog := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPublic, static)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Empty(t, alog.of(waku.CircuitConnected))
		addr := b.Addrs()[0]
		require.Contains(t, addr, "/p2p-circuit")
		for _, n := range []*waku.Node{a, plain} {
			_, err := n.Connect(t.Context(), addr)
			var refused *waku.PeerError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, waku.PeerRelayed, refused.Kind)
		}
		require.Empty(t, alog.of(waku.CircuitConnected))
		require.Empty(t, blog.of(waku.CircuitConnected))
	})
}

// Ten minutes of sleep, told or not, and a pause: reachable again by itself.
func TestNATAfterSleep(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		r := w.relayer()
		n, _, _ := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPrivate, waku.WithStaticPeers(r.Addrs()...))
		reachable := func(when string) {
			t.Helper()
			synctest.Wait()
			h := n.Health().NAT
			require.Len(t, h.Circuits, 1, "%s: %+v", when, n.Health())
			require.Len(t, h.Registrations, 1, when)
			require.Equal(t, 1, r.Health().Helper.Circuits.Reservations, when)
			require.Equal(t, 1, r.Health().Helper.Point.Registrations, when)
		}
		time.Sleep(10 * time.Second)
		reachable("at first")
		n.Pause()
		time.Sleep(10 * time.Minute)
		require.Empty(t, n.Health().NAT.Circuits)
		require.Zero(t, r.Health().Helper.Circuits.Reservations)
		n.Resume()
		time.Sleep(10 * time.Second)
		reachable("after a pause")
		// As after sleep, when the router has forgotten: connections are dead, and
		// nobody says so.
		w.net.Vanish(waku.HostOf(r))
		time.Sleep(10 * time.Minute)
		w.net.Return(waku.HostOf(r))
		n.NetworkChanged()
		time.Sleep(30 * time.Second)
		reachable("after sleep")
	})
}

// No mesh comes to stand, but a service node is there: it serves the shard meanwhile.
func TestNATLightFallback(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		narrow := relay.Classic()
		narrow.D, narrow.DLow, narrow.DHigh, narrow.DScore, narrow.DOut = 2, 1, 2, 1, 0
		narrow.FloodPublish = false
		r := w.relayer(waku.WithRelayProfile(narrow), waku.WithFilterService(filter.ServerConfig{}),
			waku.WithLightPushService(lightpush.ServerConfig{}))
		static := waku.WithStaticPeers(r.Addrs()...)
		var publics []*waku.Node
		for range 2 {
			publics = append(publics, w.relayer(static))
		}
		time.Sleep(10 * time.Second) // the relayer's mesh is full
		n, m, log := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPrivate, static)
		heard := subscribe(t, m, lobby)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Len(t, log.of(waku.LightFallback), 1, n.Health().Summary)
		h := n.Health()
		require.True(t, h.Shards[0].StandIn)
		require.Equal(t, waku.ModeRelay, m.Mode())
		require.Contains(t, h.Summary, "filter and light push stand in")
		t.Log(h.Summary)

		other := join(t, publics[0], waku.Community{Shard: town})
		theirs := subscribe(t, other, lobby)
		require.NotEmpty(t, sent(t, m, lobby, []byte("by push")).Status().Accepted)
		require.Equal(t, "by push", string(next(t, theirs).Message.Payload))
		require.Equal(t, "by push", string(next(t, heard).Message.Payload))
		_, err := other.Send(t.Context(), lobby, []byte("by filter"))
		require.NoError(t, err)
		require.Equal(t, "by filter", string(next(t, heard).Message.Payload))

		// There is room in the mesh: it takes over, and nothing comes twice.
		require.NoError(t, publics[1].Close())
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Len(t, log.of(waku.LightFallback), 2)
		require.False(t, n.Health().Shards[0].StandIn)
		_, err = other.Send(t.Context(), lobby, []byte("by mesh"))
		require.NoError(t, err)
		require.Equal(t, "by mesh", string(next(t, heard).Message.Payload))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = heard.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// C9: a flood of strangers gets its share and no more; those of our shards have the rest,
// and nobody loses what he has.
func TestCircuitRelayUnderSiege(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		server := w.host(p2ptest.HostConfig{})
		r := w.relayerOn(server)
		most := r.Health().Helper.Circuits.Max
		require.Equal(t, 100, most)
		target := p2ptest.AddrInfo(server)
		reserve := func(h host.Host, member bool) (host.Host, error) {
			if member {
				answerMetadata(h)
			} else {
				answerCluster(h)
			}
			require.NoError(t, h.Connect(t.Context(), target))
			time.Sleep(200 * time.Millisecond)
			_, err := circuit.Reserve(t.Context(), h, target)
			return h, err
		}
		one := func() host.Host { return w.net.Host(p2ptest.HostConfig{}) }
		first, err := reserve(one(), false)
		require.NoError(t, err)
		granted := 1
		strangers, members, span := 100, most-most/4, time.Minute
		if testing.Short() {
			strangers, members, span = 30, 3, 3*time.Second
		}
		for range strangers {
			if _, err := reserve(one(), false); err == nil {
				granted++
			}
		}
		require.Equal(t, most/4, granted)
		member, err := reserve(w.host(p2ptest.HostConfig{}), true)
		require.NoError(t, err)
		for range members - 1 {
			_, err = reserve(one(), true)
			require.NoError(t, err)
		}
		st := r.Health().Helper.Circuits
		require.Equal(t, granted+members, st.Reservations)
		if st.Reservations == most {
			_, err = reserve(one(), true)
			require.Error(t, err)
		}
		_, err = circuit.Reserve(t.Context(), first, target) // renewed
		require.NoError(t, err)

		// 10 MB through circuits: each ends at its limit, and they aren't opened for ever.
		member.SetStreamHandler("/sink", func(s network.Stream) {
			buf := make([]byte, 1<<16)
			for {
				if _, err := s.Read(buf); err != nil {
					return
				}
			}
		})
		// Identify tells of addresses that would do without a circuit.
		caller := w.host(p2ptest.HostConfig{Gater: &wall{from: map[peer.ID]bool{member.ID(): true}}})
		answerMetadata(caller)
		through, err := ma.NewMultiaddr(target.Addrs[0].String() + "/p2p/" + server.ID().String() + "/p2p-circuit/p2p/" + member.ID().String())
		require.NoError(t, err)
		to, err := peer.AddrInfoFromP2pAddr(through)
		require.NoError(t, err)
		began := time.Now()
		sent, opened := 0, 0
		for time.Since(began) < span {
			ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(t.Context(), "test"), 10*time.Second)
			if err := caller.Connect(ctx, *to); err == nil {
				opened++
				if s, err := caller.NewStream(ctx, member.ID(), "/sink"); err == nil {
					chunk := make([]byte, 8<<10)
					for err = error(nil); err == nil; {
						_ = s.SetWriteDeadline(time.Now().Add(5 * time.Second))
						var k int
						k, err = s.Write(chunk)
						sent += k
					}
				}
			}
			_ = caller.Network().ClosePeer(member.ID())
			cancel()
			time.Sleep(100 * time.Millisecond)
		}
		after := r.Health().Helper.Circuits
		t.Logf("in %v: %d circuits, %d KiB through the relayer (%d offered); declined %d", span, after.Opened, after.Bytes>>10, sent>>10, after.Declined)
		require.LessOrEqual(t, after.Bytes, uint64(after.Opened)*2*(128<<10))
		require.LessOrEqual(t, after.Bytes, uint64(10<<20))
		require.Positive(t, after.Bytes)
		require.LessOrEqual(t, opened, 24+31)
		require.Equal(t, granted+members, after.Reservations)
	})
}

// answerCluster lets a bare host pass for a node of cluster 16 without shards.
func answerCluster(h host.Host) {
	h.SetStreamHandler("/vac/waku/metadata/1.0.0", func(s network.Stream) {
		defer s.Close()
		request := make([]byte, 2048)
		if _, err := s.Read(request); err != nil {
			s.Reset()
			return
		}
		if _, err := s.Write([]byte{2, 0x08, 0x10}); err != nil {
			s.Reset()
		}
	})
}
