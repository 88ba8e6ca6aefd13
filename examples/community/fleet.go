package main

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/waku"
)

// fleetNode relays the community's shards and serves its light members.
type fleetNode struct {
	*waku.Node
	metrics *prometheus.Registry
}

func newFleetNode(ctx context.Context, options ...waku.Option) (*fleetNode, error) {
	f := &fleetNode{metrics: prometheus.NewRegistry()}
	var err error
	f.Node, err = waku.New(ctx, append(options,
		waku.WithRelayProfile(relay.Fleet(12)),
		waku.WithFilterService(filter.ServerConfig{}),
		waku.WithLightPushService(lightpush.ServerConfig{}),
		waku.WithMetrics(f.metrics))...)
	if err != nil {
		return nil, err
	}
	if _, err := f.Join(ctx, waku.Community{Shard: shard, Control: &control, Routing: routing()}, waku.RelayControl()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
