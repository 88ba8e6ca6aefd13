package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/message/segment"
	"github.com/status-im/shoal/waku"
)

// charterSize is about what the description of a community of ten thousand takes.
const charterSize = 3 << 20

// routing knows where the description belongs.
func routing() waku.Routing {
	r := waku.RoutingRFC57()
	r.Topics = map[string]waku.Route{charter: {Class: waku.ClassControl}}
	return r
}

// published is the description on its way.
type published struct {
	text            []byte
	segments, data  int
	author, sleeper *member
	awake           uint64 // segments that the sleeper got before it slept
}

// moved is what a node had moved, in bytes.
type moved struct{ in, out float64 }

// freeze notes what everybody moved so far.
func (t *town) freeze() {
	t.moved = map[*prometheus.Registry]moved{}
	note := func(r *prometheus.Registry) {
		in, out := traffic(r)
		t.moved[r] = moved{in, out}
	}
	for _, m := range t.members {
		note(m.metrics)
	}
	note(t.fleet.metrics)
	note(t.second.metrics)
}

// describe publishes the community's description on the control shard. A member sleeps
// through half of it.
func (t *town) describe(ctx context.Context) error {
	t.settle(ctx)
	t.freeze()
	ana, ben := t.members[0], t.members[1]
	c := &t.charter
	*c = published{author: ana, sleeper: ben}
	for i := 0; len(c.text) < charterSize; i++ {
		c.text = fmt.Appendf(c.text, "member %d: 0x%064x\n", i, i*i)
	}
	segments, err := segment.Split(c.text, segment.Size(150<<10))
	if err != nil {
		return err
	}
	c.segments, c.data = len(segments), segments[0].Count
	t.p.scene(fmt.Sprintf("ana publishes who belongs to the community: %s, in %d segments, on shard %s", mib(len(c.text)), c.segments, control))
	began := time.Now()
	half := c.segments / 2
	if err := t.publish(ctx, ana, segments[:half]); err != nil {
		return err
	}
	if err := until(ctx, func() bool { return ben.charter.Stats().Pushed >= uint64(half) }); err != nil {
		return fmt.Errorf("ben, who relays the control shard, got %d of %d segments: %w", ben.charter.Stats().Pushed, half, err)
	}
	ben.node.Pause()
	c.awake = ben.charter.Stats().Pushed
	t.p.fact("ben", fmt.Sprintf("relays that shard, and falls asleep after %d segments", c.awake))
	if err := t.publish(ctx, ana, segments[half:]); err != nil {
		return err
	}
	if _, err := ana.in.Send(ctx, notes, []byte("there is a new charter"), waku.OfClass(waku.ClassControl)); err != nil {
		return fmt.Errorf("ana: %w", err)
	}
	for _, m := range t.members {
		if m == ben {
			continue
		}
		if err := until(ctx, func() bool { return m.knowsCharter(c.text) }); err != nil {
			return fmt.Errorf("%s: no charter: %s: %w", m.name, m.charter.Failure(), err)
		}
	}
	t.p.fact("the others", fmt.Sprintf("have it after %.1f s, from the fleet node's archive", time.Since(began).Seconds()))
	ben.node.Resume()
	began = time.Now()
	if err := until(ctx, func() bool { return ben.knowsCharter(c.text) }); err != nil {
		return fmt.Errorf("ben: no charter: %s: %w", ben.charter.Failure(), err)
	}
	t.p.fact("ben", fmt.Sprintf("wakes up, and has it %.1f s later: %d segments more", time.Since(began).Seconds(), ben.charter.Stats().Fetched))
	return nil
}

// publish sends segments and waits until they have left.
func (t *town) publish(ctx context.Context, m *member, segments []*segment.Segment) error {
	var sent []*waku.Delivery
	for _, s := range segments {
		d, err := m.in.Send(ctx, charter, s.Encode(), waku.OfType(waku.TypeCommunityDescription))
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		sent = append(sent, d)
	}
	for _, d := range sent {
		if err := d.Wait(ctx, waku.Propagated); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// spread tells whether everybody has the description.
func (t *town) spread() claim {
	has := 0
	for _, m := range t.members {
		if m.knowsCharter(t.charter.text) {
			has++
		}
	}
	return claim{has == len(t.members) && has > 0,
		fmt.Sprintf("a description of %s reached %d of %d members", mib(len(t.charter.text)), has, len(t.members))}
}

// apart tells whether nothing of it was on the shard that they talk on.
func (t *town) apart() claim {
	onContent := uint64(0)
	note := func(n *waku.Node) {
		for _, x := range n.Telemetry().Total {
			if x.Shard == shard && x.Class == waku.ClassControl {
				onContent += x.BytesIn + x.BytesOut
			}
		}
	}
	for _, m := range t.members {
		note(m.node)
	}
	note(t.fleet.Node)
	note(t.second.Node)
	return claim{onContent == 0, fmt.Sprintf("%d of its bytes were on the shard that they talk on", onContent)}
}

// once tells whether those who only read it downloaded it once.
func (t *town) once() claim {
	most := 0.0
	for _, m := range t.members {
		if m == t.charter.author || m == t.charter.sleeper {
			continue
		}
		in, out := controlBytes(m.node)
		most = max(most, float64(in+out)/float64(len(t.charter.text)))
	}
	return claim{most > 0.9 && most < 1.1, fmt.Sprintf("members downloaded it once: %.2f times its size at most", most)}
}

// halves tells whether who slept took what was missing, and nothing twice.
func (t *town) halves() claim {
	c := t.charter
	st := c.sleeper.charter.Stats()
	return claim{st.Fetched > 0 && st.Pushed+st.Fetched <= uint64(c.segments) && c.awake < uint64(c.data),
		fmt.Sprintf("who slept through half of it took the other half: %d segments before, %d after, of %d that make it whole",
			st.Pushed, st.Fetched, c.data)}
}

// controlBytes is what the control shard cost a node.
func controlBytes(n *waku.Node) (in, out uint64) {
	for _, x := range n.Telemetry().Total {
		if x.Shard == control {
			in, out = in+x.BytesIn, out+x.BytesOut
		}
	}
	return in, out
}

// costs is a table of what the control shard cost everybody.
func (t *town) costs() [][]string {
	rows := [][]string{{"", "KiB in", "KiB out"}}
	add := func(name string, n *waku.Node) {
		in, out := controlBytes(n)
		rows = append(rows, []string{name, kib(float64(in)), kib(float64(out))})
	}
	for _, m := range t.members {
		name := m.name
		switch m {
		case t.charter.author:
			name += ", who wrote it"
		case t.charter.sleeper:
			name += ", who relays it and slept"
		}
		add(name, m.node)
	}
	add("fleet node", t.fleet.Node)
	add("second one", t.second.Node)
	return rows
}

func mib(bytes int) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
