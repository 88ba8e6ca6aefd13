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
				require.GreaterOrEqual(t, h, a, "seed %d: %d honest, %d hostile", seed, h, a)
				if len(t.Name()) > 0 && testing.Verbose() {
					t.Logf("seed %d: %d honest, %d hostile, %d dials", seed, h, a, len(w.log))
				}
			}
		})
	}
}
