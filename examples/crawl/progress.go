package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
)

// tally is where a walk stands.
type tally struct {
	total, dialling int
	states          [states]int
	since           time.Duration
	looking         bool
}

func (w *walker) tally() tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := tally{total: len(w.order), dialling: w.dialling, since: time.Since(w.began), looking: w.looking}
	for _, f := range w.order {
		t.states[f.State]++
	}
	return t
}

// line says it; n counts the lines said.
func (t tally) line(n int, lasts time.Duration) string {
	spinner := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	when := fmt.Sprintf("%v of %v", t.since.Truncate(time.Second), lasts)
	if !t.looking {
		when = "the last dials"
	}
	parts := []string{when, fmt.Sprintf("%d found", t.total)}
	for s, name := range stateNames {
		if n := t.states[s]; n > 0 && state(s) != untried {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	if t.dialling > 0 {
		parts = append(parts, fmt.Sprintf("%d being dialled", t.dialling))
	}
	return string(spinner[n%len(spinner)]) + " " + strings.Join(parts, " · ")
}

// showProgress writes one line again and again until the func that it returns is
// called, which takes the line away.
func showProgress(out io.Writer, w *walker) (end func()) {
	if out == io.Discard {
		return func() {}
	}
	done := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() {
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			line := w.tally().line(n, w.lasts)
			fmt.Fprintf(out, "\r\x1b[K%s", ansi.Truncate(line, columns(out)-1, "…"))
			select {
			case <-tick.C:
			case <-done:
				fmt.Fprint(out, "\r\x1b[K")
				return
			}
		}
	})
	return func() { close(done); shown.Wait() }
}

// columns is how wide a terminal is.
func columns(out io.Writer) int {
	if f, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(f.Fd()); err == nil && width > 0 {
			return width
		}
	}
	return 80
}
