package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/waku"
)

// discoverySettings say which network the node is in, how it finds others there and
// how they find it.
type discoverySettings struct {
	preset    waku.Network
	discv5    bool
	udpPort   *uint16 // nil: as usual
	bootnodes []string
	trees     []string
	resolvers []waku.Resolver
	external  []string // IP addresses
	state     string   // a directory; empty: nothing is kept
}

// own is a network of one's own on the internet: nobody is known to begin with, and
// addresses of a LAN mean nothing.
var own = waku.Network{Name: "own", Version: 1, Cluster: waku.Local.Cluster, MaxMessageSize: waku.Local.MaxMessageSize}

// presets are what --network may say.
var presets = []waku.Network{waku.Local, waku.Status, waku.StatusStaging, own}

// defaultUDPPort is where nodes that others begin with listen.
const defaultUDPPort = 9000

func (s *discoverySettings) flags(f *flag.FlagSet) {
	s.preset = waku.Local
	f.Func("network", "`name` of a network whose nodes to find: status or status-staging; or of one of your own,\nwhere nobody is known: own, on the internet, or local, on a LAN (default local)", func(text string) error {
		i := slices.IndexFunc(presets, func(n waku.Network) bool { return n.Name == text })
		if i < 0 {
			return errors.New("want local, own, status or status-staging")
		}
		s.preset = presets[i]
		return nil
	})
	f.BoolVar(&s.discv5, "discv5", false, "be found by discv5, and find others, even if there is no --bootnode to begin with")
	f.Func("udp-port", "`number` of discv5's port, on the first address of --listen; 0 for any (default 9000\nwith --discv5, unless that address is loopback; else any)", func(text string) error {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return errors.New("want a number from 0 to 65535")
		}
		s.udpPort = new(uint16(port))
		return nil
	})
	f.Func("bootnode", "`record` of a node to begin with, enr:…, as the line of its own start says; may be\nrepeated", func(text string) error {
		if !strings.HasPrefix(text, "enr:") {
			return errors.New("want a node's record, enr:…; addresses go to --connect")
		}
		s.bootnodes = append(s.bootnodes, text)
		return nil
	})
	f.Func("dns-tree", "`URL` of a list of nodes in DNS, enrtree://KEY@NAME; may be repeated", func(text string) error {
		if !strings.HasPrefix(text, "enrtree://") {
			return errors.New("want the URL of a list in DNS, enrtree://KEY@NAME")
		}
		s.trees = append(s.trees, text)
		return nil
	})
	f.Func("resolver", "`address` of a DNS server to ask for lists, such as 1.1.1.1 or [::1]:5353; with several,\none stands in for another (default: the system's)", func(text string) error {
		r, err := waku.ResolverAt(text)
		if err != nil {
			return errors.New("want the address of a DNS server, such as 1.1.1.1 or [::1]:5353")
		}
		s.resolvers = append(s.resolvers, r)
		return nil
	})
	f.Func("external-ip", "`address` by which others reach this node, where its machine doesn't have that itself, as in\na container; with the ports listened on. May be repeated, for IPv4 and IPv6", func(text string) error {
		if _, err := netip.ParseAddr(text); err != nil {
			return errors.New("want an IP address, such as 203.0.113.7")
		}
		s.external = append(s.external, text)
		return nil
	})
	// A Func, to tell an empty name from none.
	f.Func("state", "`directory` of this node's own, for what a restart should know: good peers, lists, the\nnumber of its record (default: nothing is kept)", func(text string) error {
		if text == "" {
			return errors.New("the directory is missing")
		}
		s.state = text
		return nil
	})
}

// isOwn tells whether the network is the operator's own, and its number his to choose.
func (s *discoverySettings) isOwn() bool {
	return s.preset.Name == waku.Local.Name || s.preset.Name == own.Name
}

// looks tells whether there is anybody to begin with.
func (s *discoverySettings) looks() bool {
	return len(s.bootnodes)+len(s.trees)+len(s.preset.Bootnodes)+len(s.preset.DNSTrees) > 0
}

// check judges the flags together; clusterGiven is whether --cluster is among them.
func (s *discoverySettings) check(clusterGiven bool) error {
	switch {
	case clusterGiven && !s.isOwn():
		return wrong("--network %s and --cluster contradict each other: that network is cluster %d; leave one out", s.preset.Name, s.preset.Cluster)
	case s.udpPort != nil && !s.discv5 && !s.looks():
		return wrong("--udp-port: discv5 doesn't run: begin it with --discv5, or name somebody to begin with")
	case len(s.resolvers) > 0 && len(s.trees)+len(s.preset.DNSTrees) == 0:
		return wrong("--resolver: there is no list to ask for: name one with --dns-tree")
	}
	return nil
}

// options say how to find others; listen are the addresses listened on, the first
// counts.
func (s *discoverySettings) options(listen []string) ([]waku.Option, error) {
	var options []waku.Option
	if s.discv5 || s.looks() {
		options = append(options, waku.WithDiscv5(s.udpAddr(listen).String()))
	}
	options = append(options, waku.WithBootnodes(s.bootnodes...), waku.WithDNSTrees(s.trees...))
	if len(s.external) > 0 {
		options = append(options, waku.WithExternalIP(s.external...))
	}
	if len(s.resolvers) > 0 {
		options = append(options, waku.WithResolvers(s.resolvers...))
	}
	if s.state != "" {
		if err := os.MkdirAll(s.state, 0o700); err != nil {
			return nil, wrong("--state: %v", err)
		}
		options = append(options, waku.WithStateStore(waku.StateDir(s.state)))
	}
	return options, nil
}

// udpAddr is where discv5 listens: beside the first address that TCP listens on. On a
// public network loopback would reach nobody.
func (s *discoverySettings) udpAddr(listen []string) netip.AddrPort {
	ip := firstIP(listen)
	var port uint16
	switch {
	case s.udpPort != nil:
		port = *s.udpPort
	case s.discv5 && ip.IsValid() && !ip.IsLoopback():
		port = defaultUDPPort
	}
	switch {
	case ip.IsValid() && (!ip.IsLoopback() || s.preset.Private):
	case s.preset.Private:
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip, port)
}

// firstIP is the first IP address of multiaddrs, of TCP ones if there is any.
func firstIP(listen []string) (first netip.Addr) {
	for _, text := range listen {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			continue
		}
		var ip netip.Addr
		tcp := false
		multiaddr.ForEach(addr, func(c multiaddr.Component) bool {
			switch c.Protocol().Code {
			case multiaddr.P_IP4, multiaddr.P_IP6:
				ip, _ = netip.ParseAddr(c.Value())
			case multiaddr.P_TCP:
				tcp = true
			}
			return true
		})
		if ip.IsValid() && (tcp || !first.IsValid()) {
			first = ip
			if tcp {
				break
			}
		}
	}
	return first
}

// flagOf names the flag that an option comes from.
var flagOf = map[string]string{
	"WithBootnodes": "--bootnode", "WithDNSTrees": "--dns-tree", "WithDiscv5": "--udp-port", "WithStateStore": "--state", "WithExternalIP": "--external-ip",
}

// inFlags says what is wrong with an option in the words of whoever typed the flags.
func inFlags(err error) error {
	var option *waku.OptionError
	if !errors.As(err, &option) || len(option.Options) == 0 {
		return err
	}
	if name, ok := flagOf[option.Options[0]]; ok {
		return &usageError{fmt.Sprintf("%s: %v", name, option.Err)}
	}
	return err
}
