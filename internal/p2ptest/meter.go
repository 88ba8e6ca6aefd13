package p2ptest

import (
	"net/netip"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/host"
)

// Traffic is what a host's wires have carried: bytes as written, to it (In) and by
// it (Out), taken or not, and connections made either way.
type Traffic struct{ In, Out, Conns uint64 }

type meter struct{ in, out, conns atomic.Uint64 }

// meter returns the one of an address; n.mu is held.
func (n *Network) meter(ip netip.Addr) *meter {
	m := n.meters[ip]
	if m == nil {
		m = new(meter)
		n.meters[ip] = m
	}
	return m
}

// Traffic counts from the network's start. Hosts that share an address share it.
func (n *Network) Traffic(h host.Host) Traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.meter(hostIP(h))
	return Traffic{In: m.in.Load(), Out: m.out.Load(), Conns: m.conns.Load()}
}
