package waku

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/peers"
)

const (
	// askAtOnce is how many nodes are asked for their newest records at a time,
	// askMost how many in a round.
	askAtOnce = 8
	askMost   = 256
	// A node isn't asked again within askEach, and rounds are askPause apart, doubled
	// up to longestAskPause.
	askEach         = time.Minute
	askPause        = 2 * time.Second
	longestAskPause = 5 * time.Minute
	// lossPause is how often is looked whether those who are known are enough.
	lossPause = 10 * time.Second
)

// askAround asks nodes that are known for their newest records while a shard has too few
// peers and nobody is known to carry it: by tables alone, news of a shard that was joined
// a moment ago takes many minutes to get around.
func (d *discovery) askAround(ctx context.Context, s *discv5.Service) {
	asked := map[peer.ID]time.Time{}
	for pause := askPause; ctx.Err() == nil; {
		hungry, change := d.hunger.look()
		if !hungry || !d.isAtALoss() {
			pause = askPause
			var again <-chan time.Time
			if hungry { // those who are known may turn out to be of no use
				again = time.After(lossPause)
			}
			select {
			case <-change:
			case <-again:
			case <-ctx.Done():
			}
			continue
		}
		news := d.askRound(ctx, s, asked)
		if news {
			pause = askPause
			d.changed()
		}
		if !d.node.gate.rest(ctx, pause, nil) {
			return
		}
		if !news {
			pause = min(2*pause, longestAskPause)
		}
	}
}

// isAtALoss tells whether a shard has too few peers and nobody left to try.
func (d *discovery) isAtALoss() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.missing {
		if m.Have < m.Min && m.Known <= m.Resting && m.Service != peers.PeerExchange {
			return true
		}
	}
	return false
}

// askRound asks each node that wasn't asked lately, and tells whether there was news.
func (d *discovery) askRound(ctx context.Context, s *discv5.Service, asked map[peer.ID]time.Time) (news bool) {
	now := time.Now()
	for p, at := range asked {
		if now.Sub(at) >= askEach {
			delete(asked, p)
		}
	}
	var (
		asking sync.WaitGroup
		mu     sync.Mutex
		slots  = make(chan struct{}, askAtOnce)
	)
	for _, c := range d.book.Candidates(now, askMost) {
		if _, lately := asked[c.Info.ID]; lately {
			continue
		}
		r, err := enr.Decode(c.Record)
		if err != nil || !d.mayAsk(r) {
			continue
		}
		asked[c.Info.ID] = now
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			asking.Wait()
			return news
		}
		asking.Go(func() {
			defer func() { <-slots }()
			latest, err := s.Resolve(ctx, r)
			if err != nil || latest.Seq() <= r.Seq() || !d.keeps(latest) {
				return
			}
			if d.found(peers.Discv5, "", latest) {
				mu.Lock()
				news = true
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	return news
}
