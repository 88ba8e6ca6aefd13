package peers_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

func TestNames(t *testing.T) {
	require.Equal(t, "none", peers.Service(0).String())
	require.Equal(t, "relay+lightpush+peerexchange", (peers.Relay | peers.LightPush | peers.PeerExchange).String())
	require.Equal(t, "static", peers.Static.String())
	require.Equal(t, "inbound", peers.Inbound.String())
	require.Equal(t, "source 99", peers.Source(99).String())
}

func TestFromRecord(t *testing.T) {
	shards := carries(1, 7)
	r, err := enr.Build(p2ptest.Key(1), enr.Fields{
		Seq: 12, Shards: shards, Capabilities: enr.Relay | enr.Store | enr.Lightpush | enr.Filter | enr.Sync,
		Multiaddrs: []ma.Multiaddr{maddr("/ip4/66.1.1.1/tcp/60000")},
	})
	require.NoError(t, err)
	s := peers.FromRecord(r, peers.Exchange, "service")
	require.Equal(t, peers.Sighting{
		Info: r.AddrInfo(), Shards: shards, Services: peers.Relay | peers.Store | peers.Filter | peers.LightPush,
		Record: r.Bytes(), Seq: 12, Source: peers.Exchange, From: "service",
	}, s)
	want, err := peer.IDFromPrivateKey(p2ptest.Key(1))
	require.NoError(t, err)
	require.Equal(t, want, s.Info.ID)
}

func TestRefused(t *testing.T) {
	m := peers.New(config(1))
	elsewhere, err := sharding.NewSet(cluster+1, 1)
	require.NoError(t, err)
	other := told(1, peers.Discv5, tcp(66, 1, 1, 1))
	other.Shards = elsewhere
	nobody := told(1, peers.Discv5, tcp(66, 1, 1, 1))
	nobody.Info.ID = ""
	long := told(1, peers.Discv5, tcp(66, 1, 1, 1))
	long.Info.ID = peer.ID(make([]byte, 1000))
	unsourced := told(1, 77, tcp(66, 1, 1, 1))
	m.Found(start, told(0, peers.Discv5, tcp(66, 1, 1, 1)), other, nobody, long, unsourced, told(1, 0, tcp(66, 1, 1, 1)),
		told(1, peers.Discv5), told(1, peers.Discv5, nil, ma.Multiaddr{}, tcp(10, 0, 0, 1)))
	st := m.Stats(start)
	require.Zero(t, st.Known)
	require.Equal(t, map[string]uint64{"own record": 1, "other cluster": 1, "invalid": 4, "no address to dial": 2}, st.Refused)
	m.Found(start, told(1, peers.Discv5, tcp(66, 1, 1, 1)))
	require.Equal(t, map[peers.Source]int{peers.Discv5: 1}, m.Stats(start).BySource)
}

// A newer record replaces what an older one says, hearsay replaces nothing.
func TestRecords(t *testing.T) {
	m := peers.New(config(1))
	a, b, c := tcp(66, 1, 1, 1), tcp(67, 1, 1, 1), tcp(68, 1, 1, 1)
	hearsay := func(at ma.Multiaddr, from peers.Source) peers.Sighting {
		s := told(1, from, at)
		s.Record, s.Seq, s.Shards, s.Services = nil, 0, sharding.Set{}, 0
		return s
	}
	m.Found(start, hearsay(a, peers.Exchange))
	require.Equal(t, []any{a}, anys(info(t, m, 1).Info))
	m.Found(start, hearsay(b, peers.Exchange), hearsay(b, peers.Exchange))
	require.Equal(t, []any{a, b}, anys(info(t, m, 1).Info))
	s := told(1, peers.Discv5, c)
	s.Seq = 5
	m.Found(start, s)
	p := info(t, m, 1)
	require.Equal(t, []any{c}, anys(p.Info))
	require.Equal(t, peers.Discv5, p.Source, "more trusted")
	require.Equal(t, carries(1), p.Shards)

	old := told(1, peers.DNS, a)
	old.Seq = 4
	m.Found(start, old, hearsay(a, peers.Exchange), hearsay(a, peers.Inbound))
	require.Equal(t, []any{c}, anys(info(t, m, 1).Info))
	require.EqualValues(t, 3, m.Stats(start).Refused["older record"])
	m.Found(start, hearsay(a, peers.Application))
	require.Equal(t, []any{c, a}, anys(info(t, m, 1).Info), "the program may know better")

	s.Seq, s.Shards, s.Info.Addrs = 6, carries(2), []ma.Multiaddr{b}
	m.Found(start, s)
	p = info(t, m, 1)
	require.Equal(t, []any{b}, anys(p.Info))
	require.Equal(t, carries(2), p.Shards)
	require.EqualValues(t, 6, p.Seq)

	join(m, start, 1, b, false) // what it proves counts more
	s.Seq, s.Shards = 7, carries(3)
	m.Found(start, s)
	require.Equal(t, carries(1), info(t, m, 1).Shards)
	require.EqualValues(t, 7, info(t, m, 1).Seq)
}

func TestAddressesAreBounded(t *testing.T) {
	m := peers.New(config(1))
	var many []ma.Multiaddr
	for i := range 1000 {
		many = append(many, maddr(fmt.Sprintf("/ip4/66.%d.%d.1/tcp/%d", i/500, i/2%250, 1000+i)))
	}
	m.Found(start, told(1, peers.Discv5, many...), told(2, peers.Discv5, many[0], many[2], many[4], many[6], many[8], many[10], many[1]))
	require.Equal(t, many[:8], info(t, m, 1).Info.Addrs)
	require.Equal(t, []ma.Multiaddr{many[0], many[2], many[4], many[6], many[1]}, info(t, m, 2).Info.Addrs, "of four hosts")
}

// fail dials the first peer that is planned until it doesn't answer n times, and
// returns the rests between.
func fail(t *testing.T, m *peers.Manager, now time.Time, n int) (rests []time.Duration, end time.Time) {
	for range n {
		p := m.Plan(now)
		if len(p.Dial) == 0 {
			if p.Next.IsZero() {
				break
			}
			now = p.Next
			p = m.Plan(now)
		}
		require.Len(t, p.Dial, 1)
		m.Failed(now, p.Dial[0].ID, errNoOne)
		next := m.Plan(now).Next
		if next.IsZero() {
			break
		}
		rests = append(rests, next.Sub(now))
	}
	return rests, now
}

// Rests double from 5 s, give or take a quarter, and after the eighth failure a
// stranger is dead.
func TestBackOff(t *testing.T) {
	for seed := range uint64(fewer(20)) {
		m := peers.New(config(seed))
		join(m, start, 99, tcp(99, 1, 1, 1), true) // somebody is there
		m.Found(start, told(1, peers.Discv5, tcp(66, 1, 1, 1)))
		m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
		rests, now := fail(t, m, start, 100)
		require.Len(t, rests, 7)
		for i, d := range rests {
			want := 5 * time.Second << i
			require.GreaterOrEqual(t, d, want*3/4)
			require.LessOrEqual(t, d, want*5/4)
		}
		p := info(t, m, 1)
		require.Equal(t, "dead", p.Barred)
		require.Equal(t, errNoOne.Error(), p.LastError)
		require.Zero(t, m.Plan(now).Next, "nothing to wait for")
		require.Zero(t, m.Plan(now).Missing[0].Known)

		s := told(1, peers.Discv5, tcp(66, 1, 1, 1))
		m.Found(now, s) // the same record says nothing new
		require.Empty(t, m.Plan(now.Add(time.Hour)).Dial)
		s.Seq++
		now = now.Add(time.Hour)
		m.Found(now, s) // a newer one gets it one try
		rests, now = fail(t, m, now, 100)
		require.Empty(t, rests)
		require.Equal(t, "dead", info(t, m, 1).Barred)
		s.Seq++
		m.Found(now, s) // but not every minute
		require.Empty(t, m.Plan(now.Add(time.Minute)).Dial)

		now = now.Add(2*time.Hour + time.Second)
		m.Found(now, s) // and a death isn't for ever
		rests, _ = fail(t, m, now, 100)
		require.Len(t, rests, 7)
	}
}

// A peer of a tree or of the operator's is tried for ever, the latter every two
// minutes at least.
func TestTrustedAreNeverDead(t *testing.T) {
	for source, longest := range map[peers.Source]time.Duration{
		peers.DNS: time.Hour, peers.Static: 2 * time.Minute, peers.Application: time.Hour,
	} {
		m := peers.New(config(1))
		join(m, start, 99, tcp(99, 1, 1, 1), true)
		m.Found(start, told(1, source, tcp(66, 1, 1, 1)))
		m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
		rests, _ := fail(t, m, start, 60)
		require.Len(t, rests, 60)
		for _, d := range rests[12:] {
			require.GreaterOrEqual(t, d, longest*3/4)
			require.LessOrEqual(t, d, longest*5/4)
		}
	}
	m := peers.New(config(1)) // one that was good before a restart may be dead
	join(m, start, 99, tcp(99, 1, 1, 1), true)
	m.Found(start, told(1, peers.Saved, tcp(66, 1, 1, 1)))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	rests, _ := fail(t, m, start, 60)
	require.Len(t, rests, 7)
}

// With no connection at all it may be this machine that is offline: nobody dies,
// nobody rests for long, and dials become rare.
func TestOffline(t *testing.T) {
	m := peers.New(config(1))
	for n := 1; n <= 500; n++ {
		m.Found(start, told(n, peers.Discv5, public(n)))
	}
	m.Want(start, []peers.Need{relays(1, 3, 6, 3)})
	now, dials := start, 0
	var last time.Time
	for now.Before(start.Add(4 * time.Hour)) {
		p := m.Plan(now)
		for _, d := range p.Dial {
			m.Failed(now, d.ID, errNoOne)
			dials++
			if dials > 300 {
				require.GreaterOrEqual(t, now.Sub(last), 30*time.Second)
			}
			last = now
		}
		if len(p.Dial) == 0 {
			require.False(t, p.Next.IsZero())
			require.True(t, p.Next.After(now))
			now = p.Next
		}
	}
	require.Less(t, dials, 4*120+300)
	require.Greater(t, dials, 4*110)
	require.Zero(t, m.Stats(now).Barred)
	for n := 1; n <= 500; n++ {
		require.LessOrEqual(t, info(t, m, n).Failures, 3, "nobody's fault")
	}

	m.NetworkChanged(now) // now everybody may be there
	require.Len(t, m.Plan(now).Dial, 6)
}

func TestNetworkChanged(t *testing.T) {
	m := peers.New(config(1))
	join(m, start, 99, tcp(99, 1, 1, 1), true)
	m.Found(start, told(1, peers.Discv5, tcp(66, 1, 1, 1)))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	_, now := fail(t, m, start, 6)
	require.Empty(t, m.Plan(now).Dial)
	m.NetworkChanged(now)
	rests, now := fail(t, m, now, 1)
	require.GreaterOrEqual(t, rests[0], 5*time.Second<<6*3/4, "who changes network all the time doesn't dial all the time")
	fail(t, m, now, 1)
	require.Equal(t, "dead", info(t, m, 1).Barred)
	m.NetworkChanged(now)
	require.Empty(t, m.Plan(now).Dial)
}

// A connection proves that this machine is online: dials are quick again.
func TestOnlineAgain(t *testing.T) {
	m := peers.New(config(1))
	m.Want(start, []peers.Need{relays(1, 8, 8, 8)})
	now := start
	for n := 1; n <= 300; n++ {
		m.Failed(now, id(n), errNoOne) // nobody's
		m.Found(now, told(n, peers.Discv5, public(n)))
		m.Failed(now, id(n), errNoOne)
	}
	now = now.Add(time.Hour)
	require.Len(t, m.Plan(now).Dial, 1, "offline")
	join(m, now, 999, public(999), true)
	m.Lost(now, id(999))
	require.Len(t, m.Plan(now).Dial, 7)
}

// A peer that was reached at one place, says that it has moved and isn't found at
// the first any more, is looked for at the new one only.
func TestMoved(t *testing.T) {
	m := peers.New(config(1))
	m.Found(start, told(1, peers.DNS, public(1)))
	join(m, start, 1, public(1), false)
	s := told(1, peers.DNS, public(2))
	s.Seq = 2
	m.Found(start, s)
	now := start.Add(time.Minute)
	m.Lost(now, id(1))
	m.Want(now, []peers.Need{relays(1, 1, 1, 1)})
	for i := range 5 {
		p := m.Plan(now)
		now = p.Next
		p = m.Plan(now)
		require.Len(t, p.Dial, 1)
		if i < 3 {
			require.Equal(t, []any{public(1), public(2)}, anys(p.Dial[0]))
		} else {
			require.Equal(t, []any{public(2)}, anys(p.Dial[0]))
		}
		m.Failed(now, id(1), errNoOne)
	}
	require.Equal(t, 3, info(t, m, 1).Failures, "nobody is connected")
}

// Good peers get more than one try after a change of network.
func TestGoodPeersAfterNetworkChange(t *testing.T) {
	m := peers.New(config(1))
	join(m, start, 99, public(99), true)
	m.Found(start, told(1, peers.Discv5, public(1)))
	join(m, start, 1, public(1), false)
	now := start.Add(time.Minute)
	m.Lost(now, id(1))
	for range 7 {
		m.Failed(now, id(1), errNoOne)
	}
	m.NetworkChanged(now)
	require.Equal(t, 3, info(t, m, 1).Failures)
	require.Zero(t, info(t, m, 1).NextTry)
}

func TestForeign(t *testing.T) {
	m := peers.New(config(1))
	m.Found(start, told(1, peers.Discv5, tcp(66, 1, 1, 1)))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	require.Equal(t, []peer.ID{id(1)}, dialled(m.Plan(start)))
	m.Connected(start, id(1), tcp(66, 1, 1, 1), false)
	m.Foreign(start, id(1), "cluster 1")
	m.Lost(start, id(1))
	require.Equal(t, "foreign", info(t, m, 1).Barred)
	require.Equal(t, "cluster 1", info(t, m, 1).LastError)
	m.NetworkChanged(start)
	require.Zero(t, m.Plan(start).Next)
	m.Found(start.Add(5*time.Hour), told(1, peers.Discv5, tcp(66, 1, 1, 1)))
	require.Empty(t, m.Plan(start.Add(5*time.Hour)).Dial)
	m.Found(start.Add(7*time.Hour), told(1, peers.Discv5, tcp(66, 1, 1, 1)))
	require.Len(t, m.Plan(start.Add(7*time.Hour)).Dial, 1)

	// The operator's are tried again without anybody telling.
	m = peers.New(config(1))
	m.Found(start, told(1, peers.Static, tcp(66, 1, 1, 1)))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	m.Foreign(start, id(1), "cluster 1")
	p := m.Plan(start)
	require.Empty(t, p.Dial)
	require.Equal(t, start.Add(6*time.Hour), p.Next)
	require.Len(t, m.Plan(p.Next).Dial, 1)
}

// A cut peer isn't dialled before its time, whatever it publishes or proves.
func TestCut(t *testing.T) {
	m := peers.New(config(1))
	s := told(1, peers.DNS, tcp(66, 1, 1, 1))
	m.Found(start, s)
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	join(m, start, 1, tcp(66, 1, 1, 1), false)
	until := start.Add(10 * time.Minute)
	m.Cut(start, id(1), until)
	require.Empty(t, m.Best(shard(1), peers.Relay))
	m.Foreign(start, id(1), "less than that")
	m.Proven(start, id(1), carries(1), peers.Relay)
	m.Lost(start, id(1))
	m.NetworkChanged(start)
	s.Seq++
	m.Found(until.Add(-1), s)
	require.Equal(t, "cut", info(t, m, 1).Barred)
	require.Empty(t, m.Plan(until.Add(-1)).Dial)
	require.Empty(t, m.Plan(until).Dial)
	m.Found(until, s)
	require.Len(t, m.Plan(until).Dial, 1)
}

// A cut outlasts what else is known of a peer.
func TestCutsAreRemembered(t *testing.T) {
	c := config(1)
	c.MaxConns, c.MaxKnown = 10, 50
	m := peers.New(c)
	m.Found(start, told(1, peers.Discv5, public(1)))
	m.Cut(start, id(1), start.Add(time.Hour))
	m.Cut(start, id(2), start.Add(time.Hour))
	for n := 3; knows(m, 1); n++ {
		m.Found(start, told(n, peers.Discv5, public(n)))
		require.Less(t, n, 1000)
	}
	later := start.Add(30 * time.Minute)
	for _, n := range []int{1, 2} {
		m.Found(later, told(n, peers.DNS, public(n)))
		require.Equal(t, "cut", info(t, m, n).Barred)
	}
	m.Want(later, []peers.Need{relays(1, 50, 50, 50)})
	for range 100 {
		later = later.Add(10 * time.Second)
		p := m.Plan(later)
		require.NotContains(t, dialled(p), id(1))
		require.NotContains(t, dialled(p), id(2))
	}
}

// A dial that is called off is nobody's fault, one that nobody answers for is.
func TestUnansweredDials(t *testing.T) {
	m := peers.New(config(1))
	m.Found(start, told(1, peers.Discv5, tcp(66, 1, 1, 1)))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	require.Len(t, m.Plan(start).Dial, 1)
	m.Failed(start, id(1), fmt.Errorf("paused: %w", context.Canceled))
	require.Zero(t, info(t, m, 1).Failures)
	p := m.Plan(start)
	require.Empty(t, p.Dial)
	p = m.Plan(p.Next)
	require.Len(t, p.Dial, 1)
	now := p.Next.Add(-time.Nanosecond)
	require.Equal(t, 1, m.Stats(now).Dialling)
	require.Equal(t, p.Next, m.Plan(now).Next)
	require.Zero(t, info(t, m, 1).Failures)
	m.Plan(p.Next)
	require.Zero(t, m.Stats(now).Dialling)
	require.Equal(t, 1, info(t, m, 1).Failures)
	m.Failed(p.Next, id(7), errNoOne) // who is that?
}

// Who takes connections only to end them rests longer each time; one that stood is
// made again at once.
func TestShortConnections(t *testing.T) {
	m := peers.New(config(1))
	m.Found(start, told(1, peers.DNS, tcp(66, 1, 1, 1)))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	now := start
	for i := range 15 {
		require.Len(t, m.Plan(now).Dial, 1)
		join(m, now, 1, tcp(66, 1, 1, 1), false)
		now = now.Add(time.Second)
		m.Lost(now, id(1))
		p := m.Plan(now)
		require.Empty(t, p.Dial)
		require.GreaterOrEqual(t, p.Next.Sub(now), 5*time.Second<<min(i, 6)*3/4)
		now = p.Next
	}
	require.Len(t, m.Plan(now).Dial, 1)
	join(m, now, 1, tcp(66, 1, 1, 1), false)
	now = now.Add(time.Minute)
	m.Lost(now, id(1))
	require.LessOrEqual(t, m.Plan(now).Next.Sub(now), 2500*time.Millisecond)
	require.Zero(t, info(t, m, 1).Failures)
}

// A peer that came by itself and can't be dialled is forgotten when it leaves.
func TestInboundAreForgotten(t *testing.T) {
	m := peers.New(config(1))
	join(m, start, 1, tcp(66, 1, 1, 1), true)
	require.True(t, info(t, m, 1).Inbound)
	join(m, start, 1, tcp(66, 1, 1, 1), false) // and is dialled: that counts
	require.False(t, info(t, m, 1).Inbound)
	join(m, start, 1, tcp(66, 1, 1, 1), true)
	require.False(t, info(t, m, 1).Inbound)
	join(m, start, 2, tcp(66, 1, 1, 1), true)
	m.Lost(start, id(2))
	require.False(t, knows(m, 2))
	m.Lost(start, id(1))
	require.True(t, knows(m, 1))
	for _, f := range []func(){ // nobody known
		func() { m.Lost(start, id(2)) }, func() { m.Proven(start, id(2), carries(1), peers.Relay) },
		func() { m.Alive(start, id(2), 1) }, func() { m.Reachable(start, id(2)) },
		func() { m.Foreign(start, id(2), "") }, func() { m.Cut(start, id(2), start) },
		func() { m.Proven(start, id(1), carries(1), peers.Relay) }, func() { m.Alive(start, id(1), 1) },
	} {
		f()
	}
	require.False(t, knows(m, 2))
	require.False(t, info(t, m, 1).Proven)
	require.Empty(t, m.Check())
}

func TestBest(t *testing.T) {
	m := peers.New(config(1))
	for n := 1; n <= 40; n++ {
		m.Connected(start, id(n), tcp(20+n, 1, 1, 1), true)
		m.Proven(start, id(n), carries(uint16(n%2)), peers.Store|peers.Filter)
		m.Alive(start, id(n), time.Duration(n)*10*time.Millisecond)
	}
	m.Connected(start, id(41), tcp(120, 1, 1, 1), true)
	m.Proven(start, id(41), sharding.Set{}, peers.Store) // js-waku doesn't say
	m.Connected(start, id(42), tcp(120, 1, 1, 1), true)  // not proven
	orders := map[string]bool{}
	for range 50 {
		best := m.Best(shard(1), peers.Store)
		require.Len(t, best, 21)
		require.Equal(t, []peer.ID{id(1), id(3)}, sorted(best[:2], 1, 3))
		require.NotContains(t, best[:7], id(41), "unknown: average")
		orders[fmt.Sprint(best[2:7])] = true
	}
	require.Greater(t, len(orders), 10)
	require.Len(t, m.Best(shard(1), peers.Store|peers.Filter), 20)
	require.Empty(t, m.Best(shard(1), peers.LightPush))
	require.Empty(t, m.Best(sharding.Shard{Cluster: 1, Index: 1}, peers.Filter))
}

// sorted puts the peers into the order given if it is them.
func sorted(got []peer.ID, want ...int) (out []peer.ID) {
	for _, n := range want {
		for _, p := range got {
			if p == id(n) {
				out = append(out, p)
			}
		}
	}
	return out
}

// Only those are handed out who are alive, belong here and are where they say.
func TestSample(t *testing.T) {
	m := peers.New(config(1))
	at := func(n int) ma.Multiaddr { return tcp(20+n, 1, 1, 1) }
	for n := 1; n <= 8; n++ {
		m.Found(start, told(n, peers.Discv5, at(n)))
	}
	join(m, start, 1, at(1), false)
	join(m, start, 2, at(2), false)
	m.Connected(start, id(3), at(3), false) // not proven
	join(m, start, 4, at(4), true)          // is it where it says?
	join(m, start, 5, tcp(77, 1, 1, 1), false)
	join(m, start, 6, at(6), false)
	m.Cut(start, id(6), start.Add(time.Hour))
	join(m, start, 7, at(7), false)
	m.Lost(start, id(7))
	join(m, start, 9, at(9), false) // no record
	get := func(now time.Time, from peer.ID, n int) (out []byte) {
		for _, r := range m.Sample(now, from, n, time.Minute) {
			out = append(out, r...)
		}
		return out
	}
	require.ElementsMatch(t, []byte{1, 2}, get(start, id(4), 10))
	require.Equal(t, []byte{2}, get(start, id(1), 10), "not whom one tells")
	require.Len(t, get(start, id(4), 1), 1)
	require.Empty(t, get(start, id(4), 0))
	require.Empty(t, get(start, id(4), -1))
	m.Reachable(start, id(4))
	require.ElementsMatch(t, []byte{1, 2, 4}, get(start, self, 10))

	m.Alive(start.Add(30*time.Second), id(2), 0)
	require.ElementsMatch(t, []byte{2}, get(start.Add(61*time.Second), self, 10), "dead for a minute")
	late := start.Add(2 * time.Hour)
	m.Alive(late, id(4), 0)
	m.Alive(late, id(1), 0)
	require.ElementsMatch(t, []byte{1}, get(late, self, 10), "4 was within reach two hours ago")

	s := told(1, peers.Discv5, tcp(99, 9, 9, 9)) // a record that points at somebody else
	s.Seq = 2
	m.Found(late, s)
	require.Empty(t, get(late, self, 10))

	m.Found(start, told(10, peers.Static, tcp(192, 168, 1, 1))) // nobody else's business
	join(m, late, 10, tcp(192, 168, 1, 1), false)
	require.Empty(t, get(late, self, 10))

	for n := 11; n <= 20; n++ {
		m.Found(start, told(n, peers.DNS, tcp(66, 1, 1, n)))
		join(m, late, n, tcp(66, 1, 1, n), false)
	}
	require.Len(t, get(late, self, 10), 2, "of one network")
}

// Times that go back are no trouble.
func TestTimeGoesBack(t *testing.T) {
	m := peers.New(config(1))
	m.Want(start, []peers.Need{relays(1, 3, 3, 3)})
	m.Found(start, told(1, peers.Discv5, tcp(66, 1, 1, 1)))
	require.Len(t, m.Plan(start).Dial, 1)
	m.Failed(start, id(1), errNoOne)
	p := m.Plan(start.Add(-240 * time.Hour))
	require.Empty(t, p.Dial)
	require.Less(t, p.Next.Sub(start), 10*time.Second)
}
