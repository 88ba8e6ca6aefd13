package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"unicode/utf8"
)

// printer writes the show, in colour on a terminal.
type printer struct {
	w      io.Writer
	colour bool
	scenes int
}

func newPrinter(w io.Writer, colour bool) *printer { return &printer{w: w, colour: colour} }

func (p *printer) text(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

// style wraps text in an ANSI attribute.
func (p *printer) style(attribute, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + attribute + "m" + text + "\x1b[0m"
}

func (p *printer) title(format string, args ...any) {
	p.text("%s", p.style("1", fmt.Sprintf(format, args...)))
}

func (p *printer) scene(title string) {
	p.scenes++
	p.text("\n%s", p.style("1", fmt.Sprintf("%d. %s", p.scenes, title)))
}

func (p *printer) fact(what, text string) { p.text("   %-24s %s", what, text) }

func (p *printer) speech(name, text string) {
	h := fnv.New32a()
	h.Write([]byte(name))
	colour := fmt.Sprint(31 + h.Sum32()%6)
	p.text("   %s  %s", p.style("1;"+colour, fmt.Sprintf("%-4s", name)), text)
}

func (p *printer) refusal(a attempt) {
	text := fmt.Sprintf("refused %d of %d: %s", min(a.refused, uint64(a.sent)), a.sent, a.reason)
	p.text("   %-24s %s", a.what, p.style("33", text))
}

func (p *printer) verdict(held bool, text string) {
	if held {
		p.text("%s  %s", p.style("1;32", "PASS"), text)
		return
	}
	p.text("%s  %s", p.style("1;31", "FAIL"), text)
}

// table writes rows under a heading: names, then numbers.
func (p *printer) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i == 0 {
				fmt.Fprintf(&b, "   %-*s", widths[i], cell)
			} else {
				fmt.Fprintf(&b, "   %*s", widths[i], cell)
			}
		}
		line := strings.TrimRight(b.String(), " ")
		if n == 0 {
			line = p.style("2", line)
		}
		p.text("%s", line)
	}
	p.text("")
}
