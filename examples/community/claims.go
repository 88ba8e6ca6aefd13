package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/waku"
)

// claim is what the demo set out to show, and whether it held.
type claim struct {
	held bool
	text string
}

func (t *town) claims(ctx context.Context) []claim {
	tallies := make([]tally, len(t.members))
	var all tally
	for i, m := range t.members {
		tallies[i] = m.tally(t.due(m), t.real())
		all.due += tallies[i].due
		all.got += tallies[i].got
		all.twice += tallies[i].twice
		all.foreign += tallies[i].foreign
		all.lost += tallies[i].lost
	}
	late := tallies[len(tallies)-1]
	claims := []claim{
		{all.got == all.due && all.due > 0,
			fmt.Sprintf("every member got what the others said: %d of %d", all.got, all.due)},
		{all.twice == 0 && all.lost == 0, "nothing came twice, nothing was lost"},
		{t.alike(), fmt.Sprintf("relay or light, the same: each of the %d who were there all the time knows the same %d messages", t.present, len(t.said))},
		t.frugal(),
		{late.got == late.due && late.due > 0,
			fmt.Sprintf("who came late got everything from then on: %d of %d", late.got, late.due)},
		{t.read.complete(t.said), fmt.Sprintf("and read back what had been said before: %d of %d, in order, once, signed", t.read.signed, t.read.due)},
	}
	tried := 0
	for _, a := range t.tries {
		tried += a.sent
		if a.reason == "disconnected" {
			claims = append(claims, claim{a.refused > 0, "who goes on sending them is disconnected"})
			continue
		}
		claims = append(claims, claim{a.refused >= uint64(a.sent),
			fmt.Sprintf("%s messages are refused at the first hop: %d of %d (%s)", a.what, min(a.refused, uint64(a.sent)), a.sent, a.reason)})
	}
	heard := t.testimony()
	return append(claims,
		claim{all.foreign == 0, fmt.Sprintf("of the stranger's %d messages no member got any", tried)},
		claim{heard.foreign == 0 && heard.missed == 0 && heard.members > 0,
			fmt.Sprintf("a listener that refuses nothing got %d messages of members from the fleet node, and %d others", heard.members, heard.foreign)},
		claim{t.archived(ctx), fmt.Sprintf("the fleet node's archive holds the members' %d messages and nothing else", len(t.said))},
		t.spread(), t.apart(), t.once(), t.halves())
}

// alike tells whether all who were there from the beginning know just what was said.
func (t *town) alike() bool {
	real := t.real()
	for _, m := range t.members[:t.present] {
		knows := m.heard()
		for _, s := range t.said {
			if s.by == m {
				knows[s.hash] = true
			}
		}
		if !maps.Equal(knows, real) {
			return false
		}
	}
	return true
}

// frugal compares what relaying and light members moved, on average, for the same
// messages.
func (t *town) frugal() claim {
	var in, out, n [2]float64
	for _, m := range t.members[:t.present] {
		kind := 0
		if m.light {
			kind = 1
		}
		i, o := t.traffic(m.metrics)
		in[kind], out[kind], n[kind] = in[kind]+i, out[kind]+o, n[kind]+1
	}
	for kind := range n {
		in[kind], out[kind] = in[kind]/n[kind], out[kind]/n[kind]
	}
	relay, light := in[0]+out[0], in[1]+out[1]
	return claim{in[1] > 0 && out[1] > 0 && light < relay,
		fmt.Sprintf("and light costs %.0f%% of the bytes: %s KiB in and %s out, against %s in and %s out",
			100*light/relay, kib(in[1]), kib(out[1]), kib(in[0]), kib(out[0]))}
}

// complete tells whether exactly what there was to read was read, in order.
func (r reading) complete(all []said) bool {
	return slices.Equal(r.got, hashes(all[:r.due])) && r.signed == r.due && r.due > 0
}

// archived tells whether the archive holds exactly what members said, in order.
func (t *town) archived(ctx context.Context) bool {
	page, err := t.archive.Query(ctx, store.Query{Shard: &shard, Limit: store.MaxPageSize, HashesOnly: true})
	var kept []message.Hash
	for _, e := range page.Entries {
		kept = append(kept, e.Hash)
	}
	return err == nil && slices.Equal(kept, hashes(t.said))
}

func hashes(said []said) (list []message.Hash) {
	for _, s := range said {
		list = append(list, s.hash)
	}
	return list
}

// testimony is what the witness heard.
type testimony struct{ members, foreign, missed int }

func (t *town) testimony() (e testimony) {
	real := t.real()
	heard := map[message.Hash]bool{}
	for _, m := range t.witness.recorded() {
		hash := m.Hash(shard.PubsubTopic())
		if real[hash] && !heard[hash] {
			e.members++
		} else {
			e.foreign++ // or somebody's message a second time
		}
		heard[hash] = true
	}
	for _, s := range t.said[t.witnessed:] {
		if !heard[s.hash] {
			e.missed++
		}
	}
	return e
}

// refused is how many messages the fleet node refused for a reason so far.
func (t *town) refused(reason string) uint64 { return refused(t.fleet.Node)[reason] }

func refused(n *waku.Node) map[string]uint64 {
	for _, s := range n.Health().Shards {
		if s.Shard == shard {
			return s.Refused
		}
	}
	return nil
}

func (t *town) table() {
	rows := [][]string{{"", "sent", "got", "of", "KiB in", "KiB out", "refused"}}
	for _, m := range t.members {
		c := m.tally(t.due(m), t.real())
		in, out := t.traffic(m.metrics)
		name := m.name
		if m.light {
			name += ", light"
		}
		rows = append(rows, []string{name, fmt.Sprint(m.sent), fmt.Sprint(c.got), fmt.Sprint(c.due),
			kib(in), kib(out), sum(refused(m.node))})
	}
	for _, f := range []struct {
		name string
		node *fleetNode
	}{{"fleet node", t.fleet}, {"second one", t.second}} {
		in, out := t.traffic(f.node.metrics)
		rows = append(rows, []string{f.name, "", "", "", kib(in), kib(out), sum(refused(f.node.Node))})
	}
	t.p.table(rows)
	t.p.text("   what the description cost, beside:")
	t.p.table(t.costs())
	t.p.text("   refused by the fleet node: %s\n", reasons(refused(t.fleet.Node)))
}

func sum(counts map[string]uint64) string {
	var n uint64
	for _, count := range counts {
		n += count
	}
	return fmt.Sprint(n)
}

func reasons(counts map[string]uint64) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		if counts[reason] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[reason], reason))
		}
	}
	return strings.Join(parts, ", ")
}

func kib(bytes float64) string { return fmt.Sprintf("%.1f", bytes/1024) }

// counters are a node's of what it moved: messages with all their copies, and what
// is said about them. What a light member asks for isn't among it: a request of some
// hundred bytes, and a ping a minute.
var counters = []string{"waku_relay_bytes_total", "waku_relay_control_bytes_total", "waku_filter_bytes_total", "waku_lightpush_bytes_total"}

// traffic is what a node had moved before the description was published.
func (t *town) traffic(r *prometheus.Registry) (in, out float64) {
	if m, ok := t.moved[r]; ok {
		return m.in, m.out
	}
	return traffic(r)
}

// traffic adds up a node's bandwidth counters.
func traffic(r *prometheus.Registry) (in, out float64) {
	families, err := r.Gather()
	if err != nil {
		return 0, 0
	}
	for _, f := range families {
		if !slices.Contains(counters, f.GetName()) {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				switch l.GetValue() {
				case "in":
					in += m.GetCounter().GetValue()
				case "out":
					out += m.GetCounter().GetValue()
				}
			}
		}
	}
	return in, out
}
