//go:build nat && linux

package natlab

import (
	"testing"

	"github.com/status-im/shoal/internal/netspace"
)

// lab is an internet of its own: one segment, on which everybody is a neighbour.
type lab struct{ segment *netspace.Segment }

func newLab(t *testing.T) *lab {
	t.Helper()
	return &lab{netspace.NewSegment(t, 8)}
}

// server is a machine with public addresses.
func (l *lab) server(t *testing.T, name string, addrs ...string) *space {
	t.Helper()
	return &space{l.segment.Machine(t, name, addrs...)}
}

// kind is what a home's router does.
type kind string

// The kinds of the matrix, in the words of RFC 3489.
const (
	// open: there is no router, the machine has a public address.
	open kind = "open"
	// fullCone: a port that has been used is open to everybody.
	fullCone kind = "full cone"
	// portRestricted: whom the machine has sent something from a port may answer to
	// it. The port outside is the one inside: what Linux does, and most homes have.
	portRestricted kind = "port-restricted"
	// symmetric: as portRestricted, but each destination sees a port of its own, at
	// random.
	symmetric kind = "symmetric"
)

var kinds = []kind{open, fullCone, portRestricted, symmetric}

// home is a machine, mostly behind a router.
type home struct {
	kind    kind
	machine *space
	router  *space // nil: the machine has a public address
	public  string
	inside  string
}

// home builds a home with a public address. The machine's own is inside, the router
// has the same with .1.
func (l *lab) home(t *testing.T, name string, k kind, public, inside string) *home {
	t.Helper()
	if k == open {
		return &home{kind: k, machine: l.server(t, name, public), public: public, inside: public}
	}
	h := &home{
		kind: k, machine: newSpace(t, name), router: newSpace(t, name+"'s router"),
		public: public, inside: inside,
	}
	l.segment.Plug(t, h.router.Space, public)
	gate := gateway(inside)
	h.router.IP(t,
		"link add lan type veth peer name eth0 netns "+h.machine.Path(),
		"addr add "+gate+"/24 dev lan", "link set lan up")
	h.machine.IP(t, "addr add "+inside+"/24 dev eth0", "link set eth0 up", "route add default via "+gate)
	h.router.Ready(t, "lan")
	h.machine.Ready(t, "eth0")
	h.router.Run(t, ruleset(k, inside), "nft", "-f", "-")
	h.router.Set(t, "ipv4/ip_forward", "1")
	h.dump(t)
	return h
}
