package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/status-im/shoal/waku"
)

// stateNames are what states are called, in the order in which they are shown.
var stateNames = [states]string{
	alive: "reachable", dead: "unreachable", foreign: "of another network", untried: "not dialled",
}

// shownStates is the order in which states are shown.
var shownStates = []state{alive, dead, foreign, untried}

// report is what a walk has found.
type report struct {
	Network waku.Network
	At      time.Time
	Took    time.Duration
	Total   int
	States  tallies
	Parts   []part
	Asked   []waku.SourceHealth
	Nodes   []*found
}

// tallies count nodes by state.
type tallies [states]int

func (t tallies) total() (n int) {
	for _, one := range t {
		n += one
	}
	return n
}

// deadShare is how many of a hundred nodes that were dialled didn't answer.
func (t tallies) deadShare() (percent, dialled int) {
	if dialled = t[alive] + t[dead]; dialled == 0 {
		return 0, 0
	}
	return (100*t[dead] + dialled/2) / dialled, dialled
}

// part is one question and its answers.
type part struct {
	Title, Note string
	Rows        []row
}

type row struct {
	Name  string
	Nodes tallies

	order int
}

// report puts together what was found.
func (w *walker) report(h waku.Health) *report {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &report{Network: w.node.Network(), At: w.began, Took: w.took.Round(time.Second), Total: len(w.order), Nodes: w.order}
	shards, offers, agents, sources, clusters := rows{}, rows{}, rows{}, rows{}, rows{}
	for _, f := range w.order {
		r.States[f.State]++
		sources.add(visible(f.Source), 0, f)
		cluster, named := clusterOf(f.Discovered)
		if !named {
			clusters.add("none named", 1<<16, f)
		} else {
			clusters.add(fmt.Sprintf("cluster %d", cluster), int(cluster), f)
		}
		if f.State == foreign {
			continue // their shards are others
		}
		for _, s := range f.Shards {
			shards.add(s.String(), int(s.Index), f)
		}
		if len(f.Shards) == 0 {
			shards.add("none named", 1<<16, f)
		}
		for _, c := range f.Capabilities {
			offers.add(visible(c), 0, f)
		}
		if len(f.Capabilities) == 0 {
			offers.add("nothing", 1, f)
		}
		if f.State == alive {
			agents.add(cmp.Or(visible(f.Agent), "doesn't say"), 0, f)
		}
	}
	r.Parts = []part{
		{"Shards", "what the nodes of this network carry", shards.sorted()},
		{"Capabilities", "what they offer to others", offers.sorted()},
		{"Versions", "what the reachable ones call themselves", agents.sorted()},
		{"Sources", "who named them first", sources.sorted()},
		{"Networks", "which cluster they say they are in", clusters.sorted()},
	}
	r.Asked = h.Discovery.Sources
	return r
}

// rows count nodes by name.
type rows map[string]*row

func (rs rows) add(name string, order int, f *found) {
	if rs[name] == nil {
		rs[name] = &row{Name: name, order: order}
	}
	rs[name].Nodes[f.State]++
}

// sorted returns the rows in their order, and within it the largest first.
func (rs rows) sorted() (out []row) {
	for _, one := range rs {
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(b.Nodes.total(), a.Nodes.total()), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// visible keeps what strangers wrote from doing anything to a terminal or a page.
func visible(text string) string {
	for _, r := range text {
		if r == '\uFFFD' || !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}
