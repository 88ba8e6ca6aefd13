package waku

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

// pushed is told of every push that was asked for.
func (n *Node) pushed(p filter.Push) {
	id, err := sharding.ParsePubsubTopic(p.PubsubTopic)
	if err != nil {
		return
	}
	if s := n.shards.get(id); s != nil {
		n.telemetry.message(id, WayFilter, p.Message, false, 1)
		s.light.pushed(p)
	}
}

// pushed takes one message of a service peer. A copy is nobody's fault, and isn't
// judged again.
func (l *lightShard) pushed(p filter.Push) {
	s := l.shard
	if l.isLeft(p.From) {
		return
	}
	_, known := s.node.relay.Had(s.shard, p.Hash)
	if !known {
		judged := l.judging(p.From)
		err := s.genuine(p.From, p.Message)
		judged()
		var lie *forgedError
		switch {
		case errors.As(err, &lie):
			l.forged(p.From, err)
			return
		case err != nil:
			l.count()
			return
		}
	}
	// Delivering and taking note are one, or a copy that comes at the same time
	// would be taken note of first, and then not at all.
	l.mu.Lock()
	defer l.mu.Unlock()
	news := !known && s.node.relay.Deliver(s.shard, p.From, p.Message)
	now := s.node.moment()
	k := l.links[p.From]
	if k == nil || k.err != nil {
		return
	}
	k.pushed++
	k.prove(now)
	idle := len(l.probes.order) == 0
	l.probes.note(p, now, news)
	if idle && news {
		l.changed() // somebody has to look when the time has come
	}
}

// isLeft tells whether a peer was left for what it pushed.
func (l *lightShard) isLeft(p peer.ID) bool {
	if !l.rests().isLiar(p) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.links[p]
	return k == nil || k.err != nil
}

// judging notes that a peer's push is being judged, which holds up the next ones, until
// judged is called.
func (l *lightShard) judging(p peer.ID) (judged func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.links[p]
	if k == nil || len(l.shard.plugins) == 0 { // signatures are quick
		return func() {}
	}
	k.judged++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		k.judged--
	}
}

func (l *lightShard) count() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
}

// genuine holds a message that came from a service peer, or is about to go to one,
// against the shard's rules. It doesn't touch the relay's memory of replays. A
// *forgedError blames the bringer.
func (s *shard) genuine(from peer.ID, m *message.Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	protected := s.protected.Load()
	in := &message.Received{PubsubTopic: s.topic, Message: m, From: string(from), At: s.node.cfg.now()}
	if protected {
		var refused *dosguard.RefusedError
		err := s.signed.Verify(s.topic, m, true)
		switch {
		case errors.As(err, &refused) && refused.Reason.Verdict() == message.Reject:
			return &forgedError{refused.Reason.String()}
		case err != nil && refused != nil && refused.Reason == dosguard.ReasonOutsideWindow:
			s.screen(in) // it may say something about the clock
			return err
		case err != nil:
			return err
		}
		if from != "" {
			s.node.clock.inside()
		}
	}
	for _, p := range s.plugins {
		switch p.validate(s.node.tasks.ctx, in) {
		case message.Accept:
		default: // a service peer needn't know the application's rules
			return fmt.Errorf("validator %q doesn't accept it", p.budget.Name())
		}
	}
	if !protected && s.protected.Load() || protected && len(s.plugins) > 0 && s.signed.Verify(s.topic, m, false) != nil {
		return errors.New("the shard's keys changed meanwhile")
	}
	return nil
}
