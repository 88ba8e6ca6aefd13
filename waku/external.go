package waku

import (
	"errors"
	"net/netip"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// checkExternal reads the addresses that lead to the node from outside.
func (c *config) checkExternal() error {
	const option = "WithExternalIP"
	for _, other := range []string{"WithNAT", "WithPortMapping"} {
		if c.given[option] > 0 && c.given[other] > 0 {
			return optionErr(errors.New("who says where the node is needn't find out: use one of the two"), option, other)
		}
	}
	for _, text := range c.externalTexts {
		ip, err := netip.ParseAddr(text)
		ip = ip.Unmap()
		switch {
		case err != nil, ip.Zone() != "", ip.IsUnspecified(), ip.IsMulticast():
			return optionErrf(option, "%q: want an IP address, such as 203.0.113.7", text)
		case !c.network.Private && reach(ip) < publicReach:
			return optionErrf(option, "%s: strangers can't dial that: name the address by which the internet knows this node", ip)
		case c.externalOf(ip).IsValid():
			return optionErrf(option, "%s and %s: one of each kind can be named", c.externalOf(ip), ip)
		}
		c.external = append(c.external, ip)
	}
	return nil
}

// externalOf is the external address of the same kind, if one is known.
func (c *config) externalOf(ip netip.Addr) (external netip.Addr) {
	if i := slices.IndexFunc(c.external, func(x netip.Addr) bool { return x.Is4() == ip.Is4() }); i >= 0 {
		return c.external[i]
	}
	return external
}

// outside is where addresses are dialled from outside: at the ports of the node's own,
// which nobody is told of.
func (c *config) outside(addrs []ma.Multiaddr) (out []ma.Multiaddr) {
	for _, a := range addrs {
		if at, err := manet.ToIP(a); err == nil {
			ip, _ := netip.AddrFromSlice(at)
			if external := c.externalOf(ip.Unmap()); external.IsValid() {
				head, err := manet.FromIP(external.AsSlice())
				if err != nil {
					continue
				}
				a = head.Encapsulate(a[1:])
			}
		}
		if !slices.ContainsFunc(out, a.Equal) {
			out = append(out, a)
		}
	}
	return out
}

// recordIP is the address that the node's record has whatever others see, if there is
// one: the external one, or that which discv5 listens on.
func (c *config) recordIP() (ip netip.Addr) {
	if len(c.external) > 0 {
		return c.external[0]
	}
	if ip = c.discv5.Addr().Unmap(); reach(ip) == 0 || !c.network.Private && reach(ip) < publicReach {
		return netip.Addr{}
	}
	return ip
}
