package waku

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

const (
	// archiveBuffer is how many messages of a shard wait for the archive.
	archiveBuffer = 4096
	archiveBatch  = 256
	// After a failed Put the next try comes after firstPutPause, doubled up to
	// longestPutPause.
	firstPutPause   = 100 * time.Millisecond
	longestPutPause = 3 * time.Second
	// drainTimeout bounds what is done for the queue of a shard that is left.
	drainTimeout = 2 * time.Second
	// markPeriod is how often the archive is told how far it is complete.
	markPeriod = 30 * time.Second
	// markSlack is for messages between the relay and the archive.
	markSlack = 10 * time.Second
)

// ArchiveOption changes how [WithArchive] fills an archive.
type ArchiveOption func(*archiveConfig)

type archiveConfig struct {
	archive store.Archive
	window  time.Duration
	resume  time.Duration
}

// ArchiveWindow is how far a live message's timestamp may be from the clock,
// either way, for the message to be kept. Default: 5 minutes.
func ArchiveWindow(d time.Duration) ArchiveOption {
	return func(c *archiveConfig) { c.window = d }
}

// ArchiveResume is how far back the node asks other store nodes for what its
// archive missed. Zero: it doesn't ask. Default: as long as messages are kept, or
// 30 days where that isn't limited.
func ArchiveResume(d time.Duration) ArchiveOption {
	return func(c *archiveConfig) { c.resume = d }
}

// archiver keeps the messages of joined shards in the archive.
type archiver struct {
	node *Node
	cfg  *archiveConfig
	kept atomic.Uint64
	// resumed counts those of kept that came from other store nodes, lost those
	// that were dropped before the archive had taken them, unkept those that
	// aren't for keeping.
	resumed, lost, unkept atomic.Uint64
	// running are the shards whose messages are still being brought in.
	running sync.WaitGroup
}

// shardArchive is the archiver of one shard while it is joined.
type shardArchive struct {
	*archiver
	shard *shard
	sub   *relay.Subscription
	ctx   context.Context // ends when the shard is left
	stop  context.CancelFunc
	// putting ends a while after ctx: what has arrived is still kept.
	putting context.Context
	giveUp  context.CancelFunc
	wake    chan struct{} // there is a gap to fill
	// behind is since when the oldest message waits that was taken from the
	// queue, in Unix nanoseconds; 0: none.
	behind atomic.Int64

	mu      sync.Mutex
	gaps    uint64 // how many there were
	gap     string // why messages may be missing; empty: none are
	failure string // why the gap isn't filled yet
}

// openArchive answers questions from the archive and watches it.
func (n *Node) openArchive() {
	cfg := n.cfg.archive
	if cfg == nil {
		return
	}
	cfg.archive = carefulArchive{cfg.archive}
	n.storeServer = store.NewServer(n.host, servedArchive{cfg.archive, n.telemetry}, store.ServerConfig{OnFailure: func(from peer.ID, err error) {
		n.cfg.logger.Debug("store: a question without an answer", "peer", from, "err", line(err))
	}})
	n.onClose(n.storeServer.Close)
	n.archiver = &archiver{node: n, cfg: cfg}
	n.tasks.start(n.archiver.watch)
}

// watch tells of changes of the archive's state.
func (a *archiver) watch(ctx context.Context) {
	last := store.Ready
	for a.node.gate.rest(ctx, time.Second, nil) {
		c := a.cfg.archive.Condition()
		if c.State != last {
			last = c.State
			a.node.emit(Event{Kind: ArchiveStateChanged, Archive: c.State, Reason: conditionWords(c)})
			a.node.cfg.logger.Log(ctx, levelOf(c.State), "archive", "state", c.State.String(), "reason", conditionWords(c))
		}
	}
}

func levelOf(s store.State) slog.Level {
	if s == store.Ready {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func conditionWords(c store.Condition) string {
	if c.Err == nil {
		return ""
	}
	return line(c.Err)
}

// archive begins to keep the shard's messages. mu is held.
func (s *shard) beginArchive() error {
	if s.node.archiver == nil || s.archive.Load() != nil {
		return nil
	}
	sub, err := s.node.relay.Subscribe(s.shard, relay.SubscribeConfig{Buffer: archiveBuffer, Passive: true, Service: true})
	if err != nil {
		return err
	}
	k := &shardArchive{
		archiver: s.node.archiver, shard: s, sub: sub,
		wake: make(chan struct{}, 1), gap: "the node was away",
	}
	k.ctx, k.stop = context.WithCancel(s.node.tasks.ctx)
	k.putting, k.giveUp = context.WithCancel(context.Background())
	s.archive.Store(k)
	k.running.Go(k.run)
	s.node.tasks.start(func(context.Context) { k.keepComplete() })
	return nil
}

// endArchive stops keeping the shard's messages; what is queued is kept still.
func (s *shard) endArchive() {
	if k := s.archive.Swap(nil); k != nil {
		k.stop()
	}
}

// run brings the shard's messages to the archive.
func (k *shardArchive) run() {
	defer k.giveUp()
	defer k.sub.Close()
	defer context.AfterFunc(k.ctx, func() {
		timer := time.AfterFunc(drainTimeout, k.giveUp)
		context.AfterFunc(k.putting, func() { timer.Stop() })
	})()
	for {
		// When ctx has ended this returns what is queued and then fails.
		batch, err := k.sub.Batch(k.ctx, archiveBatch)
		var loss *relay.LossError
		switch {
		case errors.As(err, &loss):
			k.lose(int(loss.Count), "the archive was too slow")
			continue
		case err != nil:
			return
		}
		k.keep(batch)
	}
}

// keep puts live messages.
func (k *shardArchive) keep(batch []*relay.Envelope) {
	now := k.node.cfg.now()
	arrived := func(env *relay.Envelope) time.Time { return now.Add(-time.Since(env.ReceivedAt)) } // by the node's clock
	k.behind.Store(arrived(batch[0]).UnixNano())
	defer k.behind.Store(0)
	entries := make([]store.Entry, 0, len(batch))
	for _, env := range batch {
		offset := arrived(env).Sub(time.Unix(0, env.Message.Timestamp)).Abs()
		if env.Message.Ephemeral || env.Message.Timestamp <= 0 || offset > k.cfg.window {
			k.unkept.Add(1)
			continue
		}
		entries = append(entries, store.Entry{Hash: env.Hash, Shard: env.Shard, Message: env.Message})
	}
	_, left, err := k.put(k.putting, entries)
	if err != nil {
		k.lose(left, "the archive: "+line(err))
	}
}

// put tries until all entries are durable, or can't be kept at all. It fails when
// ctx ends or the archive is closed, and says how many entries are kept and how
// many might have been.
func (k *shardArchive) put(ctx context.Context, entries []store.Entry) (kept, left int, err error) {
	for wait := firstPutPause; len(entries) > 0; wait = min(2*wait, longestPutPause) {
		err := k.cfg.archive.Put(ctx, entries)
		var unfit *store.EntryError
		switch {
		case err == nil:
			k.kept.Add(uint64(len(entries)))
			return len(entries), 0, nil
		case errors.As(err, &unfit):
			fit := slices.DeleteFunc(entries, func(e store.Entry) bool { return e.Hash == unfit.Hash })
			if len(fit) == len(entries) {
				return 0, len(entries), err // it names another: nothing to be done
			}
			k.unkept.Add(uint64(len(entries) - len(fit)))
			entries, wait = fit, firstPutPause
			continue
		case errors.Is(err, net.ErrClosed):
			return 0, len(entries), err
		}
		if !k.node.gate.rest(ctx, wait, nil) {
			return 0, len(entries), err
		}
	}
	return 0, 0, nil
}

func (k *shardArchive) lose(count int, why string) {
	k.lost.Add(uint64(count))
	k.missing(why)
}

// missing notes that messages may be missing from now on. It is called from the
// relay's event loop too and doesn't wait.
func (k *shardArchive) missing(why string) {
	k.mu.Lock()
	k.gaps++
	k.gap = why
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// mark tells the archive how far it is complete, unless something is missing or
// the clock can't be trusted: a mark doesn't go back.
func (k *shardArchive) mark(ctx context.Context) {
	k.mu.Lock()
	missing := k.gap != ""
	k.mu.Unlock()
	if missing || k.node.clock.health().Suspect {
		return
	}
	t := k.node.cfg.now()
	if behind := k.behind.Load(); behind != 0 {
		t = time.Unix(0, behind)
	}
	// Whoever is younger than the window may still arrive.
	if err := k.cfg.archive.SetMark(ctx, k.shard.shard, t.Add(-k.cfg.window-markSlack)); err != nil && ctx.Err() == nil {
		k.node.cfg.logger.Debug("archive: mark", "shard", k.shard.shard, "err", err)
	}
}

// ArchiveHealth is the state of the archive of [WithArchive].
type ArchiveHealth struct {
	// State, Since and Reason say how it is.
	State  store.State
	Since  time.Time
	Reason string
	// Pending and PendingBytes are acknowledged messages on their way to the
	// database.
	Pending, PendingBytes int64
	// Kept counts the messages that the archive has taken from this node, those
	// among them included that it had already. Resumed are those of Kept that
	// came from other store nodes. Lost counts messages that arrived and were
	// dropped before the archive could take them: see Gap. Unkept counts
	// messages that aren't for keeping: ephemeral, or outside the window.
	Kept, Resumed, Lost, Unkept uint64
	// Server counts what was asked and answered.
	Server store.ServerStats
	// Shards are the joined shards, in order.
	Shards []ShardArchive
}

// ShardArchive says whether the archive has all of a shard.
type ShardArchive struct {
	Shard sharding.Shard
	// Gap says why messages may be missing, such as the time before the node
	// started. It is filled from another store node; Failure says why that
	// didn't succeed yet. Empty: the archive is complete as far as this node
	// knows.
	Gap, Failure string
}

// health of the archive; nil without one.
func (a *archiver) health() *ArchiveHealth {
	if a == nil {
		return nil
	}
	c := a.cfg.archive.Condition()
	h := &ArchiveHealth{
		State: c.State, Since: c.Since, Reason: conditionWords(c),
		Pending: c.Pending, PendingBytes: c.PendingBytes,
		Kept: a.kept.Load(), Resumed: a.resumed.Load(), Lost: a.lost.Load(), Unkept: a.unkept.Load(),
		Server: a.node.storeServer.Stats(),
	}
	for _, s := range a.node.shards.joined() {
		if k := s.archive.Load(); k != nil {
			k.mu.Lock()
			h.Shards = append(h.Shards, ShardArchive{Shard: s.shard, Gap: k.gap, Failure: k.failure})
			k.mu.Unlock()
		}
	}
	return h
}

// archivable tells whether an old message may be kept.
func (k *shardArchive) archivable(m *message.Message, now time.Time) bool {
	age := k.cfg.archive.Retention(k.shard.shard).MaxAge
	t := time.Unix(0, m.Timestamp)
	return !m.Ephemeral && m.Timestamp > 0 && (age <= 0 || now.Sub(t) < age) && t.Sub(now) <= k.cfg.window
}
