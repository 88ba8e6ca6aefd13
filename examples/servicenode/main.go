// Servicenode is the node that an operator runs for others: it carries shards,
// lets only signed messages through on the protected ones, and needs no other
// service.
//
//	servicenode --shards 32,64,128 --protected-shard 128=HEXPUBLICKEY --nodekey-file node.key
//
// With --store it also keeps what it relays, for members who were away; with
// --filter and --lightpush it serves members who don't relay. With --bootnode,
// --dns-tree or --network it finds others of its network; with --discv5 and
// --peer-exchange others find theirs by it.
//
// When it is ready it prints one JSON line on stdout; logs go to stderr. SIGTERM
// or Ctrl+C end it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	var wrong *waku.OptionError
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		usage(os.Stdout)
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)): // told to end while starting
	case errors.Is(err, errUsage), errors.As(err, &wrong):
		fmt.Fprintln(os.Stderr, "servicenode:", discreet(err.Error()))
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "servicenode:", discreet(err.Error()))
		os.Exit(1)
	}
}

// ready is the line on stdout.
type ready struct {
	Event     string   `json:"event"`
	PeerID    string   `json:"peer_id"`
	Addresses []string `json:"addresses"`
	ENR       string   `json:"enr"`
	Cluster   uint16   `json:"cluster"`
	Shards    []uint16 `json:"shards"`
	Store     string   `json:"store,omitempty"`
	Services  []string `json:"services,omitempty"`
	Metrics   string   `json:"metrics,omitempty"`
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: s.logLevel, ReplaceAttr: discreetAttr}))
	if s.logLevel <= slog.LevelDebug {
		gologshim.SetDefaultHandler(log.Handler()) // libp2p's own log
	} else {
		gologshim.SetDefaultHandler(slog.DiscardHandler)
	}
	options, err := s.options(log)
	if err != nil {
		return err
	}
	var scrape *metricsServer
	if s.metrics != "" {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		if scrape, err = serveMetrics(s.metrics, registry, log); err != nil {
			return err
		}
		defer scrape.Close()
		options = append(options, waku.WithMetrics(registry))
	}
	archive, err := s.store.open(ctx, s.nodeKeyFile, log)
	if err != nil {
		return err
	}
	if archive != nil {
		defer func() { err = errors.Join(err, closeArchive(archive, log)) }() // after the node
		options = append(options, waku.WithArchive(archive))
	}

	node, err := waku.New(ctx, options...)
	if err != nil {
		return inFlags(err)
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	for _, index := range s.shards {
		// The memberships live as long as the node: it relays, nobody here reads.
		shard := sharding.Shard{Cluster: s.cluster, Index: index}
		if _, err := node.Join(ctx, waku.Community{Shard: shard}); err != nil {
			return err
		}
	}

	line := ready{
		Event:     "ready",
		PeerID:    node.PeerID().String(),
		Addresses: node.Addrs(),
		ENR:       node.ENR(),
		Cluster:   s.cluster,
		Shards:    s.shards,
		Store:     s.store.kind,
		Services:  s.services.names(),
	}
	if scrape != nil {
		line.Metrics = scrape.Addr()
	}
	if err := json.NewEncoder(stdout).Encode(line); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	if len(s.connect) > 0 || s.discovery.looks() {
		go logAlone(ctx, node.Health, log)
	}
	for e := range node.Events(ctx) { // until a signal ends ctx
		if e.Kind != waku.ArchiveStateChanged { // the node has logged it, as a warning
			log.Info(e.String())
		}
	}
	log.Info("ending")
	return nil
}

// options are what the settings ask of the node itself.
func (s *settings) options(log *slog.Logger) ([]waku.Option, error) {
	key, err := nodeKey(s.nodeKeyFile)
	if err != nil {
		return nil, err
	}
	options := []waku.Option{
		waku.WithNetwork(s.network()),
		waku.WithListenAddrs(s.listenAddrs()...),
		waku.WithStaticPeers(s.connect...),
		waku.WithMaxConns(s.maxConns),
		waku.WithMaxConnsPerIP(min(s.maxConnsPerIP, s.maxConns)),
		waku.WithUserAgent("shoal-servicenode"),
		waku.WithLogger(log),
	}
	if key != nil {
		options = append(options, waku.WithNodeKey(key))
	}
	if s.meshDegree != 0 {
		options = append(options, waku.WithRelayProfile(relay.Fleet(s.meshDegree)))
	}
	options = append(options, s.services.options()...)
	finding, err := s.discovery.options(s.listenAddrs())
	if err != nil {
		return nil, err
	}
	options = append(options, finding...)
	for index, keys := range s.protected {
		options = append(options, waku.WithProtectedShard(sharding.Shard{Cluster: s.cluster, Index: index}, keys...))
	}
	return options, nil
}
