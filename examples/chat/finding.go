package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/status-im/shoal/waku"
)

// finding says which network the chat is in, and how members and nodes are found there
// that nobody has named.
type finding struct {
	network   waku.Network
	bootnodes []string
	trees     []string
	resolvers []waku.Resolver
}

// own is a network of one's own on the internet: nobody is known to begin with, and
// addresses of a LAN mean nothing.
var own = waku.Network{Name: "own", Version: 1, Cluster: waku.Local.Cluster, MaxMessageSize: waku.Local.MaxMessageSize}

// networks are what --network may say.
var networks = []waku.Network{waku.Local, waku.Status, waku.StatusStaging, own}

func (s *finding) flags(f *flag.FlagSet) {
	f.Func("network", "`name` of a network whose nodes to find: status or status-staging; or of one of your own,\nwhere nobody is known: own, on the internet, or local, on a LAN (default local)", func(text string) error {
		i := slices.IndexFunc(networks, func(n waku.Network) bool { return n.Name == text })
		if i < 0 {
			return errors.New("want local, own, status or status-staging")
		}
		s.network = networks[i]
		return nil
	})
	f.Func("bootnode", "`record` of a node to begin with, enr:…; may be repeated", func(text string) error {
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
	f.Func("resolver", "`address` of a DNS server to ask for lists, such as 1.1.1.1; with several, one stands in\nfor another (default: the system's)", func(text string) error {
		r, err := waku.ResolverAt(text)
		if err != nil {
			return errors.New("want the address of a DNS server, such as 1.1.1.1 or [::1]:5353")
		}
		s.resolvers = append(s.resolvers, r)
		return nil
	})
}

// looks tells whether there is anybody to begin with.
func (s *finding) looks() bool {
	return len(s.bootnodes)+len(s.trees)+len(s.network.Bootnodes)+len(s.network.DNSTrees) > 0
}

// settle judges the flags together with the others, and adapts those to the network.
func (s *finding) settle(all *settings) error {
	switch {
	case s.network.Name == waku.Local.Name, s.network.Name == own.Name:
		s.network.Cluster = all.shard.Cluster
	case s.network.Cluster != all.shard.Cluster:
		return wrong("--shard %s isn't one of network %s", all.shard, s.network)
	}
	if len(s.resolvers) > 0 && len(s.trees)+len(s.network.DNSTrees) == 0 {
		return wrong("--resolver: there is no list to ask for: name one with --dns-tree")
	}
	switch {
	case all.listenGiven || s.network.Private:
	case all.light: // nobody needs to reach it
		all.listen = nil
	default:
		all.listen = []string{"/ip4/0.0.0.0/tcp/0"}
	}
	return nil
}

func (s *finding) options() []waku.Option {
	options := []waku.Option{
		waku.WithNetwork(s.network), waku.WithBootnodes(s.bootnodes...), waku.WithDNSTrees(s.trees...),
	}
	if len(s.resolvers) > 0 {
		options = append(options, waku.WithResolvers(s.resolvers...))
	}
	return options
}

// inFlags says what is wrong with an option in the words of whoever typed the flags.
func inFlags(err error) error {
	var option *waku.OptionError
	if !errors.As(err, &option) || len(option.Options) == 0 {
		return err
	}
	names := map[string]string{"WithBootnodes": "--bootnode", "WithDNSTrees": "--dns-tree"}
	if name, ok := names[option.Options[0]]; ok {
		return &usageError{fmt.Sprintf("%s: %v", name, option.Err)}
	}
	return err
}
