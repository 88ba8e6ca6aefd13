package waku

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// hangUpTimeout bounds closing connections, for what isn't ours may hang.
	hangUpTimeout = 500 * time.Millisecond
	// maxRedial is how many peers are remembered while the node is paused,
	// redialAtOnce how many of them are dialled at a time, and redialTries how
	// often each is tried.
	maxRedial    = 64
	redialAtOnce = 16
	redialTries  = 4
	// redialStands is how long a connection must stand to count.
	redialStands = 2 * time.Second
)

// Pause stops the node until Resume, as a phone's program does when it is put in
// the background: within a second all connections are closed, none is accepted or
// dialled, and nothing of the node runs or waits for a time. Memberships, readers,
// keys and the memory of replays stay. [Membership.Send], [Membership.Switch],
// [Node.Connect] and [Membership.History] fail with [ErrPaused], also when they had
// begun; what was sent and hasn't left leaves after Resume; a history with Follow goes on after Resume, and readers of messages wait.
// What the application has given the node (host, archive) goes on by itself.
//
// Pause doesn't wait; a NodePaused event tells when it is done. It is idempotent.
func (n *Node) Pause() { n.gate.shut() }

// Resume ends a pause: static peers and those that were connected are dialled, light
// members ask service peers again, and what was missed is read from store nodes as
// after a lost connection. It doesn't wait; a NodeResumed event tells when calls
// work again, which wait for that. It is idempotent.
func (n *Node) Resume() { n.gate.wish() }

// pausing is what a pause keeps in mind.
type pausing struct {
	node  *Node
	peers []peer.AddrInfo
}

// keepGate does what Pause and Resume ask for.
func (n *Node) keepGate(ctx context.Context) {
	for {
		_, open, run, _ := n.gate.look()
		if open {
			select {
			case <-run.Done():
			case <-ctx.Done():
				return
			}
		}
		p := &pausing{node: n}
		p.quiet(ctx)
		n.emit(Event{Kind: NodePaused})
		for up := false; !up; {
			paused, _, _, change := n.gate.look()
			if paused {
				select {
				case <-change:
				case <-ctx.Done():
					return
				}
				continue
			}
			p.wake()
			if up = n.gate.reopen(); !up {
				p.quiet(ctx)
			}
		}
		p.back()
		n.emit(Event{Kind: NodeResumed})
	}
}

// quiet ends all that goes on.
func (p *pausing) quiet(ctx context.Context) {
	n := p.node
	for _, s := range n.shards.all() {
		s.quietAlarm()
		s.light.suspend()
	}
	if sent := n.lastSent.Load(); sent != nil {
		pause(ctx, sendGrace-time.Since(*sent), nil) // what was sent may leave
	}
	if p.peers == nil {
		p.peers = n.acquaintances()
	}
	n.hangUp(ctx)
	n.relay.Pause()
	n.helper.review()
	if n.registration != nil {
		n.registration.registrar.Pause()
	}
	if n.filterServer != nil {
		n.filterServer.EvictAll()
	}
	n.saveMarks()
}

// acquaintances are the peers that a pause parts from, those first that this node
// has dialled. Static peers aren't among them.
func (n *Node) acquaintances() []peer.AddrInfo {
	type known struct {
		info    peer.AddrInfo
		inbound bool
	}
	n.peers.mu.Lock()
	var all []known
	for id, r := range n.peers.m {
		if r.proven && !r.punched && !n.isStatic(id) {
			k := known{peer.AddrInfo{ID: id}, r.inbound}
			if addr, err := ma.NewMultiaddr(r.addr); err == nil && !r.inbound {
				k.info.Addrs = []ma.Multiaddr{addr}
			}
			all = append(all, k)
		}
	}
	n.peers.mu.Unlock()
	slices.SortStableFunc(all, func(a, b known) int { return order(a.inbound, b.inbound) })
	out := []peer.AddrInfo{}
	for _, k := range all {
		k.info.Addrs = append(k.info.Addrs, n.host.Peerstore().Addrs(k.info.ID)...)
		if len(k.info.Addrs) > 0 && len(out) < maxRedial {
			out = append(out, k.info)
		}
	}
	return out
}

// hangUp closes all connections.
func (n *Node) hangUp(ctx context.Context) {
	var closing sync.WaitGroup
	for _, p := range n.host.Network().Peers() {
		closing.Add(1)
		if !n.tasks.start(func(context.Context) {
			defer closing.Done()
			n.drop(p, "the node is paused")
		}) {
			closing.Done()
		}
	}
	done := make(chan struct{})
	n.tasks.start(func(context.Context) { closing.Wait(); close(done) })
	pause(ctx, hangUpTimeout, done)
}

// wake makes what loops need that are about to go on.
func (p *pausing) wake() {
	n := p.node
	for _, s := range n.shards.all() {
		s.light.suspend()
	}
	if err := n.relay.Resume(); err != nil && !n.isClosed() {
		n.cfg.logger.Error("relay doesn't go on after the pause", "err", line(err))
	}
	n.clock.check()
}

// back looks for those who were there.
func (p *pausing) back() {
	n := p.node
	for _, s := range n.shards.all() {
		s.tellExpired()
		s.light.changed()
	}
	n.helper.review()
	if n.registration != nil {
		n.registration.registrar.Resume()
	}
	_, _, run, _ := n.gate.look()
	slots := make(chan struct{}, redialAtOnce)
	for _, info := range p.peers {
		n.tasks.start(func(ctx context.Context) {
			ctx, done := during(ctx, run)
			defer done()
			for try := range redialTries {
				if n.redial(ctx, info, slots) || !pause(ctx, firstPause<<(2*try), nil) {
					return
				}
			}
		})
	}
}

// redial returns false if it is worth another try.
func (n *Node) redial(ctx context.Context, info peer.AddrInfo, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return true
	}
	if n.peers.get(info.ID) != nil {
		return true
	}
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	r, err := n.connect(dialling, info)
	if err != nil {
		return false
	}
	pause(ctx, redialStands, r.gone) // it may have turned this node away just now, and do so again
	return n.peers.get(info.ID) == r
}

// quietAlarm waits for no key's end.
func (s *shard) quietAlarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alarm != nil {
		s.alarm.Stop()
		s.alarm = nil
	}
}

// suspend ends all links, because of a pause. What isn't pushed from now on is a gap.
func (l *lightShard) suspend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.byAge() {
		l.end(k, ErrPaused)
	}
	l.cover(l.shard.node.moment())
	l.tell(len(l.topics) > 0)
}
