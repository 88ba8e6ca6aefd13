package main

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/status-im/shoal/internal/model"
	"github.com/status-im/shoal/internal/scale"
)

// plot is a picture: bars that lie, or lines.
type plot struct {
	Title, Note   string
	Width, Height float64
	Bars          []bar
	Lines         []line
	Ticks         []tick // of the horizontal axis
	Levels        []tick // of the vertical axis
	Marks         []tick // upright lines worth knowing
	Legend        []legend
	XLabel        string
	Left, Bottom  float64
}

type bar struct {
	Y, H  float64
	Label string
	Parts []barPart
	End   float64
	Text  string
}

type barPart struct {
	X, W  float64
	Hue   template.CSS
	Title string
}

type line struct {
	Points string
	Hue    template.CSS
	Dashed bool
	Dots   []dot
}

type dot struct {
	X, Y  float64
	Title string
}

type tick struct {
	At   float64
	Text string
}

type legend struct {
	Hue    template.CSS
	Text   string
	Dashed bool
}

const (
	plotWidth = 1040
	barLeft   = 250
	barHeight = 26
)

var hues = []template.CSS{"var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)", "var(--f)"}

// nice is a round step so that about five fit into most.
func nice(most float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(max(most, 1e-9)/4)))
	for _, k := range []float64{1, 2, 5, 10} {
		if most/(step*k) <= 6 {
			return step * k
		}
	}
	return step * 10
}

// bars draws one bar for each run, of parts.
func bars(title, note, unit string, runs []*scale.Result, parts []string, value func(r *scale.Result, part int) float64, text func(*scale.Result) string) *plot {
	p := &plot{Title: title, Note: note, Width: plotWidth, Left: barLeft, XLabel: unit}
	p.Height = float64(len(runs))*(barHeight+8) + 34
	p.Bottom = p.Height - 28
	most := 0.0
	sum := func(r *scale.Result) (s float64) {
		for i := range parts {
			s += value(r, i)
		}
		return s
	}
	for _, r := range runs {
		most = max(most, sum(r))
	}
	x := func(v float64) float64 { return barLeft + v/max(most, 1e-9)*(plotWidth-barLeft-150) }
	for v, step := 0.0, nice(most); v <= most*1.001; v += step {
		p.Ticks = append(p.Ticks, tick{x(v), fmt.Sprintf("%.3g", v)})
	}
	for i, r := range runs {
		b := bar{Y: float64(i)*(barHeight+8) + 4, H: barHeight, Label: shortTitle(r), Text: text(r)}
		at := 0.0
		for k, part := range parts {
			v := value(r, k)
			b.Parts = append(b.Parts, barPart{x(at), x(at+v) - x(at), hues[k%len(hues)], fmt.Sprintf("%s: %.3f", part, v)})
			at += v
		}
		b.End = x(at)
		p.Bars = append(p.Bars, b)
	}
	if len(parts) > 1 {
		for k, part := range parts {
			p.Legend = append(p.Legend, legend{Hue: hues[k%len(hues)], Text: part})
		}
	}
	return p
}

func shortTitle(r *scale.Result) string {
	t := title(r)
	if len(t) > 38 {
		return t[:37] + "…"
	}
	return t
}

var bandwidthParts = []string{"messages", "offers and requests", "calling off", "mesh upkeep", "transport"}

func bandwidth(runs []*scale.Result) *plot {
	classes := [][]string{{"payload"}, {"ihave", "iwant"}, {"idontwant"}, {"graft", "prune", "subscribe", "framing", "other"}, {"overhead", "setup"}}
	p := bars("What a member pays", "Mbit/s received and sent, on the wire, heartbeats included. The floor, a thin line where one load makes one floor, is the least that is possible where all peers are equal: every message received once and sent once.",
		"Mbit/s", runs, bandwidthParts, func(r *scale.Result, part int) (v float64) {
			for _, class := range classes[part] {
				v += r.Roles[scale.Member].Classes[class]
			}
			return v
		}, func(r *scale.Result) string {
			return fmt.Sprintf("%.2f, floor %.2f", r.Roles[scale.Member].Sum(), shardOf(r).Floor(true))
		})
	most := 0.0
	for _, r := range runs {
		most = max(most, r.Roles[scale.Member].Sum())
	}
	floor := shardOf(runs[0]).Floor(true)
	if floor < most && len(alike(runs)) == len(runs) {
		p.Marks = append(p.Marks, tick{barLeft + floor/most*(plotWidth-barLeft-150), "floor"})
	}
	return p
}

func copies(runs []*scale.Result) *plot {
	return bars("How often a message comes", "Copies received of each message; one is enough. Behind the bar: the links that a member's mesh settled at.",
		"copies", runs, []string{"copies"}, func(r *scale.Result, _ int) float64 { return r.Roles[scale.Member].Copies },
		func(r *scale.Result) string {
			return fmt.Sprintf("%.2f, degree %.2f", r.Roles[scale.Member].Copies, r.Roles[scale.Member].Degree)
		})
}

// axes makes a plot of lines, and what maps values to it.
func axes(title, note, unit string, xMin, xMax, yMin, yMax float64, logX bool) (p *plot, at func(x, y float64) (float64, float64)) {
	p = &plot{Title: title, Note: note, Width: plotWidth, Height: 360, Left: 60, Bottom: 322, XLabel: unit}
	at = func(x, y float64) (float64, float64) {
		fx := (x - xMin) / max(xMax-xMin, 1e-9)
		if logX {
			fx = math.Log(x/xMin) / max(math.Log(xMax/xMin), 1e-9)
		}
		return p.Left + fx*(plotWidth-p.Left-30), p.Bottom - (y-yMin)/max(yMax-yMin, 1e-9)*(p.Bottom-20)
	}
	for v, step := yMin, nice(yMax-yMin); v <= yMax*1.001; v += step {
		_, y := at(xMin, v)
		p.Levels = append(p.Levels, tick{y, fmt.Sprintf("%.3g", v)})
	}
	return p, at
}

func (p *plot) draw(at func(x, y float64) (float64, float64), xs, ys []float64, hue template.CSS, dashed, dots bool) {
	var b strings.Builder
	l := line{Hue: hue, Dashed: dashed}
	for i := range xs {
		x, y := at(xs[i], ys[i])
		fmt.Fprintf(&b, "%.1f,%.1f ", x, y)
		if dots {
			l.Dots = append(l.Dots, dot{x, y, fmt.Sprintf("%.4g: %.4g", xs[i], ys[i])})
		}
	}
	l.Points = b.String()
	p.Lines = append(p.Lines, l)
}

func latencies(runs []*scale.Result) *plot {
	most := 0.0
	for _, r := range runs {
		most = max(most, r.Latency.P999)
	}
	p, at := axes("How long it takes", "Share of deliveries within a time, from the author's clock to the reader's.", "seconds", 0, most*1.05, 0, 1, false)
	for v, step := 0.0, nice(most); v <= most; v += step {
		x, _ := at(v, 0)
		p.Ticks = append(p.Ticks, tick{x, fmt.Sprintf("%.3g", v)})
	}
	for i, r := range runs {
		var xs, ys []float64
		for q, v := range r.Quantiles {
			xs, ys = append(xs, min(v, most*1.05)), append(ys, float64(q)/100)
		}
		hue := hues[i%len(hues)]
		p.draw(at, xs, ys, hue, i >= len(hues), false)
		p.Legend = append(p.Legend, legend{Hue: hue, Text: fmt.Sprintf("%s: half in %.2f s, 99 %% in %.2f s", title(r), r.Latency.P50, r.Latency.P99), Dashed: i >= len(hues)})
	}
	return p
}

// shardOf is the model of a run, with what the mesh settled at.
func shardOf(r *scale.Result) model.Shard {
	m := r.Roles[scale.Member]
	s := model.Shard{
		Rate: r.Rate, Size: float64(r.Size), Degree: m.Degree,
		DLazy: float64(r.Profile.DLazy), HistoryGossip: float64(r.Profile.HistoryGossip),
		CallOff: r.Size >= r.Profile.IDontWantSize,
	}
	if r.Profile.ForwardDelay > 0 && s.CallOff {
		s.Stopped = stoppedByDelay
	}
	return s
}

// stoppedByDelay is the share of needless copies that a forward delay of about a link's
// latency stops, as measured.
const stoppedByDelay = 0.45

// bySize puts runs of one profile and different sizes beside the models.
func bySize(runs []*scale.Result) *plot {
	byProfile := map[string][]*scale.Result{}
	var names []string
	least, largest, most := math.Inf(1), 0.0, 0.0
	for _, r := range runs {
		if r.Rate < 0.9*float64(r.Members)*scale.MessagesPerHour/3600 || r.Rate > 1.1*float64(r.Members)*scale.MessagesPerHour/3600 {
			continue // another load
		}
		if byProfile[r.Profile.Name] == nil {
			names = append(names, r.Profile.Name)
		}
		byProfile[r.Profile.Name] = append(byProfile[r.Profile.Name], r)
		least, largest = min(least, float64(r.Members)), max(largest, float64(r.Members))
		most = max(most, r.Roles[scale.Member].Sum())
	}
	if largest <= least {
		return nil
	}
	published := model.Published()
	most = max(most, model.Mbit(published.Gossip(largest)))
	p, at := axes("By size, beside the models", "A member's Mbit/s when so many are active, each saying five messages an hour. Dots were measured; dashed lines are our model at the degree measured; the grey ones are the published analysis with gossip, as corrected in 2025, and without.",
		"active members", least, largest, 0, most*1.05, true)
	for _, v := range []float64{100, 200, 500, 1000, 2000, 5000, 10_000, 20_000} {
		if v >= least && v <= largest {
			x, _ := at(v, 0)
			p.Ticks = append(p.Ticks, tick{x, fmt.Sprintf("%.0f", v)})
		}
	}
	for _, load := range []model.Load{published.Gossip, published.Flood} {
		var xs, ys []float64
		for k := range 21 {
			x := least * math.Pow(largest/least, float64(k)/20)
			xs, ys = append(xs, x), append(ys, model.Mbit(load(x)))
		}
		p.draw(at, xs, ys, "var(--soft)", true, false)
	}
	p.Legend = append(p.Legend, legend{Hue: "var(--soft)", Text: "published", Dashed: true})
	for i, name := range names {
		of := byProfile[name]
		slices.SortFunc(of, func(a, b *scale.Result) int { return cmp.Compare(a.Members, b.Members) })
		var xs, ys, ms []float64
		for _, r := range of {
			xs, ys, ms = append(xs, float64(r.Members)), append(ys, r.Roles[scale.Member].Sum()), append(ms, shardOf(r).Member().Sum())
		}
		hue := hues[i%len(hues)]
		p.draw(at, xs, ys, hue, false, true)
		p.draw(at, xs, ms, hue, true, false)
		p.Legend = append(p.Legend, legend{Hue: hue, Text: name})
	}
	return p
}

// delivery shows what became of messages, second by second, in runs with trouble.
func delivery(runs []*scale.Result) *plot {
	var shown []*scale.Result
	last, least := 0.0, 1.0
	for _, r := range runs {
		for _, s := range r.Seconds {
			least = min(least, s.InTen)
		}
		if r.Trouble != "" && len(r.Seconds) > 0 {
			shown = append(shown, r)
			last = max(last, r.Seconds[len(r.Seconds)-1].At)
		}
	}
	if len(shown) == 0 {
		return nil
	}
	least = math.Floor(least*10-0.001) / 10
	p, at := axes("Through trouble", "Share of deliveries within ten seconds, by the second in which a message was published; dashed: in the end. Trouble begins at 0.", "seconds", -5, last, least, 1, false)
	for v := 0.0; v <= last; v += nice(last) {
		x, _ := at(v, least)
		p.Ticks = append(p.Ticks, tick{x, fmt.Sprintf("%.0f", v)})
	}
	for i, r := range shown {
		var xs, ys, ends []float64
		for _, s := range r.Seconds {
			xs, ys, ends = append(xs, s.At), append(ys, max(least, s.InTen)), append(ends, max(least, s.Delivered))
		}
		hue := hues[i%len(hues)]
		p.draw(at, xs, ys, hue, false, false)
		p.draw(at, xs, ends, hue, true, false)
		p.Legend = append(p.Legend, legend{Hue: hue, Text: fmt.Sprintf("%s: %s", title(r), r.Trouble)})
	}
	return p
}

// held shows what of the mesh attackers hold, second by second.
func held(runs []*scale.Result) *plot {
	var shown []*scale.Result
	last := 0
	for _, r := range runs {
		if r.Attack != nil && len(r.Attack.Held) > 1 {
			shown = append(shown, r)
			last = max(last, len(r.Attack.Held)-1)
		}
	}
	if len(shown) == 0 {
		return nil
	}
	p, at := axes("Who holds the mesh", "Share of members' mesh links that end at attackers, by seconds since counting began.", "seconds", 0, float64(last), 0, 1, false)
	for v := 0.0; v <= float64(last); v += nice(float64(last)) {
		x, _ := at(v, 0)
		p.Ticks = append(p.Ticks, tick{x, fmt.Sprintf("%.0f", v)})
	}
	for i, r := range shown {
		var xs, ys []float64
		for second, share := range r.Attack.Held {
			xs, ys = append(xs, float64(second)), append(ys, share)
		}
		hue := hues[i%len(hues)]
		p.draw(at, xs, ys, hue, i >= len(hues), false)
		p.Legend = append(p.Legend, legend{Hue: hue, Text: title(r), Dashed: i >= len(hues)})
	}
	return p
}
