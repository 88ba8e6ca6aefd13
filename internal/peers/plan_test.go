package peers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

// A node that needs nobody, or has them, plans nothing and waits for nothing.
func TestQuiet(t *testing.T) {
	w := newWorld(t, config(1))
	require.Equal(t, peers.Plan{}, w.m.Plan(w.now))
	for n := 1; n <= 200; n++ {
		w.tell(w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: n%3 > 0, shards: carries(1), services: peers.Relay}), peers.Discv5, "")
	}
	require.Equal(t, peers.Plan{}, w.m.Plan(w.now), "known, but not needed")
	w.m.Want(w.now, []peers.Need{relays(1, 3, 6, 3)})
	w.run(time.Minute)
	require.GreaterOrEqual(t, len(w.open), 6)
	require.LessOrEqual(t, len(w.open), 9, "no more than were tried at once")
	require.Equal(t, peers.Plan{}, w.m.Plan(w.now))
	dials := len(w.log)
	w.run(24 * time.Hour)
	require.Len(t, w.log, dials)

	// Who is above Min doesn't bother the dead for more.
	w = newWorld(t, config(1))
	for n := 1; n <= 50; n++ {
		w.tell(w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: n <= 4, shards: carries(1), services: peers.Relay}), peers.Discv5, "")
	}
	w.m.Want(w.now, []peers.Need{relays(1, 3, 6, 3)})
	w.run(time.Hour)
	require.Len(t, w.open, 4)
	p := w.m.Plan(w.now)
	require.Zero(t, p.Next)
	require.Len(t, p.Missing, 1)
	require.Equal(t, 46, p.Missing[0].Known)
	dials = len(w.log)
	w.run(24 * time.Hour)
	require.Len(t, w.log, dials)
}

func TestMissing(t *testing.T) {
	m := peers.New(config(1))
	store := peers.Need{Shard: shard(1), Service: peers.Store, Min: 1, Target: 2}
	m.Want(start, []peers.Need{relays(1, 1, 2, 1), store, relays(2, 0, 0, 0), relays(3, -5, -5, -5)})
	require.Equal(t, []peers.Missing{{Need: relays(1, 1, 2, 1)}, {Need: store}}, m.Plan(start).Missing)
	join(m, start, 1, tcp(66, 1, 1, 1), true)
	m.Found(start, told(2, peers.Discv5, tcp(67, 1, 1, 1)), told(3, peers.Discv5, tcp(68, 1, 1, 1)))
	m.Failed(start, id(3), errNoOne)
	p := m.Plan(start)
	require.Equal(t, []peer.ID{id(2)}, dialled(p))
	require.Equal(t, []peers.Missing{
		{Need: relays(1, 1, 2, 1), Have: 1, Trying: 1, Known: 2, Resting: 1}, {Need: store},
	}, p.Missing)
	m.Connected(start, id(2), tcp(67, 1, 1, 1), false)
	require.Equal(t, 1, m.Plan(start).Missing[0].Trying, "not proven yet")
	require.Equal(t, start.Add(30*time.Second), m.Plan(start).Next)
	p = m.Plan(start.Add(30 * time.Second))
	require.Equal(t, []peer.ID{id(3)}, dialled(p), "and never was")
	require.Equal(t, 1, p.Missing[0].Trying)
	m.Proven(start, id(2), carries(1), peers.Relay|peers.Store)
	require.Equal(t, []peers.Missing{{Need: store, Have: 1, Outbound: 1}}, m.Plan(start).Missing)
	m.Connected(start, id(4), tcp(69, 1, 1, 1), true)
	m.Proven(start, id(4), sharding.Set{}, peers.Store|peers.Relay) // it doesn't say what it carries
	require.Empty(t, m.Plan(start).Missing)
	m.Proven(start, id(2), carries(2), peers.Relay) // it has changed its mind
	require.Equal(t, []peers.Missing{
		{Need: relays(1, 1, 2, 1), Have: 1}, {Need: store, Have: 1},
	}, withoutKnown(m.Plan(start).Missing))
}

func withoutKnown(in []peers.Missing) []peers.Missing {
	for i := range in {
		in[i].Known, in[i].Resting, in[i].Trying = 0, 0, 0
	}
	return in
}

// Nobody can serve a shard that isn't this network's.
func TestNoSuchShard(t *testing.T) {
	m := peers.New(config(1))
	s := told(1, peers.DNS, public(1))
	s.Shards, s.Services = sharding.Set{}, 0
	m.Found(start, s)
	m.Connected(start, id(2), public(2), true)
	m.Proven(start, id(2), sharding.Set{}, peers.Store)
	for _, wrong := range []sharding.Shard{{Cluster: cluster + 1}, {Cluster: cluster, Index: 1024}, {Cluster: cluster, Index: 65535}} {
		for _, service := range []peers.Service{peers.Relay, peers.Store} {
			n := peers.Need{Shard: wrong, Service: service, Min: 1, Target: 1}
			m.Want(start, []peers.Need{n})
			require.Equal(t, peers.Plan{Missing: []peers.Missing{{Need: n}}}, m.Plan(start))
		}
	}
}

// However many are connected, some were dialled.
func TestOutbound(t *testing.T) {
	w := newWorld(t, config(1))
	for n := 1; n <= 100; n++ {
		join(w.m, w.now, n, tcp(66, n, 1, 1), true)
	}
	w.m.Want(w.now, []peers.Need{relays(1, 4, 6, 3)})
	w.run(time.Minute)
	require.Empty(t, w.log)
	require.Equal(t, 3, w.m.Plan(w.now).Missing[0].Need.Outbound)
	for n := 101; n <= 200; n++ {
		w.tell(w.add(node{n: n, at: tcp(20, n, 1, 1), alive: true, shards: carries(1), services: peers.Relay}), peers.Discv5, "")
	}
	w.run(time.Minute)
	require.Len(t, w.log, 3)
	require.Empty(t, w.m.Plan(w.now).Missing)
}

// Services: whoever says to have them, those that don't say, but not those that
// were seen not to.
func TestServicePeers(t *testing.T) {
	w := newWorld(t, config(1))
	need := func(s peers.Service) peers.Need { return peers.Need{Shard: shard(1), Service: s, Min: 1, Target: 1} }
	tell := func(n int, shards sharding.Set, s peers.Service) *node {
		x := w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: true, shards: shards, services: s})
		w.tell(x, peers.Discv5, "")
		return x
	}
	tell(1, carries(1), peers.Relay)
	tell(2, carries(2), peers.Store)
	w.m.Want(w.now, []peers.Need{need(peers.Store)})
	w.run(time.Minute)
	require.Empty(t, w.log)
	unknown := tell(3, sharding.Set{}, 0)
	unknown.shards, unknown.services = carries(1), peers.Relay
	w.run(time.Minute)
	require.Len(t, w.log, 1, "it might have been one")
	w.lose(unknown)
	w.run(24 * time.Hour)
	require.Len(t, w.log, 1, "it isn't")
	tell(4, carries(1), peers.Store)
	w.run(time.Minute)
	require.Len(t, w.log, 2)

	w.m.Want(w.now, []peers.Need{need(peers.PeerExchange)}) // which records don't tell
	w.run(time.Minute)
	require.Len(t, w.log, 3, "1 isn't known not to have it")
	require.Equal(t, id(1), w.log[2].id)
}

// A dial every quarter of a second, 16 at once, 8 open: whatever happens.
func TestDialRate(t *testing.T) {
	m := peers.New(config(1))
	var needs []peers.Need
	for i := range uint16(10) {
		needs = append(needs, relays(i, 8, 8, 8))
	}
	m.Want(start, needs)
	var log []time.Time
	for i := range fewer(1000) {
		now := start.Add(time.Duration(i) * 10 * time.Millisecond)
		for n := range 10 {
			s := told(i*10+n, peers.DNS, tcp(20+n, i/250, i%250, 1))
			s.Shards = carries(uint16(n))
			m.Found(now, s)
		}
		m.NetworkChanged(now)
		p := m.Plan(now)
		require.LessOrEqual(t, m.Stats(now).Dialling, 8)
		for _, d := range p.Dial {
			log = append(log, now)
			m.Failed(now, d.ID, errNoOne)
			m.Failed(now, d.ID, errNoOne)
		}
	}
	require.Greater(t, len(log), 15)
	bounded(t, log)
}

// bounded checks the rate of dials in all windows of time.
func bounded(t testing.TB, log []time.Time) {
	t.Helper()
	for i := range log {
		for j := i; j < min(len(log), i+200); j++ {
			if allowed := 16 + int(log[j].Sub(log[i])/(250*time.Millisecond)); j-i+1 > allowed {
				t.Fatalf("%d dials in %v", j-i+1, log[j].Sub(log[i]))
			}
		}
	}
}

// Ten thousand identities at one address, none of which answers, cost few dials,
// and don't keep good peers waiting.
func TestSybilsAtOneAddress(t *testing.T) {
	w := newWorld(t, config(1))
	w.m.Want(w.now, []peers.Need{relays(1, 3, 6, 3)})
	for i := range 10_000 {
		w.tell(w.add(node{n: 1000 + i, at: maddr(fmt.Sprintf("/ip4/66.1.1.1/tcp/%d", 1000+i)), shards: carries(1), services: peers.Relay}), peers.Discv5, "")
	}
	require.LessOrEqual(t, w.m.Stats(w.now).Known, 8)
	w.run(time.Minute)
	require.Less(t, len(w.log), 10)
	for n := 1; n <= 6; n++ {
		w.tell(w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: true, shards: carries(1), services: peers.Relay}), peers.Discv5, "")
	}
	w.run(time.Second)
	require.Len(t, w.open, 6)

	// A flood that never ends, at an address where good peers live as well.
	w = newWorld(t, config(1))
	w.m.Want(w.now, []peers.Need{relays(1, 30, 30, 30)})
	join(w.m, w.now, 1, tcp(20, 1, 1, 1), true)
	for i := range 1800 {
		for j := range 10 {
			w.tell(w.add(node{n: 1000 + i*10 + j, at: maddr(fmt.Sprintf("/ip4/66.1.1.1/tcp/%d", 1000+i)), shards: carries(1), services: peers.Relay}), peers.Discv5, "")
		}
		w.run(time.Second)
	}
	require.Less(t, len(w.log), 45)
	require.Empty(t, w.m.Check())
}

// Outbound peers are of many networks, unless somebody trusted told of them.
func TestNetworks(t *testing.T) {
	for source, want := range map[peers.Source]int{peers.Discv5: 2, peers.DNS: 8} {
		w := newWorld(t, config(1))
		w.m.Want(w.now, []peers.Need{relays(1, 20, 20, 20)})
		for n := 1; n <= 50; n++ {
			w.tell(w.add(node{n: n, at: tcp(66, 1, 1, n), alive: true, shards: carries(1), services: peers.Relay}), source, "")
		}
		w.run(time.Hour)
		require.Len(t, w.log, want, source)
		require.Zero(t, w.m.Plan(w.now).Next)
	}
	// A domain's owner has as many names as he likes, and addresses to go with them.
	m := peers.New(config(1))
	m.Want(start, []peers.Need{relays(1, 20, 20, 20)})
	for n := 1; n <= 50; n++ {
		m.Found(start, told(n, peers.Discv5, maddr(fmt.Sprintf("/dns4/n%d.evil.org/tcp/443/wss", n))))
	}
	now, dials := start, 0
	for range 10 {
		for _, d := range m.Plan(now).Dial {
			dials++
			m.Connected(now, d.ID, public(dials), false)
			m.Proven(now, d.ID, carries(1), peers.Relay)
		}
		now = now.Add(time.Minute)
	}
	require.Equal(t, 2, dials)

	// Relays house many, and each of them is one host.
	w := newWorld(t, config(1))
	w.m.UseCircuits(w.now, true)
	w.m.Want(w.now, []peers.Need{relays(1, 20, 20, 20)})
	for n := 1; n <= 50; n++ {
		at := maddr("/ip4/66.1.1.1/tcp/1/p2p/" + id(1000).String() + "/p2p-circuit")
		w.tell(w.add(node{n: n, at: at, alive: true, shards: carries(1), services: peers.Relay}), peers.Rendezvous, "")
	}
	w.run(time.Hour)
	require.Equal(t, 50, w.m.Stats(w.now).Known)
	require.Len(t, w.log, 4)
}

// Those come first who are said to serve what is needed, and of these those that
// were good before, mostly.
func TestLikelyPeersFirst(t *testing.T) {
	likely, reached := 0, 0
	for seed := range uint64(200) {
		m := peers.New(config(seed))
		for n := 1; n <= 30; n++ {
			s := told(n, peers.Discv5, public(n))
			if n > 10 {
				s.Shards, s.Services = sharding.Set{}, 0
			}
			m.Found(start, s)
			if n <= 3 {
				join(m, start, n, public(n), false)
			}
		}
		now := start.Add(time.Minute)
		for n := 1; n <= 3; n++ {
			m.Lost(now, id(n))
		}
		now = now.Add(time.Minute)
		m.Want(now, []peers.Need{relays(1, 0, 1, 0)})
		d := dialled(m.Plan(now))
		require.Len(t, d, 1)
		likely += len(sorted(d, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
		reached += len(sorted(d, 1, 2, 3))
	}
	require.Equal(t, 200, likely)
	require.Greater(t, reached, 140)
	require.Less(t, reached, 190, "new ones have a chance")
}

// A peer with two addresses, of which one is in a network that has enough and the
// other rests, is dialled when that has rested.
func TestOneAddressRests(t *testing.T) {
	m := peers.New(config(1))
	for n := 1; n <= 2; n++ {
		m.Found(start, told(n, peers.Discv5, tcp(66, 1, 1, n)))
		join(m, start, n, tcp(66, 1, 1, n), false)
	}
	for range 3 {
		m.Found(start, told(3, peers.Discv5, tcp(67, 1, 1, 1)))
		m.Failed(start, id(3), errNoOne)
	}
	m.Cut(start, id(3), start.Add(time.Hour))
	m.Found(start, told(4, peers.Discv5, tcp(66, 1, 1, 4), tcp(67, 1, 1, 1)))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	p := m.Plan(start)
	require.Empty(t, p.Dial)
	require.False(t, p.Next.IsZero())
	require.LessOrEqual(t, p.Next.Sub(start), 10*time.Second)
	p = m.Plan(p.Next)
	require.Equal(t, []peer.AddrInfo{{ID: id(4), Addrs: []ma.Multiaddr{tcp(67, 1, 1, 1)}}}, p.Dial)
}

// When peers of no use take all outbound slots, they make way.
func TestMakeWay(t *testing.T) {
	c := config(1)
	c.MaxConns = 20
	w := newWorld(t, c)
	w.m.Want(w.now, []peers.Need{relays(1, 8, 12, 8)})
	for n := 1; n <= 100; n++ {
		x := w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: true, shards: carries(1), services: peers.Relay})
		if n <= 40 {
			w.tell(x, peers.Discv5, "")
			x.shards = carries(2) // a lie
		}
	}
	w.run(50 * time.Second)
	lied := len(w.open)
	require.GreaterOrEqual(t, lied, 12)
	require.Equal(t, 0, w.m.Plan(w.now).Missing[0].Have)
	for n := 41; n <= 100; n++ {
		w.tell(w.nodes[id(n)], peers.Discv5, "")
	}
	w.run(5 * time.Minute)
	require.Zero(t, w.m.Plan(w.now).Missing)
	require.LessOrEqual(t, len(w.open), 18)

	// Nobody is sent away to have more than Min.
	w = newWorld(t, c)
	for n := 1; n <= 60; n++ {
		w.tell(w.add(node{n: n, at: public(n), alive: true, shards: carries(uint16(n % 2)), services: peers.Relay}), peers.DNS, "")
	}
	w.m.Want(w.now, []peers.Need{relays(1, 2, 12, 2)})
	w.run(5 * time.Minute)
	w.m.Want(w.now, []peers.Need{relays(1, 2, 4, 2), relays(0, 0, 6, 2)})
	before := w.m.Stats(w.now).Dropped
	w.run(5 * time.Minute)
	require.Equal(t, before, w.m.Stats(w.now).Dropped)

	// Needs change: who is more than enough for one makes way for another.
	w = newWorld(t, c)
	for n := 1; n <= 60; n++ {
		w.tell(w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: true, shards: carries(uint16(n % 2)), services: peers.Relay}), peers.DNS, "")
	}
	w.m.Want(w.now, []peers.Need{relays(1, 2, 12, 2)})
	w.run(5 * time.Minute)
	require.GreaterOrEqual(t, len(w.open), 12)
	w.m.Want(w.now, []peers.Need{relays(1, 2, 4, 2), relays(0, 6, 6, 2)})
	w.run(5 * time.Minute)
	require.Empty(t, w.m.Plan(w.now).Missing)
}

// The first peers are there at once even if nine of ten records are dead, and half
// of the network going away is noticed and healed.
func TestDeadRecords(t *testing.T) {
	for seed := range uint64(fewer(10)) {
		w := newWorld(t, config(seed))
		w.m.Want(w.now, []peers.Need{relays(1, 3, 6, 3)})
		for n := 1; n <= 300; n++ {
			w.tell(w.add(node{n: n, at: public(n), alive: n%10 == 0, shards: carries(1), services: peers.Relay}), peers.Discv5, "")
		}
		var first, enough time.Duration
		for at := time.Duration(0); at < 2*time.Minute; at += time.Second {
			w.run(time.Second)
			if first == 0 && len(w.open) > 0 {
				first = at
			}
			if enough == 0 && len(w.open) >= 3 {
				enough = at
			}
		}
		require.GreaterOrEqual(t, len(w.open), 3, "seed %d", seed)
		t.Logf("seed %d: the first peer after %v, three after %v", seed, first, enough)
	}
	w := newWorld(t, config(1))
	var needs []peers.Need
	for i := range uint16(6) {
		needs = append(needs, relays(i, 3, 6, 3))
	}
	w.m.Want(w.now, needs)
	for n := 1; n <= 60; n++ {
		w.tell(w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: true, shards: carries(uint16(n%6), uint16(n/6%6)), services: peers.Relay}), peers.Discv5, "")
	}
	w.run(time.Minute)
	require.Empty(t, w.m.Plan(w.now).Missing)
	for n := 1; n <= 60; n += 2 {
		x := w.nodes[id(n)]
		x.alive = false
		if w.open[id(n)] {
			w.lose(x)
		}
	}
	w.run(2 * time.Minute)
	for _, x := range w.m.Plan(w.now).Missing {
		require.GreaterOrEqual(t, x.Have, x.Min)
	}
}
