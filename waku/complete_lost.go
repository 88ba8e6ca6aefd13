package waku

import (
	"context"
	"slices"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

const (
	// lostAtOnce is how many lost messages are asked for at once, lostTries how often
	// stores are asked, and maxLost how many readers' losses may wait.
	lostAtOnce = 50
	lostTries  = 5
	maxLost    = 16
)

// loss is what one reader lost, because it read too slowly.
type loss struct {
	reader *Reader
	hashes []message.Hash
}

// lost has messages that a reader lost read back from stores, for it alone. It doesn't
// wait.
func (b *gapBook) lost(r *Reader, hashes []message.Hash) {
	if len(hashes) == 0 || r.apart || b.shard.node.cfg.unfilled {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.losses) == maxLost {
		return
	}
	b.losses = append(b.losses, loss{r, hashes})
	if !b.restoring {
		b.restoring = b.shard.node.tasks.start(b.restore)
	}
}

// restore brings back one reader's losses after the other's.
func (b *gapBook) restore(ctx context.Context) {
	n := b.shard.node
	for {
		if _, ok := n.gate.pass(ctx); !ok {
			return
		}
		b.mu.Lock()
		if len(b.losses) == 0 {
			b.restoring = false
			b.mu.Unlock()
			return
		}
		l := b.losses[0]
		b.losses = b.losses[1:]
		b.mu.Unlock()
		for hashes := range slices.Chunk(l.hashes, lostAtOnce) {
			if !b.restoreSome(ctx, l.reader, hashes) {
				break
			}
		}
	}
}

// restoreSome brings back a few messages, once the reader has room for them.
func (b *gapBook) restoreSome(ctx context.Context, r *Reader, hashes []message.Hash) bool {
	n, s := b.shard.node, b.shard
	for range lostTries {
		if r.sub.AwaitRoom(ctx, len(hashes)) != nil {
			return false
		}
		for _, p := range n.readyStores(s.shard) {
			entries, err := n.storeClient.Lookup(ctx, p, hashes)
			if err == nil {
				entries, err = (&storeWalk{node: n, shard: s, peer: p}).accepted(entries)
			}
			if err != nil {
				n.storeFailed(p, err)
				continue
			}
			for _, e := range entries {
				hashes = slices.DeleteFunc(slices.Clone(hashes), func(h message.Hash) bool { return h == e.Hash })
				r.sub.Offer(&relay.Envelope{
					Shard: s.shard, Message: e.Message, Hash: e.Hash, From: p, ReceivedAt: n.cfg.now(), Stored: true,
				})
			}
			b.mu.Lock()
			b.stats.Messages += uint64(len(entries))
			b.mu.Unlock()
			if len(hashes) == 0 {
				return true
			}
		}
		if !n.gate.rest(ctx, time.Second, nil) {
			return false
		}
	}
	return true
}
