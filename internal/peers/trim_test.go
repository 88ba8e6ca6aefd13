package peers_test

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

// obey drops whom the plan drops, and returns them.
func obey(m *peers.Manager, now time.Time) (out []peers.Drop) {
	p := m.Plan(now)
	for _, d := range p.Drop {
		m.Lost(now, d.ID)
	}
	return p.Drop
}

// Thirty identities at one address don't displace a household of twenty that was
// there first (B14), even if it is most of who is connected.
func TestHouseholdStays(t *testing.T) {
	for _, maxInbound := range []int{36, 200} {
		for _, waited := range []time.Duration{time.Second, 10 * time.Minute} {
			c := config(1)
			c.MaxConns, c.MaxInbound = maxInbound*2, maxInbound
			m := peers.New(c)
			m.Want(start, []peers.Need{relays(1, 4, 6, 3)})
			for n := 1; n <= 20; n++ { // behind one router, light ones that don't say what they carry
				m.Connected(start, id(n), tcp(20, 1, 1, 1), true)
				m.Proven(start, id(n), sharding.Set{}, 0)
			}
			now := start.Add(waited)
			n := 100
			for range 200 { // they come, are dropped, and come again as somebody else
				n++
				m.Connected(now, id(n), tcp(66, 1, 1, 1), true)
				m.Proven(now, id(n), carries(1), peers.Relay)
				obey(m, now)
				now = now.Add(time.Second)
			}
			st := m.Stats(now)
			for n := 1; n <= 20; n++ {
				require.True(t, knows(m, n), "member %d of the household, of %d", n, st.Inbound)
			}
			require.LessOrEqual(t, st.Inbound, maxInbound*9/10+1)
			require.LessOrEqual(t, st.Inbound-20, 30, "per address")
		}
	}
}

// Attackers at twenty addresses take all inbound slots; those for peers that this
// node dials stay free (B11).
func TestInboundFlood(t *testing.T) {
	w := newWorld(t, config(1))
	w.m.Want(w.now, []peers.Need{relays(1, 4, 8, 4)})
	flood := func(n int) {
		for range 50 {
			n++
			join(w.m, w.now, n, tcp(66, n%20, 1, 1), true)
		}
		w.run(time.Second)
	}
	for i := range 100 {
		flood(1000 + 50*i)
	}
	st := w.m.Stats(w.now)
	require.Equal(t, 180, st.Inbound)
	for n := 1; n <= 20; n++ {
		w.tell(w.add(node{n: n, at: tcp(20+n, 1, 1, 1), alive: true, shards: carries(1), services: peers.Relay}), peers.Discv5, "")
	}
	for i := range 60 {
		flood(10_000 + 50*i)
	}
	st = w.m.Stats(w.now)
	require.Equal(t, 4, st.Outbound)
	require.Equal(t, 180, st.Inbound)
	require.Len(t, w.open, 4, "and none of them was dropped")
}

// Of newcomers those go first of whom many come from one address, or one network,
// though others came later.
func TestCrowdsGoFirst(t *testing.T) {
	for name, crowd := range map[string]func(n int) ma.Multiaddr{
		"address": func(n int) ma.Multiaddr { return tcp(66, 1, 1, 1) },
		"network": func(n int) ma.Multiaddr { return tcp(66, 1, 1, n) },
	} {
		c := config(1)
		c.MaxConns, c.MaxInbound = 120, 70
		m := peers.New(c)
		m.Want(start, []peers.Need{relays(1, 1, 1, 0)})
		for n := 1; n <= 33; n++ { // they have been there for long
			join(m, start, n, public(n), true)
		}
		now := start.Add(time.Hour)
		for n := 101; n <= 125; n++ {
			now = now.Add(time.Second)
			join(m, now, n, crowd(n), true)
		}
		for n := 34; n <= 40; n++ { // and these are the last
			now = now.Add(time.Second)
			join(m, now, n, public(n), true)
		}
		drops := obey(m, now)
		require.Len(t, drops, 2, name)
		require.Equal(t, "too many connections, and many from its address", drops[0].Reason)
		for n := 1; n <= 40; n++ {
			require.True(t, knows(m, n), "%s: %d", name, n)
		}
	}
}

// The last peers of a shard stay, whatever else they are, and so do those in use.
func TestLastPeersStay(t *testing.T) {
	c := config(1)
	c.MaxConns, c.MaxInbound = 20, 10
	m := peers.New(c)
	m.Want(start, []peers.Need{
		relays(1, 1, 1, 0), relays(2, 2, 4, 0), {Shard: shard(3), Service: peers.Store, Min: 1, Target: 1},
	})
	now := start
	add := func(n int, shards sharding.Set, s peers.Service) {
		now = now.Add(time.Second)
		m.Connected(now, id(n), tcp(20+n, 1, 1, 1), true)
		m.Proven(now, id(n), shards, s)
	}
	for n := 1; n <= 5; n++ {
		add(n, carries(1), peers.Relay)
	}
	add(6, carries(9), peers.Relay) // of no use
	m.Keep(id(7))
	add(7, carries(9), peers.Relay) // but in use
	add(8, carries(2), peers.Relay)
	add(9, carries(2), peers.Relay)
	add(10, carries(3), peers.Store)
	p := m.Plan(now)
	require.Equal(t, []peers.Drop{{ID: id(6), Reason: "too many connections, and it carries no shard of ours"}}, p.Drop)
	require.Empty(t, m.Plan(now).Drop, "said once")
	m.Lost(now, id(6))
	for n := 11; n <= 30; n++ {
		add(n, carries(1), peers.Relay)
		for _, d := range obey(m, now) {
			require.NotContains(t, []string{string(id(7)), string(id(8)), string(id(9)), string(id(10))}, string(d.ID))
		}
		require.Equal(t, 9, m.Stats(now).Inbound)
	}
	require.Empty(t, m.Plan(now).Missing[1:], "shard 2 wants more, and lost none")

	// All are needed: nobody is dropped.
	m = peers.New(c)
	m.Want(start, []peers.Need{relays(1, 20, 20, 0)})
	for n := 1; n <= 15; n++ {
		add(n, carries(1), peers.Relay)
	}
	require.Empty(t, m.Plan(now).Drop)
}

// No address has more connections than it may, LANs and this machine excepted.
func TestPerAddress(t *testing.T) {
	m := peers.New(config(1))
	now := start
	for n := 1; n <= 40; n++ {
		now = now.Add(time.Second)
		join(m, now, n, tcp(66, 1, 1, 1), true)
		join(m, now, 100+n, tcp(127, 0, 0, 1), true)
		join(m, now, 200+n, maddr("/ip6/2a01:4f8:1:2::1/tcp/1"), true)
		join(m, now, 300+n, maddr("/memory/1"), true)
	}
	require.Len(t, obey(m, now), 20)
	for n := 1; n <= 30; n++ {
		require.True(t, knows(m, n))
	}
	require.Equal(t, 140, m.Stats(now).Inbound)

	m = peers.New(config(1)) // those in use stay
	m.Keep(id(31), id(32), id(33))
	for n := 1; n <= 33; n++ {
		now = now.Add(time.Second)
		join(m, now, n, tcp(66, 1, 1, 1), true)
	}
	require.ElementsMatch(t, []peer.ID{id(28), id(29), id(30)}, droppedBy(m.Plan(now)))
}

// Above the limit in all, outbound peers go last, and only those nobody would be
// dialled for.
func TestTooManyOutbound(t *testing.T) {
	c := config(1)
	c.MaxConns = 20
	m := peers.New(c)
	m.Want(start, []peers.Need{relays(1, 4, 15, 4)})
	now := start
	for n := 1; n <= 40; n++ { // somebody else dials
		now = now.Add(time.Second)
		join(m, now, n, tcp(20+n, 1, 1, 1), false)
	}
	require.Len(t, obey(m, now), 22)
	require.Empty(t, m.Plan(now).Missing)
	for n := 1; n <= 15; n++ {
		require.True(t, info(t, m, n).Connected, "the oldest stay")
	}
	require.Empty(t, m.Plan(now).Dial)
}

// Somebody dials more peers than are needed: these go before those who have been
// there for long, and newcomers go before them.
func TestSurplusGoesBeforeEstablished(t *testing.T) {
	c := config(1)
	c.MaxConns = 20
	m := peers.New(c)
	m.Want(start, []peers.Need{relays(1, 2, 4, 2)})
	for n := 1; n <= 8; n++ {
		join(m, start, n, public(n), true)
	}
	now := start.Add(10 * time.Minute)
	for n := 101; n <= 112; n++ {
		join(m, now, n, public(n), false)
	}
	join(m, now, 9, public(9), true)
	drops := droppedBy(m.Plan(now))
	require.Len(t, drops, 3)
	require.Equal(t, id(9), drops[0])
	for n := 1; n <= 8; n++ {
		require.NotContains(t, drops, id(n))
	}
}

// A peer that a plan has dropped isn't dialled for a while.
func TestDroppedRest(t *testing.T) {
	c := config(1)
	c.MaxConns = 4
	m := peers.New(c)
	m.Want(start, []peers.Need{relays(1, 1, 1, 0)})
	for n := 1; n <= 6; n++ {
		m.Found(start, told(n, peers.Discv5, tcp(20+n, 1, 1, 1)))
		join(m, start.Add(time.Duration(n)), n, tcp(20+n, 1, 1, 1), false)
	}
	now := start.Add(time.Minute)
	require.NotEmpty(t, obey(m, now))
	for n := 1; n <= 6; n++ {
		m.Lost(now, id(n))
	}
	require.NotEmpty(t, info(t, m, 6).NextTry)
	require.GreaterOrEqual(t, info(t, m, 6).NextTry.Sub(now), 7*time.Minute)
	require.LessOrEqual(t, info(t, m, 1).NextTry.Sub(now), 10*time.Second)
}
