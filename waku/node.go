package waku

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Node is a running Waku node. Its methods are safe for concurrent use.
type Node struct{}

// New returns a running node. Without options it is a relay node of the [Local]
// network that listens on ephemeral loopback ports, has an identity of its own
// for its lifetime, and contacts nobody.
//
// ctx bounds the start alone. An error names the option that can't be followed,
// or both of two that contradict each other; nothing is left running then.
func New(ctx context.Context, opts ...Option) (*Node, error) { return nil, errNotYet }

// Close ends every membership, connection and goroutine of the node, within five
// seconds, and waits for them. It is idempotent; every call returns the same
// error, which names plugged-in validators that ignored their context and are
// still running.
func (n *Node) Close() error { return errNotYet }

// PeerID is the node's libp2p identity.
func (n *Node) PeerID() peer.ID { return "" }

// Addrs are the addresses the node can be reached at, as full multiaddrs that
// end in /p2p/<peer id>: what [Node.Connect] and [WithStaticPeers] take.
func (n *Node) Addrs() []string { return nil }

// ENR is the node's signed record (31/WAKU2-ENR) in its text form, "enr:…": key,
// address, capabilities and joined shards. Its sequence number grows with every
// change.
func (n *Node) ENR() string { return "" }

// Network is the network that the node belongs to.
func (n *Node) Network() Network { return Network{} }

// Connect dials a peer, once: a full multiaddr that ends in /p2p/<peer id>, or a
// /dnsaddr. See [WithStaticPeers] for peers to stay connected with. It returns
// when the peer has proven that it belongs to this network; otherwise a
// *[PeerError] says what was wrong with it.
func (n *Node) Connect(ctx context.Context, addr string) (peer.ID, error) { return "", errNotYet }

// Disconnect closes the connections to a peer. A static peer is dialled again.
func (n *Node) Disconnect(p peer.ID) error { return errNotYet }

// Peers returns the connected peers.
func (n *Node) Peers() []Peer { return nil }
