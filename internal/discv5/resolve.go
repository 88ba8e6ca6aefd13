package discv5

import (
	"context"
	"fmt"

	"github.com/ethereum/go-ethereum/p2p/enode"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/status-im/shoal/internal/enr"
)

// Resolve asks a node for its record and returns that, or r if r is newer. An
// answer proves that the node is alive at the UDP endpoint of r. The error is
// ErrNoEndpoint, ErrNoAnswer, ErrClosed or the context's; there is one within
// 5 s.
func (s *Service) Resolve(ctx context.Context, r *enr.Record) (*enr.Record, error) {
	node, err := toNode(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resolveTimeout, ErrNoAnswer)
	defer cancel()
	node, err = s.ask(ctx, node)
	switch {
	case err != nil:
		return nil, err
	case node.Seq() <= r.Seq():
		return r, nil
	}
	return enr.Verified(node.Record())
}

// ask asks a node for its record.
func (s *Service) ask(ctx context.Context, node *enode.Node) (*enode.Node, error) {
	select {
	case s.asking <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.ctx.Done():
		return nil, ErrClosed
	}
	type answer struct {
		node *enode.Node
		err  error
	}
	answered := make(chan answer, 1)
	// The library's call may outlast the context.
	if !s.begin(func() {
		defer func() { <-s.asking }()
		node, err := s.udp.RequestENR(node)
		answered <- answer{node, err}
	}) {
		<-s.asking
		return nil, ErrClosed
	}
	select {
	case a := <-answered:
		if s.ctx.Err() != nil {
			return nil, ErrClosed
		}
		if a.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoAnswer, a.err)
		}
		return a.node, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.ctx.Done():
		return nil, ErrClosed
	}
}

// toNode returns r as the library has it.
func toNode(r *enr.Record) (*enode.Node, error) {
	var raw gethenr.Record
	if err := rlp.DecodeBytes(r.Bytes(), &raw); err != nil {
		return nil, fmt.Errorf("discv5: %w", err)
	}
	n, err := enode.New(enode.ValidSchemes, &raw)
	if err != nil {
		return nil, fmt.Errorf("discv5: %w", err)
	}
	if n.ValidateComplete() != nil {
		return nil, ErrNoEndpoint
	}
	return n, nil
}
