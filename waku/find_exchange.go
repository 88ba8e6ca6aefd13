package waku

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/peerexchange"
)

const (
	// exchangeWant is how many peers are asked for at a time.
	exchangeWant = 20
	// In each round so many peers are asked, exchangePause apart: the first one isn't
	// to be the only one heard. After a round with nobody new the next one is in
	// exchangePause, doubled up to longestExchangePause; after one with news, at once.
	exchangeRoundPeers   = 3
	exchangePause        = 2 * time.Second
	longestExchangePause = 5 * time.Minute
	// longestExchangeLook is the longest pause until is looked again for somebody to ask.
	longestExchangeLook = 30 * time.Second
)

// askExchanges asks connected peers for others while some are missing.
func (d *discovery) askExchanges(ctx context.Context) {
	n := d.node
	pause, look, found := exchangePause, exchangePause, 0
	for {
		run, ok := d.wait(ctx)
		if !ok {
			return
		}
		ready := n.exchanges.ready(slices.DeleteFunc(n.peers.proven(), func(p peer.ID) bool { return !n.speaks(p, peerexchange.ID) }))
		if len(ready) == 0 {
			if !d.rest(ctx, look) {
				return
			}
			look = min(2*look, longestExchangeLook)
			continue
		}
		look = exchangePause
		fresh := 0
		for _, p := range n.peers.dialledFirst(ready)[:min(len(ready), exchangeRoundPeers)] {
			if run.Err() != nil || ctx.Err() != nil {
				break
			}
			fresh += d.askExchange(ctx, run, p, &found)
			if !n.gate.rest(ctx, exchangePause, nil) {
				return
			}
		}
		if fresh > 0 {
			pause = exchangePause
		} else {
			pause = min(2*pause, longestExchangePause)
		}
		if pause > exchangePause && !d.rest(ctx, pause-exchangePause) {
			return
		}
	}
}

// askExchange asks one peer, and returns how much of what it said was news.
func (d *discovery) askExchange(ctx, run context.Context, p peer.ID, found *int) (fresh int) {
	n := d.node
	asking, done := during(ctx, run)
	answer, err := n.exchangeClient.Ask(network.WithNoDial(asking, "peer exchange"), p, exchangeWant)
	done()
	if run.Err() != nil {
		return 0
	}
	var status *peerexchange.StatusError
	switch {
	case errors.As(err, &status):
		n.exchanges.fail(p, err, status.RetryAfter)
	case err != nil:
		n.exchanges.fail(p, err, 0)
	default:
		n.exchanges.answered(p)
	}
	var records []*enr.Record
	for _, one := range answer.Peers {
		if r, err := enr.DecodeVerified(one.ENR); err == nil && d.keeps(r) {
			records = append(records, r)
		} else {
			d.refuse(refusedForeign, 1)
		}
	}
	for reason, count := range answer.Refused {
		d.refuse(reason, count)
	}
	fresh = d.heard(peers.Exchange, p.String(), records)
	*found += len(records)
	if err != nil {
		err = fmt.Errorf("%s: %w", p, err)
	}
	d.note("peer exchange", *found, err)
	return fresh
}
