package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/waku"
)

// claim is what the demo set out to show, and whether it held.
type claim struct {
	held bool
	text string
}

func (t *town) claims() []claim {
	tallies := make([]tally, len(t.members))
	var all tally
	for i, m := range t.members {
		tallies[i] = m.tally(t.due(m))
		all.due += tallies[i].due
		all.ontime += tallies[i].ontime
		all.twice += tallies[i].twice
		all.foreign += tallies[i].foreign
		all.lost += tallies[i].lost
	}
	late := tallies[len(tallies)-1]
	claims := []claim{
		{all.ontime == all.due && all.due > 0,
			fmt.Sprintf("every member got what the others said: %d of %d", all.ontime, all.due)},
		{all.twice == 0 && all.lost == 0, "nothing came twice, nothing was lost"},
		{late.ontime == late.due && late.due > 0,
			fmt.Sprintf("who came late got everything from then on: %d of %d", late.ontime, late.due)},
	}
	tried := 0
	for _, a := range t.tries {
		tried += a.sent
		if a.reason == "disconnected" {
			claims = append(claims, claim{a.refused > 0, "who goes on sending them is disconnected"})
			continue
		}
		claims = append(claims, claim{a.refused >= uint64(a.sent),
			fmt.Sprintf("messages %s are refused at the first hop: %d of %d (%s)", a.what, min(a.refused, uint64(a.sent)), a.sent, a.reason)})
	}
	return append(claims,
		claim{all.foreign == 0, fmt.Sprintf("of the stranger's %d messages no member got any", tried)},
		claim{t.refusedByMembers() == 0, "no member even had to refuse one: the fleet node forwarded none"})
}

// refused is how many messages the fleet node refused for a reason so far.
func (t *town) refused(reason string) uint64 { return refused(t.fleet)[reason] }

func (t *town) refusedByMembers() (n uint64) {
	for _, m := range t.members {
		for _, count := range refused(m.node) {
			n += count
		}
	}
	return n
}

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
		c := m.tally(t.due(m))
		in, out := traffic(m.metrics)
		rows = append(rows, []string{m.name, fmt.Sprint(m.sent), fmt.Sprint(c.ontime), fmt.Sprint(c.due),
			kib(in), kib(out), reasons(refused(m.node))})
	}
	in, out := traffic(t.metrics)
	rows = append(rows, []string{"fleet node", "", "", "", kib(in), kib(out), reasons(refused(t.fleet))})
	t.p.table(rows)
}

func reasons(counts map[string]uint64) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		if counts[reason] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[reason], reason))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func kib(bytes float64) string { return fmt.Sprintf("%.1f", bytes/1024) }

// traffic adds up a node's bandwidth counters.
func traffic(r *prometheus.Registry) (in, out float64) {
	families, err := r.Gather()
	if err != nil {
		return 0, 0
	}
	for _, f := range families {
		if f.GetName() != "shoal_shard_bytes_total" {
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
