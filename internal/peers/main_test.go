package peers_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

const cluster = 16

var (
	start    = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	errNoOne = errors.New("nobody there")
	self     = id(0)
)

// id is the n-th peer.
func id(n int) peer.ID {
	h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return peer.ID(append([]byte{0x12, 0x20}, h[:]...))
}

func maddr(s string) ma.Multiaddr {
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

// tcp is port 60000 of an IPv4 address.
func tcp(a, b, c, d int) ma.Multiaddr {
	return maddr(fmt.Sprintf("/ip4/%d.%d.%d.%d/tcp/60000", a, b, c, d))
}

// fewer is how often something is repeated under the race detector, for which there
// is little to see here.
func fewer(n int) int {
	if raceEnabled {
		return (n + 9) / 10
	}
	return n
}

// public is the n-th public address, each in a network of its own, and many in wide
// ones of their own.
func public(n int) ma.Multiaddr { return tcp(20+n%80, n/80%60, n/4800%250, 1) }

func carries(indices ...uint16) sharding.Set {
	s, err := sharding.NewSet(cluster, indices...)
	if err != nil {
		panic(err)
	}
	return s
}

func shard(index uint16) sharding.Shard { return sharding.Shard{Cluster: cluster, Index: index} }

func relays(index uint16, least, target, outbound int) peers.Need {
	return peers.Need{Shard: shard(index), Service: peers.Relay, Min: least, Target: target, Outbound: outbound}
}

// told is a sighting of the n-th peer: a relay on shard 1, with a record.
func told(n int, source peers.Source, at ...ma.Multiaddr) peers.Sighting {
	return peers.Sighting{
		Info:   peer.AddrInfo{ID: id(n), Addrs: at},
		Shards: carries(1), Services: peers.Relay,
		Record: []byte{byte(n)}, Seq: 1, Source: source,
	}
}

func config(seed uint64) peers.Config {
	return peers.Config{Self: self, Cluster: cluster, Rand: rand.NewPCG(seed, 1)}
}

func dialled(p peers.Plan) (out []peer.ID) {
	for _, d := range p.Dial {
		out = append(out, d.ID)
	}
	return out
}

func droppedBy(p peers.Plan) (out []peer.ID) {
	for _, d := range p.Drop {
		out = append(out, d.ID)
	}
	return out
}

func info(t testing.TB, m *peers.Manager, n int) peers.Peer {
	t.Helper()
	p, ok := m.Known(id(n))
	require.True(t, ok, "peer %d isn't known", n)
	return p
}

func knows(m *peers.Manager, n int) bool {
	_, ok := m.Known(id(n))
	return ok
}

// join connects the n-th peer, which proves to be a relay on shard 1.
func join(m *peers.Manager, now time.Time, n int, at ma.Multiaddr, inbound bool) {
	m.Connected(now, id(n), at, inbound)
	m.Proven(now, id(n), carries(1), peers.Relay)
}

// node is a peer in a world.
type node struct {
	n        int
	at       ma.Multiaddr
	shards   sharding.Set
	services peers.Service
	alive    bool
	hostile  bool
}

// world is a network that a manager is driven in, by a clock that jumps.
type world struct {
	t     testing.TB
	m     *peers.Manager
	now   time.Time
	nodes map[peer.ID]*node
	open  map[peer.ID]bool // connected
	dials []pending
	log   []dial // all there were
}

type pending struct {
	id   peer.ID
	at   ma.Multiaddr
	due  time.Time
	dead bool
}

type dial struct {
	id peer.ID
	at time.Time
}

func newWorld(t testing.TB, c peers.Config) *world {
	return &world{t: t, m: peers.New(c), now: start, nodes: map[peer.ID]*node{}, open: map[peer.ID]bool{}}
}

func (w *world) add(n node) *node {
	w.nodes[id(n.n)] = &n
	return &n
}

// tell makes a node known.
func (w *world) tell(n *node, source peers.Source, from string) {
	s := told(n.n, source, n.at)
	s.Shards, s.Services, s.From = n.shards, n.services, from
	w.m.Found(w.now, s)
}

// run does what the manager plans, until a time. The living answer within 100 ms,
// the dead after 5 s.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		w.answer()
		p := w.m.Plan(w.now)
		for _, x := range p.Dial {
			w.log = append(w.log, dial{x.ID, w.now})
			n := w.nodes[x.ID]
			require.NotNil(w.t, n)
			due := pending{id: x.ID, at: n.at, due: w.now.Add(100 * time.Millisecond)}
			if due.dead = !n.alive || !slices.ContainsFunc(x.Addrs, n.at.Equal); due.dead {
				due.due = w.now.Add(5 * time.Second)
			}
			w.dials = append(w.dials, due)
		}
		for _, x := range p.Drop {
			delete(w.open, x.ID)
			w.m.Lost(w.now, x.ID)
		}
		if len(p.Drop) > 0 {
			continue
		}
		next := end
		if !p.Next.IsZero() && p.Next.Before(next) {
			next = p.Next
		}
		for _, x := range w.dials {
			if x.due.Before(next) {
				next = x.due
			}
		}
		if !next.Before(end) {
			w.now = end
			return
		}
		require.True(w.t, next.After(w.now), "a plan is due at once")
		w.now = next
	}
}

func (w *world) answer() {
	w.dials = slices.DeleteFunc(w.dials, func(x pending) bool {
		n := w.nodes[x.id]
		switch {
		case x.due.After(w.now):
			return false
		case x.dead || !n.alive:
			w.m.Failed(w.now, x.id, errNoOne)
		default:
			w.open[x.id] = true
			w.m.Connected(w.now, x.id, x.at, false)
			w.m.Proven(w.now, x.id, n.shards, n.services)
		}
		return true
	})
}

// lose ends a connection.
func (w *world) lose(n *node) {
	delete(w.open, id(n.n))
	w.m.Lost(w.now, id(n.n))
}

// tally counts who of those that were dialled is honest.
func (w *world) tally() (honest, hostile int) {
	for p := range w.open {
		if w.nodes[p].hostile {
			hostile++
		} else {
			honest++
		}
	}
	return honest, hostile
}

// serving is tally for one shard.
func (w *world) serving(index uint16) (honest, hostile int) {
	for p := range w.open {
		if n := w.nodes[p]; n.shards.Contains(shard(index)) {
			if n.hostile {
				hostile++
			} else {
				honest++
			}
		}
	}
	return honest, hostile
}

// prefix24 is the network of an address.
func prefix24(a ma.Multiaddr) netip.Prefix {
	v, err := a.ValueForProtocol(ma.P_IP4)
	if err != nil {
		return netip.Prefix{}
	}
	p, _ := netip.MustParseAddr(v).Prefix(24)
	return p
}
