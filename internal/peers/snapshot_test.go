package peers_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

// seal puts the checksum behind a snapshot's body.
func seal(body []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(body), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// signed is the n-th peer's sighting, with a real record.
func signed(t testing.TB, n int, shards sharding.Set, at ma.Multiaddr) peers.Sighting {
	r, err := enr.Build(p2ptest.Key(n), enr.Fields{
		Seq: uint64(n), Shards: shards, Capabilities: enr.Relay, Multiaddrs: []ma.Multiaddr{at},
	})
	require.NoError(t, err)
	return peers.FromRecord(r, peers.Discv5, "")
}

func TestSnapshot(t *testing.T) {
	m := peers.New(config(1))
	m.Want(start, []peers.Need{relays(1, 3, 6, 3)})
	now := start
	for n := 1; n <= 12; n++ {
		m.Found(start, signed(t, n, carries(1, 2), tcp(20+n, 1, 1, 1)))
	}
	ids := func(n int) (p peers.Sighting) { return signed(t, n, carries(1), tcp(20+n, 1, 1, 1)) }
	dial := func(n int, prove bool) {
		m.Connected(now, ids(n).Info.ID, tcp(20+n, 1, 1, 1), false)
		if prove {
			m.Proven(now, ids(n).Info.ID, carries(1, 3), peers.Relay|peers.PeerExchange)
		}
	}
	for n := 1; n <= 6; n++ {
		dial(n, n < 6)
	}
	m.Lost(now, ids(2).Info.ID)
	m.Cut(now, ids(3).Info.ID, now.Add(time.Hour))
	m.Foreign(now, ids(4).Info.ID, "cluster 1")
	m.Connected(now, ids(7).Info.ID, tcp(27, 1, 1, 1), true)
	m.Proven(now, ids(7).Info.ID, carries(1), peers.Relay)
	hearsay := told(50, peers.Exchange, tcp(50, 1, 1, 1))
	hearsay.Record = nil
	m.Found(now, hearsay)
	m.Connected(now, ids(8).Info.ID, public(8), true)
	for range 6 { // it was hard to reach, but is there now
		m.Failed(now, id(50), errNoOne)
	}
	m.Lost(now, ids(8).Info.ID)
	join(m, now, 50, tcp(50, 1, 1, 1), false)
	now = now.Add(time.Hour)
	b := m.Snapshot(now)

	r := peers.New(config(2))
	require.NoError(t, r.Restore(now.Add(24*time.Hour), b))
	require.Equal(t, map[peers.Source]int{peers.Saved: 4}, r.Stats(now).BySource, "1, 5, and 50, and 2 that was there")
	for n, lost := range map[int]bool{1: false, 2: true, 5: false} {
		was := ids(n)
		p, ok := r.Known(was.Info.ID)
		require.True(t, ok)
		require.Equal(t, was.Info, p.Info)
		require.Equal(t, was.Seq, p.Seq)
		require.Equal(t, carries(1, 3), p.Shards, "what it proved")
		require.Equal(t, peers.Relay|peers.PeerExchange, p.Services)
		require.Equal(t, lost, p.Reached.Before(now.Truncate(time.Second)))
		require.False(t, p.Connected)
	}
	r.Want(now, []peers.Need{relays(3, 1, 2, 2)})
	require.Len(t, r.Plan(now).Dial, 2)
	again := peers.New(config(3))
	require.NoError(t, again.Restore(now, r.Snapshot(now)), "what was restored can be saved again")
	require.Equal(t, 4, again.Stats(now).Known)

	late := peers.New(config(2))
	require.NoError(t, late.Restore(now.Add(31*24*time.Hour), b))
	require.Zero(t, late.Stats(now).Known)
	early := peers.New(config(2)) // the clock was put back
	require.NoError(t, early.Restore(start.Add(-1000*time.Hour), b))
	p, _ := early.Known(ids(1).Info.ID)
	require.False(t, p.Reached.After(start.Add(-1000*time.Hour)))

	here := peers.New(config(2)) // what is known already stays
	s := ids(1)
	s.Seq, s.Source, s.Info.Addrs = 99, peers.DNS, []ma.Multiaddr{tcp(77, 1, 1, 1)}
	here.Found(now, s)
	require.NoError(t, here.Restore(now, b))
	p, _ = here.Known(s.Info.ID)
	require.Equal(t, s.Info, p.Info)
	require.Equal(t, peers.DNS, p.Source)
}

// A snapshot has the best 256, no more than four of one network.
func TestSnapshotIsBounded(t *testing.T) {
	c := config(1)
	c.MaxConns, c.MaxKnown = 2000, 10_000
	m := peers.New(c)
	now := start
	for n := 1; n <= 1000; n++ {
		at := public(n)
		if n <= 100 {
			at = tcp(15, 1, 1, n)
		}
		m.Found(now, told(n, peers.DNS, at))
		join(m, now, n, at, false)
		if n <= 800 {
			now = now.Add(time.Second)
			m.Lost(now, id(n))
		}
	}
	b := m.Snapshot(now)
	require.Less(t, len(b), 64<<10)
	r := peers.New(config(1))
	require.NoError(t, r.Restore(now, b))
	require.Equal(t, 256, r.Stats(now).Known)
	for n := 801; n <= 1000; n++ {
		require.True(t, knows(r, n), "those connected")
	}
	m = peers.New(c)
	for n := 1; n <= 100; n++ {
		m.Found(now, told(n, peers.DNS, tcp(15, 1, 1, n)))
		join(m, now, n, tcp(15, 1, 1, n), false)
	}
	r = peers.New(config(1))
	require.NoError(t, r.Restore(now, m.Snapshot(now)))
	require.Equal(t, 4, r.Stats(now).Known)
}

func TestRestoreRefuses(t *testing.T) {
	m := peers.New(config(1))
	m.Found(start, told(1, peers.DNS, tcp(66, 1, 1, 1)))
	join(m, start, 1, tcp(66, 1, 1, 1), false)
	b := m.Snapshot(start)
	r := peers.New(config(1))
	for n := range b {
		require.ErrorIs(t, r.Restore(start, b[:n]), peers.ErrSnapshot)
		flipped := slices.Clone(b)
		flipped[n] ^= 1
		require.ErrorIs(t, r.Restore(start, flipped), peers.ErrSnapshot)
	}
	body := b[:len(b)-4]
	for name, wrong := range map[string][]byte{
		"nothing":      nil,
		"another file": []byte(fmt.Sprint(config(1))),
		"more":         seal(append(slices.Clone(body), 0)),
		"version":      seal(append([]byte("peers\x02"), body[6:]...)),
		"count":        seal(append([]byte("peers\x01\xff\xff\x03"), body[7:]...)),
		"count of 2":   seal(append([]byte("peers\x01\x02"), body[7:]...)),
		"id":           seal([]byte("peers\x01\x01\x02ab\x00\x00\x00\x00\x00\x00")),
		"endless":      seal([]byte("peers\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
		"shard":        seal(append(append([]byte("peers\x01\x01"), body[7:7+35]...), "\x00\x00\x10\x01\x80\x08\x00\x00"...)),
		"address":      seal(append(append([]byte("peers\x01\x01"), body[7:7+35]...), "\x00\x00\x10\x00\x00\x01\x01\xff"...)),
		"16 MiB":       make([]byte, 16<<20),
		"16 MiB of it": seal(append(slices.Clone(body), make([]byte, 16<<20)...)),
	} {
		require.ErrorIs(t, r.Restore(start, wrong), peers.ErrSnapshot, name)
	}
	require.Zero(t, r.Stats(start).Known)
	require.NoError(t, r.Restore(start, b))
	require.NoError(t, r.Restore(start, peers.New(config(1)).Snapshot(start)), "an empty one")
	require.Equal(t, 1, r.Stats(start).Known)

	c := config(1) // who isn't of this cluster any more, or lives in a LAN
	c.Cluster++
	r = peers.New(c)
	require.NoError(t, r.Restore(start, b))
	require.Zero(t, r.Stats(start).Known)
}

func FuzzRestore(f *testing.F) {
	m := peers.New(config(1))
	f.Add([]byte{})
	f.Add(m.Snapshot(start)[6:])
	for n := 1; n <= 3; n++ {
		s := signed(f, n, carries(1, 2), tcp(20+n, 1, 1, 1))
		m.Found(start, s)
		m.Connected(start, s.Info.ID, s.Info.Addrs[0], false)
		m.Proven(start, s.Info.ID, s.Shards, s.Services)
		b := m.Snapshot(start)
		f.Add(b[6 : len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m := peers.New(config(1))
		err := m.Restore(start, seal(append([]byte("peers\x01"), body...)))
		require.Empty(t, m.Check())
		known := m.Stats(start).Known
		require.LessOrEqual(t, known, 256)
		if err != nil {
			require.ErrorIs(t, err, peers.ErrSnapshot)
			require.Zero(t, known)
		}
		n := peers.New(config(1))
		require.NoError(t, n.Restore(start, m.Snapshot(start)))
		require.LessOrEqual(t, n.Stats(start).Known, known)
	})
}

// Whom everybody dials has dialled nobody: those who came, have stayed and say where they
// listen, at the host that they came from, are worth a try after a restart.
func TestSnapshotHasVisitors(t *testing.T) {
	c := config(1)
	c.MaxConns, c.MaxKnown = 300, 10_000
	m := peers.New(c)
	from := func(n int) ma.Multiaddr { return tcp(20+n%200, n/200, 1, 1) }
	comes := func(n int, listens ...ma.Multiaddr) {
		join(m, start, n, from(n), true)
		m.Listens(start, id(n), listens)
	}
	comes(1, from(1), tcp(99, 1, 1, 1))
	comes(2, tcp(99, 1, 1, 2))               // somebody else's address
	comes(3)                                 // doesn't say
	comes(4, from(4))                        // will be cut
	comes(5, from(5))                        // leaves
	m.Connected(start, id(6), from(6), true) // proves nothing
	m.Listens(start, id(6), []ma.Multiaddr{from(6)})
	m.Cut(start, id(4), start.Add(time.Hour))
	m.Lost(start, id(5))
	m.Listens(start, id(77), []ma.Multiaddr{from(77)}) // nobody knows
	restored := func(now time.Time) *peers.Manager {
		r := peers.New(config(2))
		require.NoError(t, r.Restore(now, m.Snapshot(now)))
		require.Empty(t, r.Check())
		return r
	}
	require.Zero(t, restored(start.Add(4*time.Minute)).Stats(start).Known, "nobody has stayed")
	now := start.Add(5 * time.Minute)
	r := restored(now)
	require.Equal(t, map[peers.Source]int{peers.Exchange: 1}, r.Stats(now).BySource)
	p, ok := r.Known(id(1))
	require.True(t, ok)
	require.Equal(t, []ma.Multiaddr{from(1)}, p.Info.Addrs)
	require.True(t, p.Reached.IsZero())
	require.Equal(t, carries(1), p.Shards)
	r.Want(now, []peers.Need{relays(1, 1, 2, 2)})
	require.Len(t, r.Plan(now).Dial, 1)

	for n := 100; n < 300; n++ { // attackers come too, with forty of a network
		at := tcp(30+n/40, 7, 7, 1+n%40)
		join(m, start, n, at, true)
		m.Listens(start, id(n), []ma.Multiaddr{at})
	}
	for n := 300; n < 360; n++ {
		comes(n, from(n))
	}
	now = now.Add(5 * time.Minute)
	r = restored(now)
	require.Equal(t, 32, r.Stats(now).Known)
	require.True(t, knows(r, 1))
	join(r, now, 1, from(1), false)
	require.Equal(t, map[peers.Source]int{peers.Saved: 1}, func() map[peers.Source]int {
		x := peers.New(config(3))
		require.NoError(t, x.Restore(now, r.Snapshot(now)))
		return x.Stats(now).BySource
	}(), "who was reached is a good peer")
}
