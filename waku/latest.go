package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/message/segment"
)

const (
	defaultLatestEvery = 5 * time.Minute
	// When something is known to be under way, the next look comes after firstLook,
	// doubled each time.
	firstLook = 2 * time.Second
	// maxHere is how many hashes are remembered, and maxLookPages how many pages of
	// them one look reads.
	maxHere      = 4096
	maxLookPages = 8
	// maxFetch is how many messages are asked for at a time, and maxFetchBytes how many
	// bytes they may be expected to have together.
	maxFetch      = 16
	maxFetchBytes = 8 << 20
)

// LatestConfig says what [Membership.Latest] keeps up with.
type LatestConfig struct {
	// ContentTopic is where the versions are published, each whole in one message or
	// in segments ([Membership.SendLarge]). Nothing else should be: whatever is found
	// there counts as a version unless Open or Check refuse it.
	ContentTopic string
	// Open undoes what the sender did to a message's payload (see [SealWith]), and says
	// who it was. Segments of different senders are never put together, so only what a
	// signature proves is a name. An error: the message isn't for this reader. Nil: the
	// payload is taken as it is, and all who may send count as one sender.
	Open func(*Envelope) (sender string, payload []byte, err error)
	// Check refuses what isn't a version. Nil: everything is one.
	Check func(payload []byte) error
	// Watch are content topics of small messages that say that there is news: any
	// message on one of them has stores asked at once.
	Watch []string
	// Every is how often stores are asked beside. Default: 5 minutes.
	Every time.Duration
	// Segments bounds what is held of versions that aren't whole.
	Segments segment.Config
}

// Version is a replaceable message, put together.
type Version struct {
	// Payload is the caller's.
	Payload []byte
	// Whole is its keccak256.
	Whole segment.Hash
	// Sender is what LatestConfig.Open said.
	Sender string
	// Timestamp is that of the version's newest message. Versions are ordered by it.
	Timestamp time.Time
	// Messages is in how many it came; parity that wasn't needed isn't counted.
	Messages int
}

// LatestStats is what keeping up took.
type LatestStats struct {
	// Looks counts the questions to stores, Hashes those that they named.
	Looks, Hashes uint64
	// Fetched counts the messages that stores handed out, FetchedBytes their bytes;
	// Pushed those that came as they were published.
	Fetched, FetchedBytes, Pushed uint64
	// Refused counts messages and versions that Open or Check refused.
	Refused uint64
	// Segments is what is held of versions that aren't whole.
	Segments segment.Stats
}

// Latest follows a replaceable message: only its newest version counts. It asks stores
// for hashes, takes the bodies of the newest version alone, and none of them that is
// here; one that was begun is finished later. A membership that relays takes the bodies
// as they come by the mesh, and asks stores for what it missed. A light one isn't pushed
// them, for each of its service peers would: see LatestConfig.Watch.
type Latest struct {
	m      *Membership
	cfg    LatestConfig
	parts  *segment.Assembler
	reader *Reader // nil: nothing is pushed
	turn   chan struct{}

	// These belong to who has the turn. here are the messages that are here, by hash,
	// with their timestamps. due is when stores are asked next, and tries how often in a
	// row they were asked sooner than usual.
	here    map[message.Hash]int64
	stamps  map[segment.Hash]int64 // the newest of each version's messages
	newest  int64                  // timestamp of the newest message of the last version
	due     time.Time
	tries   int
	run     context.Context
	version segment.Hash

	mu     sync.Mutex
	news   context.Context // ends when somebody calls Look
	tell   context.CancelFunc
	stats  LatestStats
	failed string
}

// Latest begins to follow a replaceable message. It runs nothing by itself: versions are
// looked for while Next is called. Close it when done. What is to be decided by the
// membership's mode is decided now.
func (m *Membership) Latest(cfg LatestConfig) (*Latest, error) {
	switch {
	case cfg.ContentTopic == "":
		return nil, fmt.Errorf("waku: Latest: %w", message.ErrEmptyContentTopic)
	case cfg.Every < 0:
		return nil, fmt.Errorf("waku: Latest: Every is %v, want a positive time", cfg.Every)
	}
	cfg.Every = cmp.Or(cfg.Every, defaultLatestEvery)
	if cfg.Segments.Now == nil {
		cfg.Segments.Now = m.shard.node.cfg.now
	}
	l := &Latest{
		m: m, cfg: cfg, parts: segment.NewAssembler(cfg.Segments), turn: make(chan struct{}, 1),
		here: map[message.Hash]int64{}, stamps: map[segment.Hash]int64{},
	}
	l.news, l.tell = context.WithCancel(context.Background())
	topics := append([]string(nil), cfg.Watch...)
	if m.Mode() == ModeRelay {
		topics = append(topics, cfg.ContentTopic)
	}
	if len(topics) == 0 {
		return l, m.alive()
	}
	var err error
	l.reader, err = m.subscribe(m.buffer, topics, true) // what is missing is found by looking
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Close ends it. Next fails from then on. It is idempotent.
func (l *Latest) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tell == nil {
		return nil
	}
	l.tell()
	l.tell = nil
	if l.reader == nil {
		return nil
	}
	return l.reader.Close()
}

// Look has stores asked at once.
func (l *Latest) Look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tell != nil {
		l.tell()
	}
}

// Stats returns what it took so far.
func (l *Latest) Stats() LatestStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Segments = l.parts.Stats()
	return s
}

// Failure says why stores gave no answer when they were asked last; empty: they did.
func (l *Latest) Failure() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Next waits for a version that is newer than the one it returned last; those between
// are skipped. The first call returns the newest one that stores have. While the node is
// paused it waits. Calls take turns. Errors: ctx's, and one that is net.ErrClosed after
// Close, Leave and Node.Close.
func (l *Latest) Next(ctx context.Context) (*Version, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, done := during(ctx, l.m.ctx)
	defer done()
	for {
		if err := l.alive(); err != nil {
			return nil, err
		}
		run, ok := l.m.shard.node.gate.pass(ctx)
		if !ok {
			return nil, cmp.Or(l.alive(), context.Cause(ctx))
		}
		if run != l.run { // who knows what was missed
			l.run, l.due, l.tries = run, time.Time{}, 0
		}
		v, err := l.step(ctx, run)
		switch {
		case v != nil:
			return v, nil
		case ctx.Err() != nil:
			return nil, cmp.Or(l.alive(), context.Cause(ctx))
		case err != nil:
			return nil, err
		}
	}
}

func (l *Latest) alive() error {
	if err := l.m.alive(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tell == nil {
		return errReaderClosed
	}
	return nil
}

// step waits for the next thing to happen, and deals with it.
func (l *Latest) step(ctx, run context.Context) (*Version, error) {
	l.mu.Lock()
	news := l.news
	if news.Err() != nil && l.tell != nil {
		l.news, l.tell = context.WithCancel(context.Background())
		l.tries, l.due = 1, time.Time{}
	}
	l.mu.Unlock()
	if v, some, err := l.queued(ctx); some || err != nil {
		return v, err
	}
	if !time.Now().Before(l.due) {
		asking, done := during(ctx, run)
		defer done()
		return l.look(asking)
	}
	waiting, cancel := context.WithDeadline(ctx, l.due)
	defer cancel()
	defer context.AfterFunc(run, cancel)()
	defer context.AfterFunc(news, cancel)()
	if l.reader == nil {
		<-waiting.Done()
		return nil, nil
	}
	v, _, err := l.pushed(waiting)
	return v, err
}

// queued takes what was pushed already: it needn't be fetched.
func (l *Latest) queued(ctx context.Context) (v *Version, some bool, err error) {
	if l.reader == nil {
		return nil, false, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return l.pushed(ctx)
}

// pushed takes the next message that was pushed. some is false if none was until ctx
// ended.
func (l *Latest) pushed(ctx context.Context) (v *Version, some bool, err error) {
	env, err := l.reader.Next(ctx)
	var lost *LossError
	switch {
	case errors.As(err, &lost):
		l.due = time.Time{}
		return nil, true, nil
	case err != nil && ctx.Err() != nil && !errors.Is(err, net.ErrClosed):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case env.Message.ContentTopic != l.cfg.ContentTopic:
		l.tries, l.due = 1, time.Time{}
		return nil, true, nil
	}
	l.mu.Lock()
	l.stats.Pushed++
	l.mu.Unlock()
	v, _, _ = l.take(env)
	return v, true, nil
}

// soon plans the next look: before long while something is under way.
func (l *Latest) soon(under bool) {
	wait := l.cfg.Every
	if under && l.tries < 16 {
		wait = min(wait, firstLook<<l.tries)
		l.tries++
	}
	l.due = time.Now().Add(wait)
}

// take adds a message. It returns a version if the message makes one, and the segment
// that it is with its sender.
func (l *Latest) take(env *Envelope) (*Version, *segment.Segment, string) {
	l.here[env.Hash] = env.Message.Timestamp
	l.tidy()
	sender, payload, err := "", env.Message.Payload, error(nil)
	if l.cfg.Open != nil {
		sender, payload, err = l.cfg.Open(env)
	}
	if err != nil {
		l.refused()
		return nil, nil, ""
	}
	v := &Version{Sender: sender, Timestamp: time.Unix(0, env.Message.Timestamp), Messages: 1}
	s, err := segment.Decode(payload)
	if err != nil {
		v.Payload, v.Whole = append([]byte(nil), payload...), segment.Sum(payload)
		return l.accept(v), nil, ""
	}
	if s.Whole == l.version { // it is known already
		l.newest = max(l.newest, env.Message.Timestamp)
		return nil, s, sender
	}
	v.Whole = s.Whole
	l.stamps[s.Whole] = max(l.stamps[s.Whole], env.Message.Timestamp)
	v.Timestamp = time.Unix(0, l.stamps[s.Whole])
	have, _ := l.parts.Progress(sender, s.Whole)
	v.Messages = have + 1
	v.Payload, err = l.parts.Add(sender, s)
	if err != nil {
		l.refused()
	}
	if v.Payload == nil {
		return nil, s, sender
	}
	return l.accept(v), s, sender
}

// accept makes a version the present one, if it is one.
func (l *Latest) accept(v *Version) *Version {
	at := v.Timestamp.UnixNano()
	if v.Whole == l.version {
		l.newest = max(l.newest, at)
		return nil
	}
	if at <= l.newest {
		return nil // older
	}
	if l.cfg.Check != nil && l.cfg.Check(v.Payload) != nil {
		l.refused()
		return nil
	}
	l.newest, l.version = at, v.Whole
	maps.DeleteFunc(l.stamps, func(_ segment.Hash, at int64) bool { return at <= l.newest })
	return v
}

func (l *Latest) refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Refused++
}

// tidy forgets messages that won't be named again, and then the oldest.
func (l *Latest) tidy() {
	if len(l.stamps) >= maxHere {
		clear(l.stamps)
	}
	if len(l.here) < maxHere {
		return
	}
	maps.DeleteFunc(l.here, func(_ message.Hash, at int64) bool { return at < l.newest })
	for h := range l.here {
		if len(l.here) < maxHere/2 {
			return
		}
		delete(l.here, h)
	}
}
