package simnet

import (
	"context"
	"errors"
	"slices"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

var errNotSimulated = errors.New("simnet: not simulated")

// swarm is a Host as a network.Network.
type swarm Host

var _ network.Network = (*swarm)(nil)

func (s *swarm) host() *Host { return (*Host)(s) }

func (s *swarm) Peerstore() peerstore.Peerstore { return s.host().Peerstore() }
func (s *swarm) LocalPeer() peer.ID             { return s.id }

func (s *swarm) DialPeer(ctx context.Context, p peer.ID) (network.Conn, error) {
	if err := s.host().Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
		return nil, err
	}
	if conns := s.host().connsTo(p); len(conns) > 0 {
		return conns[0], nil
	}
	return nil, network.ErrNoConn
}

func (s *swarm) ClosePeer(p peer.ID) error {
	for _, c := range s.host().connsTo(p) {
		_ = c.Close()
	}
	return nil
}

func (s *swarm) Connectedness(p peer.ID) network.Connectedness {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.conns[p]) > 0 {
		return network.Connected
	}
	return network.NotConnected
}

func (s *swarm) Peers() []peer.ID {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]peer.ID, 0, len(s.conns))
	for p := range s.conns {
		all = append(all, p)
	}
	return all
}

func (s *swarm) Conns() []network.Conn { return asConns(s.host().allConns()) }

func (s *swarm) ConnsToPeer(p peer.ID) []network.Conn { return asConns(s.host().connsTo(p)) }

func asConns(cs []*conn) []network.Conn {
	all := make([]network.Conn, len(cs))
	for i, c := range cs {
		all[i] = c
	}
	return all
}

func (s *swarm) Notify(w network.Notifiee) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, w)
}

func (s *swarm) StopNotify(w network.Notifiee) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = slices.DeleteFunc(slices.Clone(s.watchers), func(x network.Notifiee) bool { return x == w })
}

func (s *swarm) CanDial(peer.ID, ma.Multiaddr) bool { return true }
func (s *swarm) Close() error                       { return s.host().Close() }

func (s *swarm) SetStreamHandler(network.StreamHandler) {}

func (s *swarm) NewStream(context.Context, peer.ID) (network.Stream, error) {
	return nil, errNotSimulated
}

func (s *swarm) Listen(...ma.Multiaddr) error { return nil }

func (s *swarm) ListenAddresses() []ma.Multiaddr { return s.host().Addrs() }

func (s *swarm) InterfaceListenAddresses() ([]ma.Multiaddr, error) { return s.host().Addrs(), nil }

func (s *swarm) ResourceManager() network.ResourceManager { return &network.NullResourceManager{} }

// book is a peerstore that knows where everybody is. What it doesn't define panics:
// no router asks for it.
type book struct {
	peerstore.Peerstore
	net *Network
}

func (b book) Addrs(p peer.ID) []ma.Multiaddr {
	if h := b.net.host(p); h != nil {
		return h.Addrs()
	}
	return nil
}

func (b book) AddAddrs(peer.ID, []ma.Multiaddr, time.Duration) {}
func (b book) PrivKey(peer.ID) ic.PrivKey                      { return nil }
func (b book) PubKey(peer.ID) ic.PubKey                        { return nil }
func (b book) Close() error                                    { return nil }
