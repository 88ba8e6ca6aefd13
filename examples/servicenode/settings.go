package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
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
	cluster       uint16
	shards        []uint16
	listen        []string
	wsListen      string
	nodeKeyFile   string
	protected     map[uint16][]*dosguard.PublicKey
	connect       []string
	maxConns      int
	maxConnsPerIP int
	meshDegree    int
	metrics       string
	discovery     discoverySettings
	store         storeSettings
	services      serviceSettings
	logLevel      slog.Level
}

func (s *settings) network() waku.Network {
	network := s.discovery.preset
	if s.discovery.isOwn() {
		network.Name, network.Cluster = fmt.Sprintf("cluster %d", s.cluster), s.cluster
	}
	return network
}

func (s *settings) listenAddrs() []string {
	if s.wsListen == "" {
		return s.listen
	}
	return append(slices.Clone(s.listen), s.wsListen)
}

const minMeshDegree = 6

// flags declares the flags. What depends on two of them is judged in parse.
func flags(s *settings) *flag.FlagSet {
	*s = settings{
		cluster:       sharding.StatusCluster,
		shards:        []uint16{32, 64, 128},
		listen:        []string{"/ip4/127.0.0.1/tcp/0"},
		wsListen:      "/ip4/127.0.0.1/tcp/0/ws",
		protected:     map[uint16][]*dosguard.PublicKey{},
		maxConns:      300,
		maxConnsPerIP: 30,
		store:         storeSettings{retention: 30 * 24 * time.Hour},
	}
	f := flag.NewFlagSet("servicenode", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("cluster", "`number` of the network (default 16, Status)", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return errors.New("a cluster is a number from 0 to 65535")
		}
		s.cluster = uint16(n)
		return nil
	})
	f.Func("shards", "`list` of shards to carry (default 32,64,128)", func(text string) error {
		s.shards = nil
		for _, one := range strings.Split(text, ",") {
			index, err := shardIndex(strings.TrimSpace(one))
			if err != nil {
				return err
			}
			if slices.Contains(s.shards, index) {
				return fmt.Errorf("shard %d is listed twice", index)
			}
			s.shards = append(s.shards, index)
		}
		return nil
	})
	listened := false
	f.Func("listen", "TCP or QUIC `multiaddr` to listen on, may be repeated; \"\" for none\n(default /ip4/127.0.0.1/tcp/0; for others to reach it: /ip4/0.0.0.0/tcp/30303)", func(text string) error {
		if !listened {
			s.listen, listened = nil, true
		}
		if text == "" {
			return nil
		}
		if err := listenAddr(text, false); err != nil {
			return err
		}
		s.listen = append(s.listen, text)
		return nil
	})
	f.Func("ws-listen", "WebSocket `multiaddr` to listen on; \"\" for none (default /ip4/127.0.0.1/tcp/0/ws)", func(text string) error {
		if text != "" {
			if err := listenAddr(text, true); err != nil {
				return err
			}
		}
		s.wsListen = text
		return nil
	})
	f.StringVar(&s.nodeKeyFile, "nodekey-file", "", "`file` with the node's identity, 32 bytes in hex; made if absent\n(default: a new identity at every start)")
	f.Func("protected-shard", "`SHARD=HEXPUBLICKEY`: on this shard relay only what the key has signed; may be\nrepeated, for one shard too while its key is being changed", func(text string) error {
		number, hex, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("write SHARD=HEXPUBLICKEY, such as 128=02ab…")
		}
		index, err := shardIndex(number)
		if err != nil {
			return err
		}
		key, err := dosguard.ParsePublicKey(hex)
		if err != nil {
			return fmt.Errorf("not a public key (33 or 65 bytes in hex): %w", err)
		}
		s.protected[index] = append(s.protected[index], key)
		return nil
	})
	f.Func("connect", "`multiaddr` of a peer to stay connected with, ending in /p2p/<peer id>; may be\nrepeated", func(text string) error {
		if _, err := peer.AddrInfoFromString(text); err != nil {
			return fmt.Errorf("not a peer's address, such as /ip4/203.0.113.7/tcp/30303/p2p/16Uiu2…: %w", err)
		}
		s.connect = append(s.connect, text)
		return nil
	})
	f.Func("max-conns", "`number` of connections; two thirds of them may be such that others dialled, light\nmembers for instance (default 300)", func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1_000_000 {
			return errors.New("want a number from 1 to 1000000")
		}
		s.maxConns = n
		return nil
	})
	f.Func("max-conns-per-ip", "`number` of connections from one IP address (default 30)", func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return errors.New("want a number of 1 or more")
		}
		s.maxConnsPerIP = n
		return nil
	})
	f.Func("mesh-degree", "`number` of mesh peers per shard, for a fleet: 24, say (default: what members have)", func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < minMeshDegree || n > 1000 {
			return fmt.Errorf("want a number from %d to 1000", minMeshDegree)
		}
		s.meshDegree = n
		return nil
	})
	f.Func("metrics", "`host:port` to serve Prometheus metrics on, at /metrics (default: none)", func(text string) error {
		if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
			return errors.New("want host:port, such as 127.0.0.1:9090; port 0 takes a free one")
		}
		s.metrics = text
		return nil
	})
	// A string, for the flag package repeats the values that a Func refuses.
	f.String("store", "", "`where` to keep messages for members who were away: sqlite:PATH, or\npostgres://user@host/database, which several nodes may share (default: nowhere)")
	f.Func("retention", "how long the store keeps messages: a `number` with m, h, d or w, or forever\n(default 30d)", func(text string) (err error) {
		s.store.retention, err = parseAge(text)
		return err
	})
	f.Func("store-size", "how many `bytes` of messages the store keeps, the newest: 500MB, 50GB or 1TB, say;\nthe room on the disk is larger (default: no limit)", func(text string) (err error) {
		s.store.size, err = parseBytes(text)
		return err
	})
	f.StringVar(&s.store.spool, "store-spool", "", "`directory` of this node's own, where messages wait while PostgreSQL is away\n(default: the name of --nodekey-file with .spool, or servicenode.spool)")
	s.services.flags(f)
	s.discovery.flags(f)
	f.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return f
}

func parse(args []string) (*settings, error) {
	var s settings
	f := flags(&s)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, wrong("%s (servicenode --help lists the flags)", strings.Replace(err.Error(), "for flag -", "for --", 1))
	}
	if f.NArg() > 0 {
		return nil, wrong("unexpected argument %q: settings are flags (servicenode --help lists them)", f.Arg(0))
	}
	if err := parseStore(f, &s.store); err != nil {
		return nil, err
	}
	if err := s.services.check(); err != nil {
		return nil, err
	}
	clusterGiven := false
	f.Visit(func(one *flag.Flag) { clusterGiven = clusterGiven || one.Name == "cluster" })
	if err := s.discovery.check(clusterGiven); err != nil {
		return nil, err
	}
	if !clusterGiven {
		s.cluster = s.discovery.preset.Cluster
	}
	for index := range s.protected {
		if !slices.Contains(s.shards, index) {
			return nil, wrong("--protected-shard %d: this node doesn't carry shard %d; add it to --shards", index, index)
		}
	}
	if len(s.listenAddrs()) == 0 && len(s.connect) == 0 && !s.discovery.looks() {
		return nil, wrong("with neither --listen, --ws-listen nor --connect this node would meet nobody: give one of them")
	}
	return &s, nil
}

// parseStore judges the flags about the archive together.
func parseStore(f *flag.FlagSet, s *storeSettings) (err error) {
	f.Visit(func(one *flag.Flag) {
		if one.Name == "store" {
			err = s.parseStore(one.Value.String())
		}
	})
	f.Visit(func(one *flag.Flag) {
		switch name := one.Name; {
		case err != nil:
		case s.kind == "" && (name == "retention" || strings.HasPrefix(name, "store-")):
			err = wrong("--%s: there is no store: name one with --store", name)
		case name == "store-spool" && s.kind != "postgres":
			err = wrong("--store-spool: only PostgreSQL has a spool")
		case name == "store-spool" && s.spool == "":
			err = wrong("--store-spool: the directory is missing")
		}
	})
	return err
}

func shardIndex(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n > sharding.MaxIndex {
		return 0, fmt.Errorf("%q is not a shard: a shard is a number from 0 to %d", text, sharding.MaxIndex)
	}
	return uint16(n), nil
}

func listenAddr(text string, ws bool) error {
	addr, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return fmt.Errorf("not a multiaddr, such as /ip4/127.0.0.1/tcp/0: %w", err)
	}
	has := func(code int) bool { _, err := addr.ValueForProtocol(code); return err == nil }
	switch {
	case has(multiaddr.P_P2P):
		return errors.New("leave out /p2p/…: the peer id follows from --nodekey-file")
	case ws && !(has(multiaddr.P_TCP) && has(multiaddr.P_WS)):
		return errors.New("want a WebSocket address, such as /ip4/127.0.0.1/tcp/0/ws")
	case !ws && has(multiaddr.P_WS):
		return errors.New("WebSocket addresses go to --ws-listen")
	case !ws && !has(multiaddr.P_TCP) && !has(multiaddr.P_QUIC_V1):
		return errors.New("want a TCP or QUIC address, such as /ip4/127.0.0.1/tcp/0 or /ip4/127.0.0.1/udp/0/quic-v1")
	}
	return nil
}

func usage(w io.Writer) {
	var s settings
	f := flags(&s)
	fmt.Fprintln(w, "servicenode carries shards for a community and relays only what belongs there.")
	fmt.Fprintln(w)
	f.VisitAll(func(one *flag.Flag) {
		name, text := flag.UnquoteUsage(one)
		fmt.Fprintf(w, "  --%s %s\n        %s\n", one.Name, name, strings.ReplaceAll(text, "\n", "\n        "))
	})
}
