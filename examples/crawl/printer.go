package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// printer writes a report as text, in colour on a terminal.
type printer struct {
	w      io.Writer
	colour bool
	err    error // the first one
}

func (p *printer) line(format string, args ...any) {
	if _, err := fmt.Fprintf(p.w, format+"\n", args...); err != nil && p.err == nil {
		p.err = fmt.Errorf("stdout: %w", err)
	}
}

// style wraps text in an ANSI attribute.
func (p *printer) style(attribute, text string) string {
	if !p.colour || text == "" {
		return text
	}
	return "\x1b[" + attribute + "m" + text + "\x1b[0m"
}

const (
	nameWidth = 24 // columns of what rows are about
	barWidth  = 32 // columns of the longest bar
	maxRows   = 20 // of one part
)

// marks draw states; each differs from the others without colour too.
var marks = [states]struct{ rune, colour string }{
	alive: {"█", "32"}, dead: {"░", "31"}, foreign: {"▒", "33"}, untried: {"·", "2"},
}

func (p *printer) report(r *report) {
	p.line("%s", p.style("1", fmt.Sprintf("%s in %v: %s", r.Network, r.Took, count(r.Total, "node"))))
	p.title("Nodes", "what came of dialling each of them once")
	for _, s := range shownStates {
		note := ""
		if percent, dialled := r.States.deadShare(); s == dead && dialled > 0 {
			note = fmt.Sprintf("  %d %% of %d that were dialled", percent, dialled)
		}
		var only tallies
		only[s] = r.States[s]
		p.row(stateNames[s], r.States[s], p.bar(only, r.Total)+note)
	}
	for _, part := range r.Parts {
		p.part(part)
	}
	if len(r.Asked) == 0 {
		return
	}
	p.title("Asked", "where was looked")
	for _, a := range r.Asked {
		text := count(a.Records, "record")
		if a.Failure != "" {
			text += ", " + p.style("31", "failed: "+visible(a.Failure))
		}
		p.line("  %s: %s", visible(a.Name), text)
	}
}

func (p *printer) part(part part) {
	if len(part.Rows) == 0 {
		return
	}
	p.title(part.Title, part.Note)
	most := 0
	for _, r := range part.Rows {
		most = max(most, r.Nodes.total())
	}
	for i, r := range part.Rows {
		if i == maxRows {
			p.line("  %s", p.style("2", fmt.Sprintf("… and %d more", len(part.Rows)-maxRows)))
			break
		}
		p.row(r.Name, r.Nodes.total(), p.bar(r.Nodes, most))
	}
}

func (p *printer) title(title, note string) {
	p.line("")
	p.line("%s  %s", p.style("1", title), p.style("2", note))
}

func (p *printer) row(name string, n int, bar string) {
	p.line("%s", strings.TrimRight(fmt.Sprintf("  %s %6d  %s", pad(name, nameWidth), n, bar), " "))
}

// bar draws nodes by state; most take the whole width. Whoever is there is seen.
func (p *printer) bar(nodes tallies, most int) string {
	var b strings.Builder
	for _, s := range shownStates {
		if nodes[s] > 0 {
			b.WriteString(p.style(marks[s].colour, strings.Repeat(marks[s].rune, max(1, nodes[s]*barWidth/max(most, barWidth)))))
		}
	}
	return b.String()
}

// pad makes a name so many columns wide.
func pad(name string, width int) string {
	name = ansi.Truncate(name, width, "…")
	return name + strings.Repeat(" ", width-ansi.StringWidth(name))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
