package p2ptest

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// OpenStream opens a stream and negotiates one of the protocols at once,
// whether or not the peer is known to speak it. A host's NewStream may put that
// off until the first write; an attacker who opens a stream and then stays
// silent needs the peer's handler to be running.
func OpenStream(ctx context.Context, from host.Host, to peer.ID, ids ...protocol.ID) (network.Stream, error) {
	s, err := from.Network().NewStream(ctx, to)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	id, err := multistream.SelectOneOf(ids, s)
	if !stop() || err != nil {
		s.Reset()
		return nil, fmt.Errorf("negotiate %v: %w", ids, err)
	}
	if err := s.SetProtocol(id); err != nil {
		s.Reset()
		return nil, err
	}
	return s, nil
}
