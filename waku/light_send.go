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
	// pushGrace is how much longer an attempt waits for the others once one has
	// accepted.
	pushGrace = 500 * time.Millisecond
	// pushPatience is after how long without an answer others are asked beside those
	// who haven't given one.
	pushPatience = 3 * time.Second
	// maxFailures is how many failures an error names, and one more.
	maxFailures = 3
)

// pushResult is what became of pushing to one peer.
type pushResult struct {
	peer    peer.ID
	receipt lightpush.Receipt
	err     error
}

// pushing publishes a message by service peers.
type pushing struct {
	member *Membership
	run    context.Context
	msg    *message.Message
	wanted int
	again  bool // somebody may have it: who doesn't pass it on needn't be at fault
	urgent bool
	skip   func(peer.ID) bool // who isn't asked; nil: nobody

	asking   func() bool      // called before anybody is asked; false: nobody is to be
	accepted func(Acceptance) // called for each that accepts in time
}

// do pushes to as many as are wanted, and when one fails, to another in its place. It
// fails when nobody has accepted.
func (w *pushing) do(ctx context.Context) error {
	m, s := w.member, w.member.shard
	n := s.node
	client := n.pushClient
	if !w.urgent {
		client = n.slowPushClient
	}
	var (
		results  = make(chan pushResult)
		done     = make(chan struct{})
		asked    = map[peer.ID]bool{}
		accepted int
		failed   []error
		running  int
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
			if accepted > 0 {
				stop()
			}
		}
	}()
	for {
		for _, p := range n.pushers.on(s.topic).ready(n.pushServers(s)) {
			if asked[p] || running-slow+accepted >= w.wanted || w.skip != nil && w.skip(p) {
				continue
			}
			if len(asked) == 0 && !w.asking() {
				return errNodeClosed
			}
			asked[p] = true
			pushing, cancel := context.WithCancel(m.ctx)
			release = append(release, context.AfterFunc(ctx, cancel))
			if !n.tasks.start(func(context.Context) {
				defer cancel()
				defer context.AfterFunc(w.run, cancel)()
				n.telemetry.message(s.shard, WayLightPush, w.msg, true, 1)
				receipt, err := client.Push(pushing, p, s.shard, w.msg)
				n.pushEnded(p, s, err, w.again)
				select {
				case results <- pushResult{p, receipt, err}:
				case <-done:
				}
			}) {
				cancel()
				return errNodeClosed
			}
			running++
			late.Reset(pushPatience)
		}
		if running == 0 && accepted > 0 {
			return nil
		}
		if running == 0 {
			return w.nobody(ctx, failed)
		}
		select {
		case r := <-results:
			running--
			slow = min(slow, running)
			if r.err != nil {
				failed = append(failed[max(0, len(failed)-maxFailures):], r.err)
				continue
			}
			accepted++
			w.accepted(Acceptance{Peer: r.peer, RelayPeers: r.receipt.RelayPeers})
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
		case <-w.run.Done():
		}
		if accepted > 0 {
			return nil
		}
		return w.nobody(ctx, failed)
	}
}

// nobody is the error of a push that nobody has accepted.
func (w *pushing) nobody(ctx context.Context, failed []error) error {
	m := w.member
	if err := cmp.Or(m.alive(), context.Cause(w.run)); err != nil {
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
func (n *Node) pushEnded(p peer.ID, s *shard, err error, again bool) {
	rests := n.pushers.on(s.topic)
	var status *lightpush.StatusError
	switch {
	case err == nil:
		rests.answered(p)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && errors.As(err, new(*lightpush.TurnError)):
	case errors.As(err, &status) && !status.Temporary(): // its opinion of the message
	case again && status != nil && status.Code == lightpush.StatusNoPeersToRelay: // it may have had it
	case errors.As(err, &status):
		rests.fail(p, err, status.RetryAfter)
	default:
		rests.fail(p, err, 0)
	}
}
