package discv5_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/sharding"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// soon is more than anything here takes.
const soon = 2 * time.Minute

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

// boot has a node begin with others.
func boot(nodes ...*discv5.Service) func(*discv5.Config) {
	return func(c *discv5.Config) {
		for _, n := range nodes {
			c.Bootnodes = append(c.Bootnodes, n.Record())
		}
	}
}

// at has a node listen on 127.0.0.last.
func at(last byte) func(*discv5.Config) {
	return func(c *discv5.Config) {
		ip := netip.AddrFrom4([4]byte{127, 0, 0, last})
		c.Listen, c.Fields.IP4 = netip.AddrPortFrom(ip, 0), ip
	}
}

// serving keeps records of who serves a shard.
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

// find walks until all wanted have been found, and fails on anybody else.
func find(t testing.TB, s *discv5.Service, wanted ...*discv5.Service) {
	t.Helper()
	missing := map[peer.ID]bool{}
	for _, w := range wanted {
		missing[w.Record().PeerID()] = true
	}
	delete(missing, s.Record().PeerID())
	for ctx := within(t, soon); len(missing) > 0; {
		r, err := s.Next(ctx)
		require.NoError(t, err, "%d missing: %+v", len(missing), s.Stats())
		require.Contains(t, missing, r.PeerID(), "found twice, or not wanted")
		delete(missing, r.PeerID())
	}
}

// Twelve nodes that know one of them find all of their kind, and nobody else.
func TestAllFindEachOther(t *testing.T) {
	t.Parallel()
	first := listen(t, 1, shards(16, 32), serving(16, 32), at(1))
	nodes := []*discv5.Service{first}
	for i := 2; i <= 12; i++ {
		nodes = append(nodes, listen(t, i, shards(16, 32), boot(first), serving(16, 32), at(byte(i))))
	}
	for i := range 4 {
		listen(t, 100+i, shards(99, 32), boot(first), at(100))
		listen(t, 200+i, shards(16, 33), boot(first), at(100))
	}
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() { find(t, n, nodes...) })
	}
	all.Wait()
}

// The same over IPv6, and from a socket for both families.
func TestIPv6(t *testing.T) {
	t.Parallel()
	ip6 := netip.IPv6Loopback()
	over6 := func(c *discv5.Config) {
		c.Listen, c.Fields.IP4, c.Fields.IP6 = netip.AddrPortFrom(ip6, 0), netip.Addr{}, ip6
	}
	if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6:", err)
	} else {
		c.Close()
	}
	six := listen(t, 1, shards(16, 1), over6)
	four := listen(t, 2, shards(16, 1))
	both := listen(t, 3, shards(16, 1), both, boot(six, four))
	more := listen(t, 4, shards(16, 1), boot(four))
	find(t, both, six, four, more)
	fifth := listen(t, 5, shards(16, 1), over6, boot(six))
	for ctx := within(t, soon); ; { // six may tell it of both first
		r, err := fifth.Next(ctx)
		require.NoError(t, err, "%+v", fifth.Stats())
		if r.PeerID() == six.Record().PeerID() {
			break
		}
	}
}

// Half of them vanish. A newcomer finds the rest, and so do those left.
func TestHalfVanish(t *testing.T) {
	t.Parallel()
	first := listen(t, 1, shards(16, 1))
	nodes := []*discv5.Service{first}
	for i := 2; i <= 12; i++ {
		nodes = append(nodes, listen(t, i, shards(16, 1), boot(first)))
	}
	find(t, nodes[11], nodes...)
	for _, n := range nodes[:6] {
		require.NoError(t, n.Close())
	}
	left := map[peer.ID]bool{}
	for _, n := range nodes[6:] {
		left[n.Record().PeerID()] = true
	}
	// The dead are still named, as nobody has noticed.
	newcomer := listen(t, 20, shards(16, 1), boot(nodes[11], first))
	for ctx := within(t, soon); len(left) > 0; {
		r, err := newcomer.Next(ctx)
		require.NoError(t, err)
		if left[r.PeerID()] {
			_, err := newcomer.Resolve(ctx, r)
			require.NoError(t, err)
			delete(left, r.PeerID())
		}
	}
	for ctx, found := within(t, soon), peer.ID(""); found != newcomer.Record().PeerID(); {
		r, err := nodes[8].Next(ctx)
		require.NoError(t, err)
		found = r.PeerID()
	}
}

// A shard joined later is found by those who look for it, though they know the
// node already and didn't want it.
func TestSetIsSeen(t *testing.T) {
	t.Parallel()
	first := listen(t, 1, shards(16, 1))
	joiner := listen(t, 2, shards(16, 1), boot(first))
	seeker := listen(t, 3, shards(16, 7), boot(first), serving(16, 7))
	old := joiner.Record()
	found := make(chan *enr.Record, 1)
	go func() {
		r, _ := seeker.Next(within(t, soon))
		found <- r
	}()
	for s := seeker.Stats(); s.Refused["unwanted"] < 2; s = seeker.Stats() {
		time.Sleep(10 * time.Millisecond)
	}
	r, err := joiner.Set(enr.Fields{IP4: loopback, TCP: 60000, Capabilities: enr.Relay, Shards: shards(16, 1, 7)})
	require.NoError(t, err)
	require.Equal(t, r, <-found)
	require.Greater(t, r.Seq(), old.Seq())

	got, err := seeker.Resolve(within(t, soon), old)
	require.NoError(t, err)
	require.Equal(t, r, got)
	got, err = seeker.Resolve(within(t, soon), r)
	require.NoError(t, err)
	require.Equal(t, r, got)
}

func TestResolveFails(t *testing.T) {
	t.Parallel()
	s := listen(t, 1, shards(16, 1))
	dead := listen(t, 2, shards(16, 1))
	require.NoError(t, dead.Close())
	_, err := s.Resolve(within(t, soon), dead.Record())
	require.ErrorIs(t, err, discv5.ErrNoAnswer)

	nowhere, err := enr.Build(p2ptest.Key(3), enr.Fields{TCP: 60000})
	require.NoError(t, err)
	_, err = s.Resolve(within(t, soon), nowhere)
	require.ErrorIs(t, err, discv5.ErrNoEndpoint)

	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Resolve(done, dead.Record())
	require.ErrorIs(t, err, context.Canceled)
}

// A bootnode that is dead, one that can't be reached, one of another protocol:
// nothing is found but them, until there is a better one.
func TestPoorBootnodes(t *testing.T) {
	t.Parallel()
	dead := listen(t, 1, shards(16, 1))
	require.NoError(t, dead.Close())
	foreign := newRaw(t, loopback, "discv5").start()
	nowhere, err := enr.Build(p2ptest.Key(3), enr.Fields{TCP: 60000})
	require.NoError(t, err)
	good := listen(t, 4, shards(16, 1))
	s := listen(t, 5, shards(16, 1), func(c *discv5.Config) {
		c.Bootnodes = []*enr.Record{dead.Record(), nowhere, foreign.record(t)}
		c.Keep = func(r *enr.Record) bool { return r.PeerID() == good.Record().PeerID() }
	})
	require.Equal(t, 2, s.Stats().Bootnodes)
	found := make(chan *enr.Record, 1)
	go func() {
		r, _ := s.Next(within(t, soon))
		found <- r
	}()
	s.AddBootnodes([]*enr.Record{good.Record(), nowhere})
	require.Equal(t, good.Record(), <-found)
	require.Equal(t, 3, s.Stats().Bootnodes)
}

// Nobody to begin with: waiting, then at once when there is somebody.
func TestNoBootnodes(t *testing.T) {
	t.Parallel()
	good := listen(t, 1, shards(16, 1))
	s := listen(t, 2, shards(16, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	s.AddBootnodes([]*enr.Record{good.Record()})
	r, err := s.Next(within(t, soon))
	require.NoError(t, err)
	require.Equal(t, good.Record(), r)
}

// The peers' votes, over the wire: eleven addresses see the same endpoint.
func TestVotesOverTheWire(t *testing.T) {
	t.Parallel()
	told := make(chan *enr.Record, 1)
	voter := listen(t, 1, shards(16, 1), at(99), func(c *discv5.Config) {
		c.Fields.IP4 = netip.MustParseAddr("127.1.2.3") // we err
		c.OnRecord = func(r *enr.Record) { told <- r }
	})
	var peers []*discv5.Service
	for i := 2; i <= 12; i++ {
		peers = append(peers, listen(t, i, shards(16, 1), at(byte(i))))
	}
	b := discv5.Config{}
	boot(peers...)(&b)
	voter.AddBootnodes(b.Bootnodes)
	find(t, voter, peers...)
	voter.Ping()
	r := <-told
	require.Equal(t, voter.Addr().Addr(), r.Fields().IP4)
	require.Equal(t, voter.Addr().Port(), r.Fields().UDP)
}

func TestClose(t *testing.T) {
	t.Parallel()
	first := listen(t, 1, shards(16, 1))
	s := listen(t, 2, shards(16, 1), boot(first), func(c *discv5.Config) {
		c.Keep = func(*enr.Record) bool { return false }
	})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			_, err := s.Next(t.Context())
			require.ErrorIs(t, err, discv5.ErrClosed)
		})
	}
	all.Go(func() {
		for {
			if _, err := s.Resolve(t.Context(), first.Record()); err != nil {
				require.ErrorIs(t, err, discv5.ErrClosed)
				return
			}
		}
	})
	time.Sleep(50 * time.Millisecond)
	for range 3 {
		all.Go(func() { require.NoError(t, s.Close()) })
	}
	all.Wait()
	_, err := s.Next(t.Context())
	require.ErrorIs(t, err, discv5.ErrClosed)
	s.AddBootnodes([]*enr.Record{first.Record()})
	s.Stats()
	s.Table()
	require.Equal(t, s.Record(), s.Record())
}

// A system may take the socket away: from a phone that sleeps.
func TestSocketLost(t *testing.T) {
	t.Parallel()
	first := listen(t, 1, shards(16, 1))
	s := listen(t, 2, shards(16, 1))
	require.NoError(t, s.Socket().Close())
	p2ptest.Eventually(t, func() bool {
		_, err := first.Resolve(t.Context(), s.Record())
		return err == nil
	}, "listens again")
	s.AddBootnodes([]*enr.Record{first.Record()})
	find(t, s, first)
}
