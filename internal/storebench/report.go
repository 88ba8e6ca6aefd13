package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one thing measured of one system.
type figure struct {
	System string  `json:"system"`
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
}

// report is what a run has found.
type report struct {
	Rows     int               `json:"rows"`
	Days     int               `json:"days"`
	Seed     uint64            `json:"seed"`
	Began    time.Time         `json:"began"`
	Machine  string            `json:"machine"`
	Settings map[string]string `json:"settings"` // of the PostgreSQL server
	Notes    []string          `json:"notes"`
	Figures  []figure          `json:"figures"`
}

func newReport(o options) *report {
	return &report{
		Rows: o.rows, Days: o.days, Seed: o.seed, Began: time.Now().UTC().Truncate(time.Second),
		Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
	}
}

func readReport(file string) (*report, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// add files a figure. What can't be told isn't filed.
func (r *report) add(system, name string, value float64, unit string) {
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		r.Figures = append(r.Figures, figure{system, name, value, unit})
	}
}

// get returns a figure, or NaN.
func (r *report) get(system, name string) float64 {
	for _, f := range r.Figures {
		if f.System == system && f.Name == name {
			return f.Value
		}
	}
	return math.NaN()
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// write prints tables: all figures, the targets, and the earlier run if there is
// one.
func (r *report) write(w io.Writer, old *report) {
	fmt.Fprintf(w, "\n%s messages over %d days, seed %d, %s, %s\n",
		thousands(float64(r.Rows)), r.Days, r.Seed, r.Machine, r.Began.Format(time.RFC3339))
	var settings []string
	for name, value := range r.Settings {
		settings = append(settings, name+"="+value)
	}
	slices.Sort(settings)
	for line := range slices.Chunk(settings, 5) {
		fmt.Fprintf(w, "  %s\n", strings.Join(line, " "))
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "  "+n)
	}
	const line = "%-62s%11s%11s%8s%11s  %s\n"
	fmt.Fprintf(w, "\n"+line, "", today, postgres, "ratio", sqlite, "")
	for _, name := range r.names() {
		before, ours := r.get(today, name), r.get(postgres, name)
		fmt.Fprintf(w, line, name, number(before), number(ours), number(ours/before), number(r.get(sqlite, name)), r.unit(name))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\ntarget\tmeasured\twanted\t\n")
	for _, x := range targets {
		value := x.value(r)
		verdict := "met"
		switch {
		case math.IsNaN(value):
			verdict = "not measured"
		case !x.met(value):
			verdict = "NOT MET"
		}
		fmt.Fprintf(t, "%s\t%s\t%s %s\t%s\n", x.name(), number(value), x.sign(), number(x.bound), verdict)
	}
	t.Flush()
	if old != nil {
		r.compare(w, old)
	}
}

// compare prints what has changed since an earlier run, of a smaller data set
// for instance.
func (r *report) compare(w io.Writer, old *report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nagainst %s messages\tthen\tnow\tratio\t\n", thousands(float64(old.Rows)))
	for _, f := range r.Figures {
		if before := old.get(f.System, f.Name); !math.IsNaN(before) {
			ratio := f.Value / before
			verdict := ""
			if r.Rows > old.Rows && grows(f) {
				verdict = "met"
				if ratio > growth {
					verdict = fmt.Sprintf("NOT MET: <= %d", growth)
				}
			}
			fmt.Fprintf(t, "%s: %s (%s)\t%s\t%s\t%s\t%s\n",
				f.System, f.Name, f.Unit, number(before), number(f.Value), number(ratio), verdict)
		}
	}
	t.Flush()
}

// names are those of all figures, in the order in which they came.
func (r *report) names() (list []string) {
	for _, system := range []string{postgres, today, sqlite} {
		for _, f := range r.Figures {
			if f.System == system && !slices.Contains(list, f.Name) {
				list = append(list, f.Name)
			}
		}
	}
	return list
}

func (r *report) unit(name string) string {
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Unit
		}
	}
	return ""
}

// number writes three significant digits, and more of a large number.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case math.Abs(v) >= 1000:
		return thousands(v)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
