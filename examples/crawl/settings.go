package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/status-im/shoal/waku"
)

// errUsage marks errors of whoever typed the command.
var errUsage = errors.New("usage")

type usageError struct{ text string }

func (e *usageError) Error() string        { return e.text }
func (e *usageError) Is(target error) bool { return target == errUsage }

func wrong(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// settings are the flags.
type settings struct {
	network   waku.Network
	cluster   *uint16 // nil: the network's
	bootnodes []string
	trees     []string
	resolvers []waku.Resolver
	udpPort   uint16
	lasts     time.Duration
	html      string
}

// networks are what --network may say.
var networks = []waku.Network{waku.Local, waku.Status, waku.StatusStaging}

// longest bounds a walk: it is no monitor.
const longest = time.Hour

func flags(s *settings) *flag.FlagSet {
	*s = settings{network: waku.Local, lasts: 30 * time.Second}
	f := flag.NewFlagSet("crawl", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("network", "`name` of the network: status, status-staging, or local, which needs --bootnode or\n--dns-tree (default local)", func(text string) error {
		i := slices.IndexFunc(networks, func(n waku.Network) bool { return n.Name == text })
		if i < 0 {
			return errors.New("want local, status or status-staging")
		}
		s.network = networks[i]
		return nil
	})
	f.Func("cluster", "`number` of a network that isn't known by name (default 16, Status)", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return errors.New("a cluster is a number from 0 to 65535")
		}
		s.cluster = new(uint16(n))
		return nil
	})
	f.Func("bootnode", "`record` of a node to begin with, enr:…; may be repeated", func(text string) error {
		if !strings.HasPrefix(text, "enr:") {
			return errors.New("want a node's record, enr:…")
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
	f.Func("udp-port", "`number` of the UDP port to ask others from (default: any)", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return errors.New("want a number from 0 to 65535")
		}
		s.udpPort = uint16(n)
		return nil
	})
	f.Func("for", "how long to look for nodes: a `time` such as 30s or 10m (default 30s)", func(text string) (err error) {
		if s.lasts, err = time.ParseDuration(text); err != nil || s.lasts < time.Second || s.lasts > longest {
			return fmt.Errorf("want a time from 1s to %v", longest)
		}
		return nil
	})
	f.StringVar(&s.html, "html", "", "`file` for a page with the picture; it is replaced")
	return f
}

func parse(args []string) (*settings, error) {
	var s settings
	f := flags(&s)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, wrong("%s (crawl --help lists the flags)", strings.Replace(err.Error(), "for flag -", "for --", 1))
	case f.NArg() > 0:
		return nil, wrong("unexpected argument %q: settings are flags (crawl --help lists them)", f.Arg(0))
	case s.cluster != nil && s.network.Name != waku.Local.Name:
		return nil, wrong("--network %s and --cluster contradict each other: that network is cluster %d; leave one out", s.network.Name, s.network.Cluster)
	case len(s.bootnodes)+len(s.trees)+len(s.network.Bootnodes)+len(s.network.DNSTrees) == 0:
		return nil, wrong("nobody to begin with: name a node with --bootnode, a list with --dns-tree, or a network with --network")
	case len(s.resolvers) > 0 && len(s.trees)+len(s.network.DNSTrees) == 0:
		return nil, wrong("--resolver: there is no list to ask for: name one with --dns-tree")
	}
	if s.cluster != nil {
		s.network.Name, s.network.Cluster = fmt.Sprintf("cluster %d", *s.cluster), *s.cluster
	}
	if s.html != "" { // better now than after the walk
		if info, err := os.Stat(s.html); err == nil && info.IsDir() {
			return nil, wrong("--html: %s is a directory: name a file in it", s.html)
		}
		if info, err := os.Stat(filepath.Dir(s.html)); err != nil || !info.IsDir() {
			return nil, wrong("--html %s: the directory doesn't exist; make it first", s.html)
		}
	}
	return &s, nil
}

// options make a node that asks others and is of no use to them.
func (s *settings) options() []waku.Option {
	options := []waku.Option{
		waku.WithNetwork(s.network),
		waku.WithListenAddrs(), // it calls, nobody calls it
		waku.WithDiscv5(fmt.Sprintf("0.0.0.0:%d", s.udpPort)),
		waku.WithBootnodes(s.bootnodes...),
		waku.WithDNSTrees(s.trees...),
		waku.WithUserAgent("shoal-crawl"),
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
	names := map[string]string{"WithBootnodes": "--bootnode", "WithDNSTrees": "--dns-tree", "WithDiscv5": "--udp-port"}
	if name, ok := names[option.Options[0]]; ok {
		return &usageError{fmt.Sprintf("%s: %v", name, option.Err)}
	}
	return err
}

func usage(w io.Writer) {
	var s settings
	fmt.Fprintln(w, "crawl walks a network and draws what it finds.")
	fmt.Fprintln(w)
	flags(&s).VisitAll(func(one *flag.Flag) {
		name, text := flag.UnquoteUsage(one)
		fmt.Fprintf(w, "  --%s %s\n        %s\n", one.Name, name, strings.ReplaceAll(text, "\n", "\n        "))
	})
}
