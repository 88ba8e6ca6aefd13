package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
)

const (
	// pushPeers is how many service peers get a message, so that one alone can't
	// keep it to itself, unless [PushTo] says otherwise.
	pushPeers = 2
	// pushWait is how long Send waits for a service peer to turn up, pushPoll how
	// often it looks, and pushGrace how much longer it waits for the others once
	// enough have accepted.
	pushWait  = 10 * time.Second
	pushPoll  = 200 * time.Millisecond
	pushGrace = 500 * time.Millisecond
	// pushPatience is after how long without an answer others are asked beside those
	// who haven't given one.
	pushPatience = 3 * time.Second
	// maxFailures is how many failures an error names, and one more.
	maxFailures = 3
)

// Acceptance is a service peer's word that it has published a message.
type Acceptance struct {
	Peer peer.ID
	// RelayPeers is how many peers it handed the message to; -1 if it didn't say
	// (light push 2).
	RelayPeers int
}

// pushResult is what became of pushing to one peer.
type pushResult struct {
	peer    peer.ID
	receipt lightpush.Receipt
	err     error
}

// push publishes a message by service peers: by as many as wanted, and when one
// fails, by another in its place. It fails when nobody has accepted.
func (m *Membership) push(ctx, run context.Context, msg *message.Message, wanted int) ([]Acceptance, error) {
	s := m.shard
	n := s.node
	if err := s.genuine("", msg); err != nil {
		return nil, &RefusedError{Shard: s.shard, Verdict: message.Reject, Reason: line(err)}
	}
	var (
		results  = make(chan pushResult)
		done     = make(chan struct{})
		asked    = map[peer.ID]bool{}
		accepted []Acceptance
		failed   []error
		final    bool // somebody said that it is the message's fault
		running  int
		deadline = time.Now().Add(pushWait)
		grace    <-chan time.Time
		slow     int // of those running
		late     = time.NewTimer(pushPatience)
	)
	defer late.Stop()
	defer close(done)
	// When enough have accepted, the others are no longer the caller's matter.
	var release []func() bool
	defer func() {
		for _, stop := range release {
			if len(accepted) > 0 {
				stop()
			}
		}
	}()
	for {
		for _, p := range n.pushers.on(s.topic).ready(n.pushServers(s)) {
			if asked[p] || running-slow+len(accepted) >= wanted {
				continue
			}
			asked[p] = true
			pushing, cancel := context.WithCancel(m.ctx)
			release = append(release, context.AfterFunc(ctx, cancel))
			if !n.tasks.start(func(context.Context) {
				defer cancel()
				defer context.AfterFunc(run, cancel)()
				receipt, err := n.pushClient.Push(pushing, p, s.shard, msg)
				n.pushEnded(p, s, err)
				select {
				case results <- pushResult{p, receipt, err}:
				case <-done:
				}
			}) {
				cancel()
				return nil, errNodeClosed
			}
			running++
			late.Reset(pushPatience)
		}
		if running == 0 {
			switch {
			case len(accepted) > 0:
				return accepted, nil
			case !final && time.Now().Before(deadline): // somebody may turn up, or do better
				clear(asked)
				if !pause(ctx, pushPoll, nil) || m.ctx.Err() != nil || run.Err() != nil {
					return nil, m.nobody(ctx, run, failed)
				}
				continue
			}
			return nil, m.nobody(ctx, run, failed)
		}
		select {
		case r := <-results:
			running--
			slow = min(slow, running)
			if r.err != nil {
				var status *lightpush.StatusError
				final = final || errors.As(r.err, &status) && !status.Temporary()
				failed = append(failed[max(0, len(failed)-maxFailures):], r.err)
				continue
			}
			accepted = append(accepted, Acceptance{Peer: r.peer, RelayPeers: r.receipt.RelayPeers})
			if grace == nil {
				timer := time.NewTimer(pushGrace)
				defer timer.Stop()
				grace = timer.C
			}
			continue
		case <-late.C:
			slow = running
			continue
		case <-grace:
		case <-ctx.Done():
		case <-m.ctx.Done():
		case <-run.Done():
		}
		if len(accepted) > 0 {
			return accepted, nil
		}
		return nil, m.nobody(ctx, run, failed)
	}
}

// nobody is the error of a push that nobody has accepted.
func (m *Membership) nobody(ctx, run context.Context, failed []error) error {
	if err := cmp.Or(m.alive(), context.Cause(run)); err != nil {
		return err
	}
	why := m.shard.node.noPusher(m.shard)
	if len(failed) > 0 {
		why = errors.Join(failed...)
	}
	if ctx.Err() != nil {
		why = errors.Join(context.Cause(ctx), why)
	}
	return &SendError{Shard: m.Shard(), Err: why}
}

// pushServers are the connected peers that publish for light members of a shard.
func (n *Node) pushServers(s *shard) []peer.ID {
	peers := n.servers(s.shard, lightpush.ID)
	for _, p := range n.servers(s.shard, lightpush.LegacyID) {
		if !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	return peers
}

// noPusher says why there is no service peer to ask.
func (n *Node) noPusher(s *shard) error {
	var why []string
	for _, p := range n.pushServers(s) {
		if _, reason := n.pushers.on(s.topic).rest(p); reason != "" {
			why = append(why, fmt.Sprintf("%s: %s", p, reason))
		}
	}
	if len(why) == 0 {
		return ErrNoServicePeer
	}
	return fmt.Errorf("%w: %s", ErrNoServicePeer, strings.Join(why, "; "))
}

// pushEnded leaves a service peer that failed alone for a while.
func (n *Node) pushEnded(p peer.ID, s *shard, err error) {
	rests := n.pushers.on(s.topic)
	var status *lightpush.StatusError
	switch {
	case err == nil:
		rests.answered(p)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && errors.As(err, new(*lightpush.TurnError)):
	case errors.As(err, &status) && !status.Temporary(): // its opinion of the message
	case errors.As(err, &status):
		rests.fail(p, err, status.RetryAfter)
	default:
		rests.fail(p, err, 0)
	}
}
