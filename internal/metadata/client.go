package metadata

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// Config is what client and server share.
type Config struct {
	// Own returns what this node says of itself; required. It is called for
	// every exchange, from several goroutines.
	Own func() Info
	// OnAsked, if set, is told what a peer says of itself when it asks, before
	// it is answered.
	OnAsked func(from peer.ID, theirs Info)
	// OnFailure, if set, is told of every inbound exchange that failed; see
	// reqresp.Config. An undecodable request is ErrMalformed or a *ClusterError.
	OnFailure func(from peer.ID, err error)
}

func (c Config) exchange() reqresp.Config {
	return reqresp.Config{
		Service:     "waku.metadata",
		MaxRequest:  MaxRead,
		MaxResponse: MaxRead,
		// Every new connection asks once, so many peers may ask at one moment
		// and none asks often.
		Concurrency: 512,
		PerPeer:     4,
		OnFailure:   c.OnFailure,
	}
}

// Client asks peers.
type Client struct {
	host host.Host
	cfg  Config
}

// NewClient returns a client on h.
func NewClient(h host.Host, cfg Config) *Client { return &Client{host: h, cfg: cfg} }

// Ask tells p what this node is and returns what p is. The error is one of
// reqresp.Do (reqresp.ErrUnsupported if p doesn't speak the protocol),
// ErrMalformed or a *ClusterError. Within 10 s there is an answer or an error.
func (c *Client) Ask(ctx context.Context, p peer.ID) (Info, error) {
	answer, err := reqresp.Do(ctx, c.host, p, ID, c.cfg.exchange(), c.cfg.Own().Encode())
	if err != nil {
		return Info{}, err
	}
	info, err := Decode(answer)
	if err != nil {
		return Info{}, fmt.Errorf("%w, from %s", err, p)
	}
	return info, nil
}
