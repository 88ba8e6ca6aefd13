package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/waku"
)

// gather brings seven members together.
func (t *town) gather(ctx context.Context) error {
	t.p.scene("A key, two fleet nodes, five members who relay and two light ones")
	t.p.fact("community's public key", short(t.key.PublicKey().Hex(), 16))
	t.p.fact("fleet nodes", fmt.Sprintf("%s and %s, who know that key and no other secret",
		short(t.fleet.PeerID().String(), 16), short(t.second.PeerID().String(), 16)))
	began := time.Now()
	for _, name := range []string{"ana", "ben", "cleo", "dan", "eva"} {
		var opts []waku.JoinOption
		if name == "ben" { // has bandwidth to spare
			opts = append(opts, waku.RelayControl())
		}
		if _, err := t.arrive(ctx, name, false, opts...); err != nil {
			return err
		}
	}
	if err := t.meshed(ctx); err != nil {
		return err
	}
	t.p.fact("members", fmt.Sprintf("ana, ben, cleo, dan and eva relay, connected after %.1f s", time.Since(began).Seconds()))
	began = time.Now()
	for _, name := range []string{"gil", "hana"} {
		if _, err := t.arrive(ctx, name, true); err != nil {
			return err
		}
	}
	if err := t.served(ctx); err != nil {
		return err
	}
	t.p.fact("light members", fmt.Sprintf("gil and hana, served by both fleet nodes after %.1f s", time.Since(began).Seconds()))
	t.present = len(t.members)
	return nil
}

// served waits until two nodes push to each light member.
func (t *town) served(ctx context.Context) error {
	for _, m := range t.lights() {
		if err := until(ctx, func() bool { return m.node.Health().State == waku.Sufficient }); err != nil {
			return fmt.Errorf("%s found no service nodes: %s: %w", m.name, m.node.Health().Summary, err)
		}
	}
	return nil
}

// meshed waits until every node has a mesh, and every link of it two ends: a
// message that arrives in between passes by the newcomer.
func (t *town) meshed(ctx context.Context) error {
	if err := until(ctx, func() bool { return twoEnded(t.links()) }); err != nil {
		return fmt.Errorf("the members found no mesh: %w", err)
	}
	return nil
}

// links are the meshes: who forwards to whom.
func (t *town) links() map[peer.ID]map[peer.ID]bool {
	links := map[peer.ID]map[peer.ID]bool{}
	nodes := []*waku.Node{t.fleet.Node, t.second.Node}
	for _, m := range t.relaying() {
		nodes = append(nodes, m.node)
	}
	for _, n := range nodes {
		to := map[peer.ID]bool{}
		for _, p := range n.Peers() {
			if len(p.Mesh) > 0 {
				to[p.ID] = true
			}
		}
		links[n.PeerID()] = to
	}
	return links
}

func twoEnded(links map[peer.ID]map[peer.ID]bool) bool {
	for from, to := range links {
		if len(to) == 0 {
			return false
		}
		for id := range to {
			if !links[id][from] {
				return false
			}
		}
	}
	return true
}

// plainPeer connects one with the fleet node.
func (t *town) plainPeer(ctx context.Context) (*plainPeer, error) {
	p, err := newPlainPeer(ctx, t.fleet.Addrs()[0])
	if err != nil {
		return nil, err
	}
	if err := until(ctx, func() bool { return p.connected() && t.links()[t.fleet.PeerID()][p.host.ID()] }); err != nil {
		return nil, errors.Join(fmt.Errorf("no connection: %w", err), p.close())
	}
	return p, nil
}

func (t *town) talk(ctx context.Context) error {
	t.p.scene("They talk; every message is signed with the community's key")
	for i, line := range []string{
		"Good morning, everyone!",
		"Morning. Did the new release get out?",
		"Last night. No complaints so far.",
		"Then I'll write the announcement.",
		"I can translate it.",
		"I'm on the train, on a bad line. Reads well.",
		"On my phone too.",
		"This shard has been quiet all week, by the way.",
		"That's how I like it.",
		"Coffee?",
	} {
		if err := t.say(ctx, t.members[i%len(t.members)], line); err != nil {
			return err
		}
	}
	return nil
}

// welcome brings a member in the middle of the conversation.
func (t *town) welcome(ctx context.Context) error {
	t.p.scene("fay comes late")
	t.settle(ctx)
	fay, err := t.arrive(ctx, "fay", false)
	if err != nil {
		return err
	}
	if err := t.meshed(ctx); err != nil {
		return err
	}
	if err := t.readBack(ctx, fay); err != nil {
		return err
	}
	for _, s := range []struct {
		who  *member
		line string
	}{
		{fay, "Hello! So the release is out?"},
		{t.members[0], "It is. Welcome, fay."},
		{t.members[2], "And so is the coffee."},
		{fay, "On my way."},
	} {
		if err := t.say(ctx, s.who, s.line); err != nil {
			return err
		}
	}
	return nil
}

// reading is what somebody read back.
type reading struct {
	due    int // what there was to read
	got    []message.Hash
	signed int // with the community's key
}

// readBack has a member read, from the fleet node's archive, what was said before
// it came.
func (t *town) readBack(ctx context.Context, m *member) error {
	began := time.Now()
	t.read.due = len(t.said)
	for env, err := range m.in.History(ctx, waku.HistoryQuery{ContentTopics: []string{lobby}, Since: began.Add(-time.Hour)}) {
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		t.read.got = append(t.read.got, env.Hash)
		if t.key.PublicKey().Verify(dosguard.Digest(shard.PubsubTopic(), env.Message), env.Message.Meta) {
			t.read.signed++
		}
	}
	t.p.fact("reads back", fmt.Sprintf("%d messages from the fleet node's archive, in %d ms", len(t.read.got), time.Since(began).Milliseconds()))
	return nil
}

// attempt is one thing that the stranger tried.
type attempt struct {
	what    string
	reason  string // for which the fleet node should refuse it
	sent    int
	refused uint64
}

// disturb sends, without the key, everything that the shard must not take.
func (t *town) disturb(ctx context.Context) error {
	t.p.scene("A stranger connects to the fleet node: it knows the shard, but not the key")
	s, err := t.plainPeer(ctx)
	if err != nil {
		return fmt.Errorf("stranger: %w", err)
	}
	defer s.close()
	// Another one only listens, and refuses nothing: it gets all that the fleet
	// node forwards.
	if t.witness, err = t.plainPeer(ctx); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	t.witnessed = len(t.said)
	// It listens; some of what it hears it will send again.
	for _, m := range t.members[:3] {
		if err := t.say(ctx, m, "The announcement is online."); err != nil {
			return err
		}
	}
	if err := until(ctx, func() bool { return len(s.recorded()) >= 3 }); err != nil {
		return fmt.Errorf("stranger: heard nothing to record: %w", err)
	}

	const each = 3
	for _, try := range []struct {
		what, reason string
		make         func(i int) (*message.Message, error)
	}{
		{"unsigned", "no_signature", func(i int) (*message.Message, error) { return spam(i, time.Now()), nil }},
		{"forged", "bad_signature", func(i int) (*message.Message, error) {
			m := spam(i, time.Now())
			m.Meta = forge()
			return m, nil
		}},
		{"stale", "outside_window", func(i int) (*message.Message, error) { return t.stale(i) }},
		{"replayed", "replay", func(i int) (*message.Message, error) {
			m := s.recorded()[i].Clone()
			m.Version = 1 // another wrapping, so that it passes for a new message
			return m, nil
		}},
	} {
		before := t.refused(try.reason)
		for i := range each {
			m, err := try.make(i)
			if err == nil {
				err = s.send(ctx, m)
			}
			if err != nil {
				return fmt.Errorf("stranger: %w", err)
			}
		}
		a := attempt{what: try.what, reason: try.reason, sent: each}
		wait, cancel := context.WithTimeout(ctx, t.patience)
		_ = until(wait, func() bool { // the claims tell whether it was refused
			a.refused = t.refused(try.reason) - before
			return a.refused >= each
		})
		cancel()
		t.tries = append(t.tries, a)
		t.p.refusal(a)
		if err := t.pause(ctx); err != nil {
			return err
		}
	}
	return t.insist(ctx, s)
}

// insist sends unsigned messages until the fleet node has enough.
func (t *town) insist(ctx context.Context, s *plainPeer) error {
	const most = 100
	sent := 0
	for ; sent < most && s.connected(); sent++ {
		if err := s.send(ctx, spam(100+sent, time.Now())); err != nil {
			return fmt.Errorf("stranger: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.tries = append(t.tries, attempt{what: "unsigned", reason: "disconnected", sent: sent})
	select {
	case <-t.cut:
		t.p.fact("it goes on", fmt.Sprintf("and is disconnected after %d more", sent))
		t.tries[len(t.tries)-1].refused = uint64(sent)
	case <-time.After(t.patience):
		t.p.fact("it goes on", fmt.Sprintf("%d more, and is still connected", sent))
	}
	return nil
}

func spam(i int, at time.Time) *message.Message {
	return &message.Message{
		Payload:      fmt.Appendf(nil, "buy number %d now", i),
		ContentTopic: lobby,
		Timestamp:    at.UnixNano(),
	}
}

// stale is a real message of the community's that somebody kept for ten minutes.
func (t *town) stale(i int) (*message.Message, error) {
	m := spam(i, time.Now().Add(-10*time.Minute))
	m.Payload = fmt.Appendf(nil, "ana: yesterday's news %d", i)
	return m, t.key.Sign(shard.PubsubTopic(), m)
}

func (t *town) carryOn(ctx context.Context) error {
	t.p.scene("The community didn't notice")
	for i, line := range []string{"Did anybody hear something?", "No. Quiet as ever.", "Not a thing here."} {
		if err := t.say(ctx, t.members[(i*2+1)%len(t.members)], line); err != nil {
			return err
		}
	}
	return nil
}

func short(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n] + "…"
}
