package rendezvous_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/rendezvous"
)

// find returns everybody whom a point knows in a namespace.
func find(t testing.TB, c *rendezvous.Client, at peer.ID, ns string) map[peer.ID]rendezvous.Peer {
	all := make(map[peer.ID]rendezvous.Peer)
	var cookie rendezvous.Cookie
	for first := true; ; first = false {
		a, err := c.Discover(t.Context(), at, ns, rendezvous.MaxPeers, cookie)
		require.NoError(t, err)
		for why := range a.Refused {
			require.Equal(t, rendezvous.RefusedSelf, why)
		}
		if len(a.Peers) == 0 && !first {
			return all
		}
		for _, p := range a.Peers {
			all[p.Info.ID] = p
		}
		cookie = a.Cookie
	}
}

// A community registers at three points over streams, and two of them are lost.
func TestCommunity(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		members := 30
		if testing.Short() || raceEnabled {
			members = 10
		}
		net := p2ptest.New(t, p2ptest.Config{})
		hosts := net.Hosts(3 + members)
		var points []*rendezvous.Point
		var at []peer.ID
		for _, h := range hosts[:3] {
			points = append(points, rendezvous.NewPoint(h, rendezvous.PointConfig{}))
			at = append(at, h.ID())
		}
		defer func() {
			for _, p := range points {
				p.Close()
			}
		}()
		var wg sync.WaitGroup
		for i, h := range hosts[3:] {
			for _, p := range hosts[:3] {
				h.Peerstore().AddAddrs(p.ID(), p.Addrs(), time.Hour*1000)
			}
			r := rendezvous.NewRegistrar(client(h), rendezvous.RegistrarConfig{
				Points: func() []peer.ID { return at },
				Addrs:  func() []ma.Multiaddr { return addrs(fmt.Sprintf("/ip4/20.1.%d.%d/tcp/1", i>>8, i&255)) },
				TTL:    4 * time.Minute,
			})
			defer func() { wg.Go(func() { r.Pause(); r.Close() }) }()
			r.SetNamespaces(ns)
		}
		defer wg.Wait()
		time.Sleep(time.Second)
		for i, p := range points {
			s := p.Stats()
			require.Equal(t, members, s.Registrations, i)
			require.Zero(t, s.Failed)
			require.Empty(t, s.Refused)
		}
		seeker := client(hosts[3])
		require.Len(t, find(t, seeker, at[0], ns), members-1)

		// Two are lost. The third goes on.
		for i := range 2 {
			points[i].Close()
			hosts[i].Close()
		}
		time.Sleep(12 * time.Minute)
		require.Len(t, find(t, seeker, at[2], ns), members-1)
		s := points[2].Stats()
		require.Zero(t, s.Expired)
		require.InDelta(t, 1+12/2.5, float64(s.Registered+s.Renewed)/float64(members), 2)
	})
}

// post brings requests to points without a network.
type post struct {
	id     peer.ID
	record []byte
	to     func(p peer.ID) *rendezvous.Point
}

func (m post) Register(_ context.Context, p peer.ID, ns string, _ []ma.Multiaddr, ttl time.Duration) (time.Duration, error) {
	point := m.to(p)
	if point == nil {
		return 0, errors.New("no answer")
	}
	b, err := point.Handle(m.id, registerRequest(ns, m.record, uint64(ttl/time.Second)))
	if err != nil {
		return 0, err
	}
	r, err := rendezvous.ResponseOf(b, 1, 0)
	if err != nil || r.Status != 0 {
		return 0, &rendezvous.StatusError{Code: r.Status}
	}
	return time.Duration(r.TTL) * time.Second, nil
}

func (post) Unregister(context.Context, peer.ID, string) error { return nil }

// A thousand members behind NAT at three points for long enough: what a point holds and is
// asked for, and that two may go.
func TestThousand(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		members := 1000
		if testing.Short() || raceEnabled {
			members = 40
		}
		hosts := p2ptest.Hosts(t, 3)
		points := make(map[peer.ID]*rendezvous.Point)
		var at []peer.ID
		for _, h := range hosts {
			at = append(at, h.ID())
			points[h.ID()] = serve(t, h, rendezvous.PointConfig{})
		}
		third := points[at[2]]
		var gone atomic.Bool
		to := func(p peer.ID) *rendezvous.Point {
			if gone.Load() && p != at[2] {
				return nil
			}
			return points[p]
		}
		circuit := addrs("/ip4/11.0.0.1/tcp/30303/p2p/"+at[0].String()+"/p2p-circuit",
			"/ip4/11.0.0.1/udp/30303/quic-v1/p2p/"+at[0].String()+"/p2p-circuit", "/ip4/11.0.9.9/udp/4001/quic-v1")
		var before, after runtime.MemStats
		records := make([][]byte, members)
		for i := range records {
			var err error
			records[i], err = rendezvous.Seal(p2ptest.Key(i), circuit)
			require.NoError(t, err)
		}
		var all []*rendezvous.Registrar
		for i := range members {
			r := rendezvous.NewRegistrar(post{idOf(i), records[i], to}, rendezvous.RegistrarConfig{
				Points: func() []peer.ID { return at },
				Addrs:  func() []ma.Multiaddr { return circuit },
				TTL:    20 * time.Minute, // a sixth of the default, and six times as often
			})
			r.SetNamespaces(ns)
			all = append(all, r)
		}
		time.Sleep(time.Second)
		for _, p := range points {
			require.Equal(t, members, p.Stats().Registrations)
		}
		synctest.Wait()
		// Two are lost. The third knows everybody.
		lost := points[at[0]]
		points[at[1]].Close()
		gone.Store(true)
		time.Sleep(40 * time.Minute)
		s := third.Stats()
		require.Equal(t, members, s.Registrations)
		require.Len(t, third.Sample(ns, members+1), members)
		require.Zero(t, s.Expired)
		require.Empty(t, s.Refused)
		rate := float64(s.Renewed) / (6 * 40 * 60)
		require.InDelta(t, float64(members)/4500, rate, float64(members)/10_000)
		require.Zero(t, lost.Stats().Registrations, "all expired")
		for _, r := range all {
			r.Close()
		}

		// What one takes beside its record.
		runtime.GC()
		runtime.ReadMemStats(&before)
		cfg := free
		cfg.MaxPerAddress = members
		p := serve(t, hosts[0], cfg)
		for i, r := range records {
			require.True(t, p.Put(idOf(i), ns, fmt.Sprint(i/4), r, time.Hour))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(members) // of few, as much as of others' garbage
		t.Logf("%d members: records of %d B, %.0f B of memory each, %.3f requests/s with a TTL of 2 h", members, len(records[0]), each, rate)
		require.Less(t, each, 2000.0)
	})
}

// The third point restarts, empty or with what it knew: the members are there again.
func TestPointRestarts(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		at := hosts[0].ID()
		p := rendezvous.NewPoint(hosts[0], rendezvous.PointConfig{})
		r := rendezvous.NewRegistrar(client(hosts[1]), rendezvous.RegistrarConfig{
			Points: func() []peer.ID { return []peer.ID{at} },
			Addrs:  hosts[1].Addrs,
		})
		defer r.Close()
		r.SetNamespaces(ns)
		time.Sleep(time.Second)
		require.Equal(t, 1, p.Stats().Registrations)
		p.Close()
		p = rendezvous.NewPoint(hosts[0], rendezvous.PointConfig{})
		defer func() { p.Close() }()
		time.Sleep(10 * time.Second)
		require.Zero(t, p.Stats().Registrations)
		r.Renew(at)
		synctest.Wait()
		require.Equal(t, 1, p.Stats().Registrations)

		file := rendezvous.SnapshotFile(filepath.Join(t.TempDir(), "points"))
		p.Close()
		p = rendezvous.NewPoint(hosts[0], rendezvous.PointConfig{Snapshots: file})
		r.Renew(at)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, p.Close())
		time.Sleep(time.Minute)
		p = rendezvous.NewPoint(hosts[0], rendezvous.PointConfig{Snapshots: file})
		got := find(t, client(hosts[2]), at, ns)
		require.Len(t, got, 1)
		require.InDelta(t, float64(119*time.Minute), float64(got[hosts[1].ID()].TTL), float64(2*time.Second))
		p.Close()
		time.Sleep(2 * time.Hour)
		p = rendezvous.NewPoint(hosts[0], rendezvous.PointConfig{Snapshots: file})
		require.Len(t, find(t, client(hosts[2]), at, ns), 0, "past its time")
	})
}

// memory is a snapshot that can fail.
type memory struct {
	b     []byte
	err   error
	saves int
}

func (m *memory) Load() ([]byte, error) { return m.b, m.err }
func (m *memory) Save(b []byte) error {
	m.saves++
	if m.err == nil {
		m.b = append([]byte(nil), b...)
	}
	return m.err
}

// Snapshots are written when something has changed, and a damaged one is no snapshot.
func TestSnapshots(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		var m memory
		var told []error
		cfg := free
		cfg.Snapshots = &m
		cfg.OnFailure = func(_ peer.ID, err error) { told = append(told, err) }
		p := rendezvous.NewPoint(h, cfg)
		time.Sleep(time.Hour + time.Second) // not at the instant of a tick
		require.Zero(t, m.saves)
		for i := range 50 {
			require.True(t, p.Put(idOf(100+i), ns, fmt.Sprint(i%5), record(100+i), 10*time.Hour))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 1, m.saves)
		n, err := rendezvous.LoadSnapshot(m.b)
		require.NoError(t, err)
		require.Equal(t, 50, n)
		m.err = fmt.Errorf("no room")
		require.True(t, p.Put(idOf(99), ns, "a", record(99), time.Hour))
		time.Sleep(time.Hour - time.Minute)
		require.ErrorIs(t, p.Close(), m.err)
		require.NoError(t, p.Close())
		require.Len(t, told, m.saves-1)
		require.Equal(t, uint64(m.saves-1), p.Stats().SaveFailed)

		m.err, told = nil, nil
		good := m.b
		for _, at := range []int{0, 31, 32, 100, len(good) - 1} {
			m.b = append([]byte(nil), good...)
			m.b[at] ^= 1
			p = rendezvous.NewPoint(h, cfg)
			require.Zero(t, p.Stats().Registrations)
			p.Close()
			require.ErrorIs(t, told[len(told)-1], rendezvous.ErrSnapshot)
		}
		m.b = good
		cfg.MaxRegistrations = 20
		p = rendezvous.NewPoint(h, cfg)
		require.Equal(t, 20, p.Stats().Registrations, "no more than there may be")
		require.Empty(t, p.Check())
		p.Close()
		cfg.Serves = func(string) bool { return false }
		m.b = good
		p = rendezvous.NewPoint(h, cfg)
		require.Zero(t, p.Stats().Registrations, "what isn't served any more")
		p.Close()
	})
}
