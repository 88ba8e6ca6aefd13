package peers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
)

// Nine of ten records are an attacker's, all of them alive and carrying all shards.
// However they come, honest peers have half of the outbound slots at least.
func TestEclipse(t *testing.T) {
	const honest, hostile = 100, 900
	everything := carries(1, 2, 3, 4, 5, 6)
	for name, c := range map[string]struct {
		hostile func(i int) node
		tell    func(w *world, n *node)
		first   bool // the attacker's are there before the honest ones
	}{
		"one address": {
			hostile: func(i int) node { return node{at: maddr(fmt.Sprintf("/ip4/66.0.0.1/tcp/%d", 1000+i))} },
			tell:    func(w *world, n *node) { w.tell(n, peers.Discv5, "") },
		},
		"one address, first": {
			hostile: func(i int) node { return node{at: maddr(fmt.Sprintf("/ip4/66.0.0.1/tcp/%d", 1000+i))} },
			tell:    func(w *world, n *node) { w.tell(n, peers.Discv5, "") },
			first:   true,
		},
		"twenty addresses": {
			hostile: func(i int) node {
				return node{at: maddr(fmt.Sprintf("/ip4/66.%d.%d.%d/tcp/%d", i%4, i%2, i%20, 1000+i))}
			},
			tell:  func(w *world, n *node) { w.tell(n, peers.Discv5, "") },
			first: true,
		},
		"one domain": {
			hostile: func(i int) node { return node{at: maddr(fmt.Sprintf("/dns4/n%d.evil.org/tcp/443/wss", i))} },
			tell:    func(w *world, n *node) { w.tell(n, peers.Discv5, "") },
			first:   true,
		},
		"many networks, one teller, beside discv5": {
			hostile: func(i int) node { return node{at: public(1000 + i)} },
			tell: func(w *world, n *node) {
				if n.hostile {
					w.tell(n, peers.Exchange, "liar")
				} else {
					w.tell(n, peers.Discv5, "")
				}
			},
			first: true,
		},
		"many networks, one teller of two": {
			hostile: func(i int) node { return node{at: public(1000 + i)} },
			tell: func(w *world, n *node) {
				w.tell(n, peers.Exchange, map[bool]string{true: "liar", false: "friend"}[n.hostile])
			},
			first: true,
		},
		"the liar tells of the honest as well": {
			hostile: func(i int) node { return node{at: public(1000 + i)} },
			tell: func(w *world, n *node) {
				w.tell(n, peers.Exchange, "liar")
				if !n.hostile {
					w.tell(n, peers.Exchange, "friend")
				}
			},
		},
		"many networks by discv5, beside a tree": {
			hostile: func(i int) node { return node{at: public(1000 + i)} },
			tell: func(w *world, n *node) {
				if n.hostile || n.n/6%2 == 0 {
					w.tell(n, peers.Discv5, "")
				} else {
					w.tell(n, peers.DNS, "tree")
				}
			},
			first: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(fewer(5)) {
				w := newWorld(t, config(seed))
				var needs []peers.Need
				for i := range uint16(6) {
					needs = append(needs, relays(i+1, 3, 8, 4))
				}
				w.m.Want(w.now, needs)
				bad := func() {
					for i := range hostile {
						n := c.hostile(i)
						n.n, n.alive, n.hostile, n.shards, n.services = 1000+i, true, true, everything, peers.Relay
						c.tell(w, w.add(n))
					}
				}
				good := func() {
					for i := range honest {
						c.tell(w, w.add(node{
							n: 1 + i, at: public(i), alive: true,
							shards: carries(uint16(i%6) + 1), services: peers.Relay,
						}))
					}
				}
				if c.first {
					bad()
					good()
				} else {
					good()
					bad()
				}
				w.run(5 * time.Minute)
				h, a := w.tally()
				for i := range uint16(6) {
					h, a := w.serving(i + 1)
					require.GreaterOrEqual(t, h, a, "shard %d, seed %d", i+1, seed)
					require.GreaterOrEqual(t, h, 4, "shard %d, seed %d", i+1, seed)
				}
				require.GreaterOrEqual(t, h, a, "seed %d: %d honest, %d hostile", seed, h, a)
				if testing.Verbose() {
					t.Logf("seed %d: %d honest, %d hostile, %d dials", seed, h, a, len(w.log))
				}
			}
		})
	}
}

// A node that was surrounded before a restart isn't for ever: trees get as many
// slots as what was saved.
func TestEclipseEnds(t *testing.T) {
	for seed := range uint64(fewer(5)) {
		w := newWorld(t, config(seed))
		w.m.Want(w.now, []peers.Need{relays(1, 4, 12, 12)})
		for n := 1; n <= 250; n++ {
			w.tell(w.add(node{n: n, at: public(n), alive: true, hostile: true, shards: carries(1), services: peers.Relay}), peers.Saved, "")
			w.m.Connected(w.now, id(n), public(n), false)
			w.m.Proven(w.now, id(n), carries(1), peers.Relay)
			w.now = w.now.Add(time.Minute)
			w.m.Lost(w.now, id(n))
		}
		for n := 301; n <= 350; n++ {
			w.tell(w.add(node{n: n, at: public(n), alive: true, shards: carries(1), services: peers.Relay}), peers.DNS, "")
		}
		w.run(time.Minute)
		h, a := w.tally()
		require.GreaterOrEqual(t, h, a)
	}
}

// Attackers came first and have all that was needed. When a tree tells of others,
// some of them are dialled all the same.
func TestTrustedAreAdded(t *testing.T) {
	w := newWorld(t, config(1))
	w.m.Want(w.now, []peers.Need{relays(1, 4, 8, 4)})
	for n := 1; n <= 100; n++ {
		w.tell(w.add(node{n: n, at: public(n), alive: true, hostile: true, shards: carries(1), services: peers.Relay}), peers.Discv5, "")
	}
	w.run(time.Minute)
	require.Empty(t, w.m.Plan(w.now).Missing)
	for n := 301; n <= 350; n++ {
		w.tell(w.add(node{n: n, at: public(n), alive: true, shards: carries(1), services: peers.Relay}), peers.DNS, "")
	}
	w.run(time.Minute)
	h, _ := w.tally()
	require.GreaterOrEqual(t, h, 2)
	require.Zero(t, w.m.Plan(w.now).Next)
}

// Peers that came by themselves are dialled only if nobody tells of others.
func TestInboundAreLastChoice(t *testing.T) {
	w := newWorld(t, config(1))
	w.m.Want(w.now, []peers.Need{relays(1, 1, 4, 4)})
	for n := 1; n <= 100; n++ {
		w.tell(w.add(node{n: n, at: public(n), alive: true, hostile: n > 4, shards: carries(1), services: peers.Relay}),
			map[bool]peers.Source{true: peers.Inbound, false: peers.Discv5}[n > 4], "")
	}
	w.run(time.Minute)
	h, a := w.tally()
	require.Equal(t, [2]int{4, 0}, [2]int{h, a})
}
