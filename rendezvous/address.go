package rendezvous

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
)

// v6Bits is how much of an IPv6 address tells homes apart.
const v6Bits = 56

// addressOf is where a peer is connected from, as far as addresses are counted: an
// IPv4 address or an IPv6 /56, for one that comes over a circuit its relay's. Empty:
// it isn't known.
func addressOf(h host.Host, p peer.ID) (key string) {
	for _, c := range h.Network().ConnsToPeer(p) {
		ip, err := manet.ToIP(c.RemoteMultiaddr())
		if err != nil {
			continue
		}
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			continue
		}
		key = addressKey(a)
		if !c.Stat().Limited {
			break
		}
	}
	return key
}

func addressKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if prefix, err := a.Prefix(v6Bits); err == nil {
			a = prefix.Addr()
		}
	}
	return string(a.AsSlice())
}
