package waku

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	listenExample = "/ip4/0.0.0.0/tcp/60000, /ip4/0.0.0.0/udp/60000/quic-v1 or /ip4/0.0.0.0/tcp/8000/ws"
	dialExample   = "/ip4/192.0.2.1/tcp/60000/p2p/16Uiu2HAm…"
)

// parseListenAddr accepts what the node's transports can listen on.
func parseListenAddr(text string) (ma.Multiaddr, error) {
	addr, err := ma.NewMultiaddr(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no multiaddr (%s): write something like %s", text, line(err), listenExample)
	}
	var codes []int
	for _, c := range addr {
		codes = append(codes, c.Protocol().Code)
	}
	switch {
	case len(codes) < 2 || codes[0] != ma.P_IP4 && codes[0] != ma.P_IP6:
		return nil, fmt.Errorf("%q: a node listens on an IP address: write something like %s", text, listenExample)
	case codes[len(codes)-1] == ma.P_P2P:
		return nil, fmt.Errorf("%q: a listen address has no /p2p part: leave it out", text)
	case codes[len(codes)-1] == ma.P_WSS || len(codes) > 3 && codes[2] == ma.P_TLS:
		return nil, fmt.Errorf("%q: TLS isn't served: listen on …/ws behind a proxy that holds the certificate", text)
	case slices.Equal(codes[1:], []int{ma.P_TCP}), slices.Equal(codes[1:], []int{ma.P_TCP, ma.P_WS}), slices.Equal(codes[1:], []int{ma.P_UDP, ma.P_QUIC_V1}):
		return addr, nil
	}
	return nil, fmt.Errorf("%q: none of the transports TCP, QUIC and WebSocket: write something like %s", text, listenExample)
}

// parsePeerAddr reads an address to dial, which says who is expected there.
func parsePeerAddr(text string) (peer.AddrInfo, error) {
	addr, err := ma.NewMultiaddr(text)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("%q is no multiaddr (%s): write something like %s", text, line(err), dialExample)
	}
	info, err := peer.AddrInfoFromP2pAddr(addr)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("%q doesn't say whose address it is: end it with /p2p/ and the peer id, as in %s", text, dialExample)
	}
	if len(info.Addrs) == 0 {
		return peer.AddrInfo{}, fmt.Errorf("%q doesn't say where the peer is: begin it with its address, as in %s", text, dialExample)
	}
	return *info, nil
}

// Ranks of transports, by how many peers can dial them.
const (
	rankTCP = iota
	rankQUIC
	rankWS
	rankOther
)

func transportRank(a ma.Multiaddr) int {
	rank := rankOther
	for _, c := range a {
		switch c.Protocol().Code {
		case ma.P_TCP:
			rank = rankTCP
		case ma.P_QUIC_V1:
			rank = rankQUIC
		case ma.P_WS, ma.P_WSS:
			rank = rankWS
		}
	}
	return rank
}

// addrs are the host's, the most widely spoken transport first.
func (n *Node) addrs() []ma.Multiaddr {
	addrs := slices.Clone(n.host.Addrs())
	if n.nat != nil {
		addrs = n.nat.announce(addrs)
	}
	slices.SortFunc(addrs, func(a, b ma.Multiaddr) int {
		return cmp.Or(cmp.Compare(transportRank(a), transportRank(b)), cmp.Compare(a.String(), b.String()))
	})
	return addrs
}
