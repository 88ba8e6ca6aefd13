package metadata

import (
	"context"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// Server answers until Close.
type Server struct {
	exchanges *reqresp.Server
}

// Serve answers on h from now on.
func Serve(h host.Host, cfg Config) *Server {
	return &Server{exchanges: reqresp.Serve(h, ID, cfg.exchange(),
		func(_ context.Context, from peer.ID, request []byte) ([]byte, error) {
			theirs, err := Decode(request)
			if err != nil {
				return nil, err
			}
			if cfg.OnAsked != nil {
				cfg.OnAsked(from, theirs)
			}
			return cfg.Own().Encode(), nil
		})}
}

// Close stops answering and waits for running exchanges.
func (s *Server) Close() error { return s.exchanges.Close() }
