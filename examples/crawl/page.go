package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"os"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// page is a template: it escapes what strangers wrote wherever it stands.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"n":       func(x float64) string { return fmt.Sprintf("%.4g", x) },
	"shown":   func() []state { return shownStates },
	"name":    func(s state) string { return stateNames[s] },
	"class":   func(s state) string { return stateClasses[s] },
	"percent": func(n, of int) string { return fmt.Sprintf("%.2f", 100*float64(n)/math.Max(1, float64(of))) },
	"most":    most,
	"count":   count,
	"visible": visible,
	"shards":  shardList,
	"total":   tallies.total,
}).Parse(pageHTML))

// pageData is what the page shows.
type pageData struct {
	*report
	Picture            *picture
	DeadShare, Dialled int
	CSS                template.CSS
	JS                 template.JS
	JSHash             string // for the page's own rule that no other script runs
	Top                []part // of each part the first rows
}

// mostRows is how many rows of a part the page shows.
const mostRows = 40

// writePage writes the page, wholly or not at all.
func writePage(file string, r *report) error {
	sum := sha256.Sum256([]byte(pageJS))
	d := pageData{
		report: r, Picture: draw(r), CSS: template.CSS(pageCSS), JS: template.JS(pageJS),
		JSHash: "sha256-" + base64.StdEncoding.EncodeToString(sum[:]),
	}
	d.DeadShare, d.Dialled = r.States.deadShare()
	for _, p := range r.Parts {
		if more := len(p.Rows) - mostRows; more > 0 {
			p.Rows, p.Note = p.Rows[:mostRows], fmt.Sprintf("%s, and %d more", p.Note, more)
		}
		if len(p.Rows) > 0 {
			d.Top = append(d.Top, p)
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, d); err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	draft := file + ".new"
	err := os.WriteFile(draft, b.Bytes(), 0o644)
	if err == nil {
		err = os.Rename(draft, file)
	}
	if err != nil {
		os.Remove(draft)
		return fmt.Errorf("--html: %w", err)
	}
	return nil
}

// most is how many nodes the largest row has.
func most(rows []row) (n int) {
	for _, r := range rows {
		n = max(n, r.Nodes.total())
	}
	return n
}
