package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// picture is the map of a network: its shards stand in a ring, and nodes that carry
// the same ones are a heap of dots among them, with a thread to each. Nodes of no
// known place stand aside. Lengths are units of the drawing.
type picture struct {
	Width, Height float64
	Ring          circle
	Hubs          []hub
	Threads       []thread
	Faint         float64 // opacity of the threads
	Heaps         []heap
	Islands       []island
}

type point struct{ X, Y float64 }

type circle struct {
	point
	R float64
}

// hub is a shard, or all that there is no room for.
type hub struct {
	circle
	Name, Note string
	Key        string
	Hue        int
	Label      point
	Anchor     string // of the label's text
}

// thread says that the nodes of a heap carry a hub's shard.
type thread struct {
	From, Bend, To point
	Width          float64
	Hue            int
	Keys           string
}

// heap is nodes that carry the same shards.
type heap struct {
	circle
	Keys string // of its hubs, with spaces between
	Dots []dot

	hubs   []int
	anchor point
	nodes  []*found
}

// dot is a node.
type dot struct {
	circle
	Class    string // of its state
	Services bool
	Title    string
}

// Halo is the radius of the ring around a node that serves others.
func (d dot) Halo() float64 { return d.R + min(2.2, d.R/2) }

// Line is how thick lines of the dot are.
func (d dot) Line() float64 { return min(1.6, d.R/3) }

// island is a heap of those who have no place on the map.
type island struct {
	Title string
	At    point
	Dots  []dot
	More  string
}

const (
	mapWidth, mapHeight = 980.0, 640.0
	ringRadius          = 238.0
	maxHubs             = 18
	biggestDot          = 8.0
	islandWidth         = 250.0
	islandRows          = 5
)

// draw makes the picture of a report.
func draw(r *report) *picture {
	p := &picture{Width: mapWidth, Height: mapHeight}
	names := p.place(r)
	if len(p.Islands) == 0 {
		p.Ring = circle{point{mapWidth / 2, mapHeight / 2}, ringRadius}
	} else {
		p.Ring = circle{point{(mapWidth - islandWidth) / 2, mapHeight / 2}, ringRadius}
	}
	p.hubs(names)
	p.arrange()
	p.threads()
	return p
}

// others is the hub of all shards that have none of their own.
const others = "others"

// place puts nodes into heaps and islands, and returns the hubs' names and how many
// nodes each has.
func (p *picture) place(r *report) (names []row) {
	for _, part := range r.Parts[:1] { // shards, by number
		for _, one := range part.Rows {
			if one.order <= math.MaxUint16 {
				names = append(names, one)
			}
		}
	}
	if len(names) > maxHubs { // the largest, by number again
		slices.SortStableFunc(names, func(a, b row) int { return cmp.Compare(b.Nodes.total(), a.Nodes.total()) })
		names = names[:maxHubs-1]
		slices.SortFunc(names, func(a, b row) int { return cmp.Compare(a.order, b.order) })
		names = append(names, row{Name: others})
	}
	number := map[string]int{}
	for i, one := range names {
		number[one.Name] = i
	}
	heaps, aside := map[string]*heap{}, map[string][]*found{}
	var order []string
	for _, f := range r.Nodes {
		cluster, named := clusterOf(f.Discovered)
		switch {
		case f.State == foreign && named && cluster != r.Network.Cluster:
			aside[fmt.Sprintf("cluster %d", cluster)] = append(aside[fmt.Sprintf("cluster %d", cluster)], f)
			continue
		case f.State == foreign:
			aside["elsewhere, when asked"] = append(aside["elsewhere, when asked"], f)
			continue
		case !named:
			aside["no shard named"] = append(aside["no shard named"], f)
			continue
		}
		var hubs []int
		for _, s := range f.Shards {
			i, ok := number[s.String()]
			if !ok {
				i = len(names) - 1 // the others
			}
			if slices.Contains(hubs, i) {
				continue
			}
			if hubs = append(hubs, i); !ok {
				names[i].Nodes[f.State]++
			}
		}
		slices.Sort(hubs)
		key := keys(hubs)
		if heaps[key] == nil {
			heaps[key] = &heap{Keys: key, hubs: hubs}
			order = append(order, key)
		}
		heaps[key].nodes = append(heaps[key].nodes, f)
	}
	slices.Sort(order) // the same network gives the same picture
	for _, key := range order {
		h := heaps[key]
		slices.SortStableFunc(h.nodes, func(a, b *found) int { return cmp.Compare(rank(a.State), rank(b.State)) })
		p.Heaps = append(p.Heaps, *h)
	}
	p.islands(aside)
	return names
}

// rank puts the reachable ones into the middle of a heap.
func rank(s state) int { return slices.Index(shownStates, s) }

func keys(hubs []int) string {
	var words []string
	for _, i := range hubs {
		words = append(words, fmt.Sprintf("h%d", i))
	}
	return strings.Join(words, " ")
}

// hubs puts the shards into a ring, beginning at the top.
func (p *picture) hubs(names []row) {
	most := 1
	for _, one := range names {
		if one.Name != others {
			most = max(most, one.Nodes.total())
		}
	}
	for i, one := range names {
		angle := 2*math.Pi*float64(i)/float64(len(names)) - math.Pi/2
		sin, cos := math.Sincos(angle)
		h := hub{
			circle: circle{p.at(cos, sin, 0), 4 + 8*math.Sqrt(min(1, float64(one.Nodes.total())/float64(most)))},
			Name:   one.Name[strings.IndexByte(one.Name, '/')+1:], Note: count(one.Nodes.total(), "node"),
			Key: fmt.Sprintf("h%d", i), Hue: 360 * i / len(names), Anchor: "middle",
		}
		h.Label = p.at(cos, sin, h.R+11)
		switch {
		case cos > 0.3:
			h.Anchor = "start"
		case cos < -0.3:
			h.Anchor = "end"
		}
		h.Label.Y += 9*sin - 6 // the label has two lines
		p.Hubs = append(p.Hubs, h)
	}
}

// at is a point of the ring, or so far outside.
func (p *picture) at(cos, sin, outside float64) point {
	r := p.Ring.R + outside
	return point{p.Ring.X + cos*r, p.Ring.Y + sin*r}
}

// arrange puts each heap between its shards, and moves heaps apart that touch.
func (p *picture) arrange() {
	total := 0
	for _, h := range p.Heaps {
		total += len(h.nodes)
	}
	// All dots together cover a part of the ring.
	gap := min(14, ringRadius*math.Sqrt(0.28/float64(max(1, total))))
	for i := range p.Heaps {
		h := &p.Heaps[i]
		for _, at := range h.hubs {
			h.anchor.X += (p.Hubs[at].X - p.Ring.X) / float64(len(h.hubs))
			h.anchor.Y += (p.Hubs[at].Y - p.Ring.Y) / float64(len(h.hubs))
		}
		near := 0.9
		if len(h.hubs) == 1 {
			near = 0.66
		}
		h.anchor = point{p.Ring.X + near*h.anchor.X, p.Ring.Y + near*h.anchor.Y}
		// A nudge, so that heaps with one anchor part.
		sin, cos := math.Sincos(float64(i) * 2.4)
		h.circle = circle{point{h.anchor.X + cos, h.anchor.Y + sin}, gap * (math.Sqrt(float64(len(h.nodes))) + 0.8)}
	}
	// Many heaps take long, and have no room to part anyway.
	for range min(400, 1+40_000_000/(1+len(p.Heaps)*len(p.Heaps))) {
		p.part()
	}
	for i := range p.Heaps {
		h := &p.Heaps[i]
		for k, f := range h.nodes {
			sin, cos := math.Sincos(float64(k) * 2.39996) // as in a sunflower
			r := gap * math.Sqrt(float64(k)+0.5)
			if len(h.nodes) == 1 {
				r = 0
			}
			at := point{h.X + cos*r, h.Y + sin*r}
			h.Dots = append(h.Dots, newDot(f, circle{at, min(biggestDot, 0.6*gap)}))
		}
	}
}

// part moves heaps a little: apart where they touch, and towards their anchors.
func (p *picture) part() {
	for i := range p.Heaps {
		a := &p.Heaps[i]
		a.X += 0.02 * (a.anchor.X - a.X)
		a.Y += 0.02 * (a.anchor.Y - a.Y)
		for k := range i {
			b := &p.Heaps[k]
			dx, dy := a.X-b.X, a.Y-b.Y
			d := math.Hypot(dx, dy)
			if overlap := a.R + b.R + 6 - d; overlap > 0 && d > 0 {
				dx, dy = dx/d*overlap/2, dy/d*overlap/2
				a.X, a.Y, b.X, b.Y = a.X+dx, a.Y+dy, b.X-dx, b.Y-dy
			}
		}
		// Nobody leaves the ring.
		dx, dy := a.X-p.Ring.X, a.Y-p.Ring.Y
		if d, most := math.Hypot(dx, dy), max(1, p.Ring.R-a.R-18); d > most {
			a.X, a.Y = p.Ring.X+dx/d*most, p.Ring.Y+dy/d*most
		}
	}
}

// threads lead from heaps to hubs, fainter if there are many.
func (p *picture) threads() {
	for _, h := range p.Heaps {
		for _, i := range h.hubs {
			from, to := p.Hubs[i].point, h.point
			mid := point{(from.X + to.X) / 2, (from.Y + to.Y) / 2}
			p.Threads = append(p.Threads, thread{
				From: from, To: to, Hue: p.Hubs[i].Hue, Keys: h.Keys,
				Bend:  point{mid.X + 0.12*(to.Y-from.Y), mid.Y - 0.12*(to.X-from.X)},
				Width: min(12, 1.2+1.1*math.Log2(float64(len(h.nodes)))),
			})
		}
	}
	p.Faint = min(0.42, 4/math.Sqrt(float64(1+len(p.Threads))))
}

// islands puts those without a place on the map into a column.
func (p *picture) islands(aside map[string][]*found) {
	var titles []string
	for title := range aside {
		titles = append(titles, title)
	}
	slices.SortFunc(titles, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(aside[b]), len(aside[a])), cmp.Compare(a, b))
	})
	const step, perRow = 17.0, 13
	y := 60.0
	for _, title := range titles {
		nodes := aside[title]
		i := island{Title: fmt.Sprintf("%s: %s", title, count(len(nodes), "node")), At: point{mapWidth - islandWidth + 4, y}}
		shown := min(len(nodes), islandRows*perRow)
		for k, f := range nodes[:shown] {
			at := point{i.At.X + biggestDot + step*float64(k%perRow), y + 20 + step*float64(k/perRow)}
			i.Dots = append(i.Dots, newDot(f, circle{at, biggestDot - 1}))
		}
		y += 20 + step*math.Ceil(float64(shown)/perRow) + 22
		if y > mapHeight {
			break // the table has them all
		}
		if shown < len(nodes) {
			i.More = fmt.Sprintf("… and %d more", len(nodes)-shown)
		}
		p.Islands = append(p.Islands, i)
	}
}

func newDot(f *found, c circle) dot {
	return dot{circle: c, Class: stateClasses[f.State], Services: services(f), Title: describe(f)}
}

// stateClasses are the states' names in the style sheet.
var stateClasses = [states]string{alive: "alive", dead: "dead", foreign: "foreign", untried: "untried"}

// services tells whether a node offers something to those who don't relay.
func services(f *found) bool {
	return slices.ContainsFunc(f.Capabilities, func(c string) bool { return c == "store" || c == "filter" || c == "lightpush" })
}

// describe is a node in a few lines.
func describe(f *found) string {
	lines := []string{f.ID.String(), stateNames[f.State]}
	if f.Why != "" {
		lines[1] += ": " + visible(f.Why)
	}
	lines = append(lines, "shards: "+cmp.Or(shardList(f), "none named"), "offers: "+cmp.Or(visible(strings.Join(f.Capabilities, ", ")), "nothing"))
	if f.Agent != "" {
		lines = append(lines, "calls itself: "+visible(f.Agent))
	}
	return strings.Join(append(lines, "named by: "+visible(f.Source)), "\n")
}

// shardList names a node's shards, a few of them if there are many.
func shardList(f *found) string {
	var words []string
	for i, s := range f.Shards {
		if i == 12 {
			words = append(words, fmt.Sprintf("… and %d more", len(f.Shards)-i))
			break
		}
		words = append(words, s.String())
	}
	return strings.Join(words, ", ")
}
