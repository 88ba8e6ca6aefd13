package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"os"
	"strings"

	"github.com/status-im/shoal/internal/model"
	"github.com/status-im/shoal/internal/scale"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
)

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"n":  func(x float64) string { return fmt.Sprintf("%.4g", x) },
	"f2": func(x float64) string { return fmt.Sprintf("%.2f", x) },
	"f3": func(x float64) string { return fmt.Sprintf("%.3f", x) },
	"gib": func(b uint64) string {
		return fmt.Sprintf("%.1f", float64(b)/(1<<30))
	},
	"member": func(r *scale.Result) *scale.RoleResult { return r.Roles[scale.Member] },
	"fleet":  func(r *scale.Result) *scale.RoleResult { return r.Roles[scale.Fleet] },
	"title":  title,
}).Parse(pageHTML))

// pageData is what the page shows.
type pageData struct {
	Runs      []*scale.Result
	Tiles     []tile
	Plots     []*plot
	Published []model.Row
	CSS       template.CSS
}

type tile struct{ Value, Text, Class string }

// report makes a page of runs.
func report(args []string) error {
	f := flag.NewFlagSet("scale report", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	html := f.String("html", "scale.html", "`file` for the page; it is replaced")
	pictures := f.String("pictures", "", "`directory` for the plots, each in a file; they are replaced")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		usage(os.Stdout)
		return nil
	case err != nil:
		return wrong("report: %s", err)
	case f.NArg() == 0:
		return wrong("report: name the files that runs left with --json")
	}
	var runs []*scale.Result
	for _, file := range f.Args() {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		r := new(scale.Result)
		if err := json.Unmarshal(b, r); err != nil || r.Roles[scale.Member] == nil {
			return fmt.Errorf("%s isn't a run's: %w", file, errors.Join(err, errors.New("no members")))
		}
		runs = append(runs, r)
	}
	if *pictures != "" {
		if err := writePictures(*pictures, runs); err != nil {
			return err
		}
	}
	return writePage(*html, runs)
}

// writePage writes the page, wholly or not at all.
func writePage(file string, runs []*scale.Result) error {
	d := pageData{Runs: runs, CSS: template.CSS(pageCSS), Published: model.Published().Table(), Tiles: tiles(runs)}
	for _, draw := range []func([]*scale.Result) *plot{bandwidth, latencies, copies, bySize, delivery, held} {
		if p := draw(runs); p != nil {
			d.Plots = append(d.Plots, p)
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, d); err != nil {
		return err
	}
	draft := file + ".new"
	err := os.WriteFile(draft, b.Bytes(), 0o644)
	if err == nil {
		err = os.Rename(draft, file)
	}
	if err != nil {
		os.Remove(draft)
	}
	return err
}

// title is what a run is called.
func title(r *scale.Result) string {
	if r.Name != "" {
		return r.Name
	}
	name := fmt.Sprintf("%s, %d", r.Profile.Name, r.Members)
	if r.Fleet > 0 {
		name += fmt.Sprintf(" + %d fleet", r.Fleet)
	}
	return name
}

// alike are the runs that can be compared: undisturbed ones of the largest load. If
// there is none, it is all of them.
func alike(runs []*scale.Result) (some []*scale.Result) {
	load := func(r *scale.Result) float64 { return r.Rate * float64(r.Size) }
	most := 0.0
	for _, r := range runs {
		if r.Trouble == "" {
			most = max(most, load(r))
		}
	}
	for _, r := range runs {
		if r.Trouble == "" && load(r) > 0.95*most {
			some = append(some, r)
		}
	}
	if some == nil {
		return runs
	}
	return some
}

func tiles(runs []*scale.Result) []tile {
	missing, expected := 0, 0
	for _, r := range runs {
		missing += r.Missing
		expected += r.Expected
	}
	runs = alike(runs)
	most, least := runs[0], runs[0]
	for _, r := range runs {
		if r.Roles[scale.Member].Sum() > most.Roles[scale.Member].Sum() {
			most = r
		}
		if r.Roles[scale.Member].Sum() < least.Roles[scale.Member].Sum() {
			least = r
		}
	}
	all := []tile{
		{fmt.Sprintf("%.2f Mbit/s", most.Roles[scale.Member].Sum()), "a member pays with " + title(most), "dear"},
	}
	if len(runs) > 1 {
		all = append(all, tile{fmt.Sprintf("%.2f Mbit/s", least.Roles[scale.Member].Sum()), "with " + title(least), "good"})
	}
	class := "good"
	if missing > 0 {
		class = "dear"
	}
	return append(all,
		tile{fmt.Sprintf("%d", missing), "missing of " + grouped(expected) + " deliveries", class},
		tile{fmt.Sprintf("%.2f s", least.Latency.P99), "and 99 of 100 have come, with " + title(least), ""})
}

// grouped writes a number with commas.
func grouped(n int) string {
	s := fmt.Sprint(n)
	var parts []string
	for len(s) > 3 {
		parts = append([]string{s[len(s)-3:]}, parts...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, parts...), ",")
}
