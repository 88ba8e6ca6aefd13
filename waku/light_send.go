package waku

import (
	"context"
	"errors"
	"slices"
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
func (m *Membership) push(ctx context.Context, msg *message.Message, wanted int) ([]Acceptance, error) {
	s := m.shard
	n := s.node
	if err := s.genuine("", msg); err != nil {
		return nil, &RefusedError{Shard: s.shard, Verdict: message.Reject, Reason: line(err)}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(m.ctx, cancel)()
	var (
		results  = make(chan pushResult)
		asked    = map[peer.ID]bool{}
		accepted []Acceptance
		failed   []error
		final    bool // somebody said that it is the message's fault
		running  int
		deadline = time.Now().Add(pushWait)
		grace    <-chan time.Time
	)
	// Those still asked when this returns are waited for by the node.
	defer func() {
		n.tasks.start(func(context.Context) {
			for ; running > 0; running-- {
				n.pushEnded(<-results)
			}
			cancel()
		})
	}()
	for {
		for _, p := range n.pushers.ready(n.pushServers(s)) {
			if asked[p] || running+len(accepted) >= wanted {
				continue
			}
			asked[p] = true
			running++
			if !n.tasks.start(func(context.Context) {
				receipt, err := n.pushClient.Push(ctx, p, s.shard, msg)
				results <- pushResult{p, receipt, err}
			}) {
				running--
				return accepted, errNodeClosed
			}
		}
		if running == 0 {
			switch {
			case len(accepted) > 0:
				return accepted, nil
			case !final && time.Now().Before(deadline): // somebody may turn up, or do better
				clear(asked)
				if !pause(ctx, pushPoll, nil) {
					return nil, cause(ctx, m)
				}
				continue
			case len(failed) > 0:
				return nil, &SendError{Shard: s.shard, Err: errors.Join(failed...)}
			}
			return nil, &SendError{Shard: s.shard, Err: ErrNoServicePeer}
		}
		select {
		case r := <-results:
			running--
			n.pushEnded(r)
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
		case <-grace:
			if len(accepted) > 0 {
				return accepted, nil
			}
		case <-ctx.Done():
			if len(accepted) > 0 {
				return accepted, nil
			}
			return nil, cause(ctx, m)
		}
	}
}

// cause is why a call on a membership ended.
func cause(ctx context.Context, m *Membership) error {
	if err := m.alive(); err != nil {
		return err
	}
	return context.Cause(ctx)
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

// pushEnded leaves a service peer that failed alone for a while.
func (n *Node) pushEnded(r pushResult) {
	var status *lightpush.StatusError
	switch {
	case r.err == nil:
		n.pushers.answered(r.peer)
	case errors.Is(r.err, context.Canceled):
	case errors.As(r.err, &status) && !status.Temporary(): // its opinion of the message
	case errors.As(r.err, &status):
		n.pushers.fail(r.peer, r.err, status.RetryAfter)
	default:
		n.pushers.fail(r.peer, r.err, 0)
	}
}
