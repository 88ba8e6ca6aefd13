//go:build nat && linux

package natlab

import (
	"fmt"
	"testing"
)

// lab is an internet of its own: one segment, on which everybody is a neighbour.
type lab struct {
	backbone *space
	plugs    int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{backbone: newSpace(t, "internet")}
	l.backbone.ip(t, "link add seg type bridge", "link set seg up")
	return l
}

// plug gives a namespace an interface on the internet.
func (l *lab) plug(t *testing.T, s *space, addrs ...string) {
	t.Helper()
	l.plugs++
	l.backbone.ip(t,
		fmt.Sprintf("link add p%d type veth peer name wan netns %s", l.plugs, s.path()),
		fmt.Sprintf("link set p%d master seg up", l.plugs))
	for _, addr := range addrs {
		s.ip(t, fmt.Sprintf("addr add %s/8 dev wan", addr))
	}
	s.ip(t, "link set wan up")
	s.ready(t, "wan")
	l.backbone.ready(t, fmt.Sprintf("p%d", l.plugs))
}

// server is a machine with public addresses.
func (l *lab) server(t *testing.T, name string, addrs ...string) *space {
	t.Helper()
	s := newSpace(t, name)
	l.plug(t, s, addrs...)
	return s
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
	l.plug(t, h.router, public)
	gate := gateway(inside)
	h.router.ip(t,
		"link add lan type veth peer name eth0 netns "+h.machine.path(),
		"addr add "+gate+"/24 dev lan", "link set lan up")
	h.machine.ip(t, "addr add "+inside+"/24 dev eth0", "link set eth0 up", "route add default via "+gate)
	h.router.ready(t, "lan")
	h.machine.ready(t, "eth0")
	h.router.run(t, ruleset(k, inside), "nft", "-f", "-")
	h.router.set(t, "ipv4/ip_forward", "1")
	h.dump(t)
	return h
}
