package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/status-im/shoal/relay"
)

// Mode says how a member takes part in a shard.
type Mode uint8

// The modes.
const (
	// ModeRelay: by the shard's relay mesh, passing on what others send.
	ModeRelay Mode = iota + 1
	// ModeLight: by service peers, who push what the member's readers ask for
	// (filter) and publish what it sends (light push).
	ModeLight
)

// String returns "relay" or "light".
func (m Mode) String() string {
	switch m {
	case ModeRelay:
		return "relay"
	case ModeLight:
		return "light"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// AsRelay takes part in the shard's relay mesh. It is the default.
func AsRelay() JoinOption { return func(c *joinConfig) { c.modes = append(c.modes, ModeRelay) } }

// AsLight takes part without relaying: what the membership's readers ask for comes
// through the filter protocol from two service peers at a time, and what it sends
// goes out by light push. Readers must name their content topics. On a shard that
// another membership of the node relays, a light one shares that.
func AsLight() JoinOption { return func(c *joinConfig) { c.modes = append(c.modes, ModeLight) } }

// needsTopics tells whether readers must name their content topics: the membership is
// light, or about to be.
func (m *Membership) needsTopics() bool {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	return m.mode == ModeLight || m.goingLight
}

// switchSettle is how long the new way must have stood before the old one is left:
// what is on its way by the old one arrives meanwhile.
const switchSettle = 3 * time.Second

// switchLook is how often is looked whether the new way stands.
const switchLook = 100 * time.Millisecond

// Mode is how the membership takes part.
func (m *Membership) Mode() Mode {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	return m.mode
}

// Switch changes how the membership takes part. It returns when the new way has
// proven itself, and leaves the old one only then: messages come by both
// meanwhile, once each. When ctx ends before, or the membership does, everything
// is as it was, and the error says what was missing; so it is when the node is
// paused, and the error is [ErrPaused]. Going light, readers of all
// content topics are an error that is [ErrTopicsNeeded].
func (m *Membership) Switch(ctx context.Context, mode Mode) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	select {
	case m.switching <- struct{}{}:
		defer func() { <-m.switching }()
	case <-ctx.Done():
		return cmp.Or(m.alive(), context.Cause(ctx))
	}
	if err := m.alive(); err != nil {
		return err
	}
	if m.Mode() == mode {
		return nil
	}
	run, err := m.shard.node.gate.enter(ctx)
	if err != nil {
		return cmp.Or(m.alive(), err)
	}
	ctx, done := during(ctx, run)
	defer done()
	switch mode {
	case ModeRelay:
		err = m.goRelay(ctx)
	case ModeLight:
		err = m.goLight(ctx)
	default:
		return fmt.Errorf("waku: Switch: there is no %s", mode)
	}
	if err != nil {
		return cmp.Or(m.alive(), err)
	}
	m.shard.node.shardsChanged()
	return nil
}

func (m *Membership) goRelay(ctx context.Context) error {
	s := m.shard
	hold, err := s.hold()
	if err != nil {
		return err
	}
	for !stood(s.meshSince(), switchSettle) {
		if !pause(ctx, switchLook, nil) {
			return errors.Join(fmt.Errorf("waku: shard %s: going relay: no mesh: %w", s.shard, context.Cause(ctx)), s.release(hold))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, in := s.members[m]; !in {
		return errors.Join(errLeft, s.releaseLocked(hold))
	}
	m.hold, m.mode = hold, ModeRelay
	s.light.changed()
	return nil
}

func (m *Membership) goLight(ctx context.Context) error {
	s := m.shard
	set := func(going bool, mode Mode) (left bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		m.goingLight, m.mode = going, mode
		_, in := s.members[m]
		return !in
	}
	set(true, ModeRelay)
	if err := m.checkTopics(); err != nil { // nobody gets in between
		set(false, ModeRelay)
		return err
	}
	s.light.start()
	s.light.changed()
	for {
		why := s.light.proven(switchSettle)
		if why == nil {
			break
		}
		if !pause(ctx, switchLook, nil) {
			set(false, ModeRelay)
			s.light.changed()
			return fmt.Errorf("waku: shard %s: going light: %w: %w", s.shard, why, context.Cause(ctx))
		}
	}
	if set(false, ModeLight) {
		return errLeft
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	hold := m.hold
	m.hold = nil
	return s.releaseLocked(hold)
}

// hold joins the shard's mesh, and begins what goes with it. What holds the shard
// reads nothing: no message has an empty content topic.
func (s *shard) hold() (*relay.Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdLocked()
}

// holdLocked is hold. mu is held.
func (s *shard) holdLocked() (*relay.Subscription, error) {
	hold, err := s.node.relay.Subscribe(s.shard, relay.SubscribeConfig{Buffer: 1, ContentTopics: []string{""}, Service: true})
	if err != nil {
		return nil, fmt.Errorf("waku: joining shard %s: %w", s.shard, err)
	}
	s.holds++
	if err := errors.Join(s.beginArchive(), s.beginFilter()); err != nil {
		return nil, errors.Join(fmt.Errorf("waku: joining shard %s: %w", s.shard, err), s.releaseLocked(hold))
	}
	return hold, nil
}

func (s *shard) release(hold *relay.Subscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.releaseLocked(hold)
}

// releaseLocked gives up a hold; the last one's end is that of what goes with the
// mesh. mu is held.
func (s *shard) releaseLocked(hold *relay.Subscription) error {
	if hold == nil {
		return nil
	}
	err := hold.Close()
	if s.holds--; s.holds == 0 {
		s.endArchive()
		s.endFilter()
		s.mesh.Store(0)
		s.gaps.changed()
	}
	s.light.changed()
	return err
}
