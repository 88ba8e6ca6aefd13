package peers

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxAddrs is how many addresses of a peer are kept, each of maxAddrBytes at
	// most, at maxHosts hosts, and maxTold how many are looked at.
	maxAddrs     = 8
	maxHosts     = 4
	maxAddrBytes = 256
	maxTold      = 32
)

// place is a host, or a network that hosts are in: an IP prefix or a DNS name. What
// is reached through a circuit lives where its relay is, apart from those who live
// there by themselves.
type place string

// addr is where a peer can be dialled. It doesn't change.
type addr struct {
	ma   ma.Multiaddr
	host place // IPv4 /32, IPv6 /64, or a name
	net  place // /24, /48, or a domain
	wide place // /16, /32, or a domain
	// local addresses say nothing about who is behind them: of a LAN, or of this
	// very machine. Limits per address don't apply to them.
	local bool
	// named addresses lead to whatever the name's owner says when they are dialled.
	named   bool
	circuit bool
}

// locate reads an address of a peer. The result is false if nobody can be dialled
// there.
func locate(a ma.Multiaddr, id peer.ID) (*addr, bool) {
	a, owner := peer.SplitAddr(a)
	x := &addr{ma: a}
	if len(a) == 0 || (owner != "" && owner != id) || len(a.Bytes()) > maxAddrBytes {
		return x, false
	}
	var ip netip.Addr
	var name string
	zone, port, behind := false, false, false
	for i, c := range a {
		switch c.Protocol().Code {
		case ma.P_IP6ZONE:
			zone = true
		case ma.P_IP4, ma.P_IP6:
			if ip.IsValid() || name != "" {
				return x, false
			}
			ip, _ = netip.AddrFromSlice(c.RawValue())
		case ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR:
			if ip.IsValid() || name != "" {
				return x, false
			}
			name = strings.ToLower(strings.TrimSuffix(c.Value(), "."))
			port = port || c.Protocol().Code == ma.P_DNSADDR
		case ma.P_TCP, ma.P_UDP:
			n, err := strconv.Atoi(c.Value())
			if err != nil || n == 0 {
				return x, false
			}
			port = true
		case ma.P_CIRCUIT:
			x.circuit = true
		case ma.P_P2P:
			behind = true // a relay's: what follows must say that it is one
		default:
			if i == 0 {
				return x, false // unix sockets, memory, onions
			}
		}
	}
	if !port || behind != x.circuit {
		return x, false
	}
	if name != "" {
		lit, err := netip.ParseAddr(name)
		if err != nil {
			x.named, x.local = true, isLocalName(name)
			x.set(name, domain(name), domain(name))
			return x, true
		}
		ip = lit // an IP address in disguise
	}
	ip = real(ip.WithZone(""))
	x.local = zone || within(ip, private)
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() ||
		!x.local && (within(ip, unusable) || ip.Is6() && !unicast.Contains(ip)) {
		return x, false
	}
	host, net, wide := 64, 48, 32
	if ip.Is4() {
		host, net, wide = 32, 24, 16
	}
	prefix := func(bits int) string { return netip.PrefixFrom(ip, bits).Masked().String() }
	x.set(prefix(host), prefix(net), prefix(wide))
	return x, true
}

func (x *addr) set(host, net, wide string) {
	if x.circuit {
		host, net, wide = host+" circuit", net+" circuit", wide+" circuit"
	}
	x.host, x.net, x.wide = place(host), place(net), place(wide)
}

// real is the IPv4 address inside of an IPv6 one, if that's what it stands for.
func real(ip netip.Addr) netip.Addr {
	ip = ip.Unmap()
	if !ip.Is6() {
		return ip
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	unicast   = netip.MustParsePrefix("2000::/3") // all that has been given out

	// private are networks that mean something else to everybody.
	private = prefixes("127.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16",
		"169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "64:ff9b:1::/48")
	// unusable are networks where nobody is.
	unusable = prefixes("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "2001::/32", "2001:db8::/32",
		"3fff::/20")
	localDomains = []string{"localhost", "local", "internal", "lan", "home", "corp", "arpa", "test", "invalid", "example", "onion"}
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func within(ip netip.Addr, in []netip.Prefix) bool {
	return slices.ContainsFunc(in, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// isLocalName tells names that the Internet's DNS doesn't know.
func isLocalName(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	return dot < 0 || slices.Contains(localDomains, name[dot+1:])
}

// domain is a name's last two labels: whoever has those can make up all others.
func domain(name string) string {
	if last := strings.LastIndexByte(name, '.'); last >= 0 {
		if dot := strings.LastIndexByte(name[:last], '.'); dot >= 0 {
			return name[dot+1:]
		}
	}
	return name
}
