package waku

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

// reachTester tells others whether they can be reached (AutoNAT v2), by dialling them
// from a host of its own, which nobody can connect to. A node with WithNAT has one in
// its host, as has everybody for version 1.
type reachTester struct {
	dialer host.Host
	tests  *autonatv2.AutoNAT
}

func newReachTester(n *Node) (*reachTester, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	dialer, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.NoListenAddrs,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(websocket.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}), // the protocol's own limits are narrow
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.ConnectionGater(n.gater),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.ForceReachabilityPublic(),
		libp2p.DisableIdentifyAddressDiscovery(),
	)
	if err != nil {
		return nil, fmt.Errorf("waku: AutoNAT: %w", err)
	}
	tests, err := autonatv2.New(dialer)
	if err == nil {
		err = tests.Start(n.host)
	}
	if err != nil {
		return nil, errors.Join(err, dialer.Close())
	}
	return &reachTester{dialer, tests}, nil
}

func (r *reachTester) close() error {
	r.tests.Close()
	return r.dialer.Close()
}
