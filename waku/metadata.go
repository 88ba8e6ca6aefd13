package waku

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/sharding"
)

// own is what this node says of itself.
func (n *Node) own() metadata.Info {
	info := metadata.Info{Cluster: n.cfg.network.Cluster, HasCluster: true}
	for _, s := range n.shards.joined() {
		info.Shards = append(info.Shards, s.shard.Index)
	}
	return info
}

// serveMetadata answers from the first moment: go-waku hangs up on whoever doesn't.
// What a peer asks with says who it is, and who hangs up first may leave nothing
// else behind.
func (n *Node) serveMetadata() {
	server := metadata.Serve(n.host, metadata.Config{Own: n.own, OnAsked: func(from peer.ID, theirs metadata.Info) {
		n.peers.heard(from, n.cluster(theirs))
	}})
	n.onClose(server.Close)
	n.asker = metadata.NewClient(n.host, metadata.Config{Own: n.own})
}

// cluster returns why a peer isn't one of this network.
func (n *Node) cluster(theirs metadata.Info) error {
	switch {
	case !theirs.HasCluster:
		return fmt.Errorf("peer names no cluster, ours is %d", n.cfg.network.Cluster)
	case theirs.Cluster != n.cfg.network.Cluster:
		return fmt.Errorf("peer is on cluster %d, ours is %d", theirs.Cluster, n.cfg.network.Cluster)
	}
	return nil
}

// shakeHands finds out whether a new peer belongs to the network.
func (n *Node) shakeHands(ctx context.Context, r *remote) {
	shards, err := n.askMetadata(ctx, r.id)
	if err != nil && worthAnotherTry(err) {
		shards, err = n.askMetadata(ctx, r.id)
	}
	var silence *silenceError
	if errors.As(err, &silence) {
		if reason := n.peers.foreign(r); reason != nil {
			err = reason // it hung up before it answered
		}
	}
	n.settle(r, shards, err)
}

// silenceError says that a peer didn't tell what it is.
type silenceError struct {
	words string
	err   error
}

// Error implements error.
func (e *silenceError) Error() string { return e.words }

// Unwrap returns the cause.
func (e *silenceError) Unwrap() error { return e.err }

func worthAnotherTry(err error) bool {
	var silence *silenceError
	var timeout *reqresp.TimeoutError
	return errors.As(err, &silence) && !errors.As(err, &timeout) && !errors.Is(err, reqresp.ErrUnsupported)
}

// askMetadata returns the shards that a peer serves, or why it isn't to be kept.
func (n *Node) askMetadata(ctx context.Context, p peer.ID) ([]sharding.Shard, error) {
	theirs, err := n.asker.Ask(network.WithNoDial(ctx, "metadata"), p)
	if err != nil {
		return nil, n.metadataFailure(err)
	}
	if err := n.cluster(theirs); err != nil {
		return nil, err
	}
	var shards []sharding.Shard
	for _, i := range theirs.Shards {
		shards = append(shards, sharding.Shard{Cluster: theirs.Cluster, Index: i})
	}
	return shards, nil
}

func (n *Node) metadataFailure(err error) error {
	var timeout *reqresp.TimeoutError
	var cluster *metadata.ClusterError
	switch {
	case errors.Is(err, reqresp.ErrUnsupported) && n.cfg.network.Cluster == 0:
		return nil // nodes of the global network needn't know the protocol
	case errors.Is(err, reqresp.ErrUnsupported):
		return &silenceError{fmt.Sprintf("peer doesn't speak %s, so nobody knows its cluster", metadata.ID), err}
	case errors.As(err, &timeout):
		return &silenceError{"peer didn't answer metadata in time", err}
	case errors.As(err, &cluster), errors.Is(err, metadata.ErrMalformed):
		return fmt.Errorf("peer's metadata makes no sense: %s", line(err))
	}
	return &silenceError{"metadata exchange failed: " + line(err), err}
}
