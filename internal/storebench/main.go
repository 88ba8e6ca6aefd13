// Storebench measures the Store: both archives, and beside them, in the same run
// on the same machine, the layout and statements that the fleets' PostgreSQL
// stores use today (type baseline).
//
// It starts a PostgreSQL server of its own, with fsync on, fills each archive
// with messages of 2 KiB over 30 days, asks, inserts, and prints what it found
// beside what it is meant to be. Whether a target is met doesn't change the exit
// code: figures depend on the machine and on what else it does. Compare columns
// of one run.
//
//	make bench-store                              # a million messages, about an hour
//	make bench-store ARGS=-quick                  # 50,000, two minutes: a smoke test
//	make bench-store ARGS="-rows 50000 -backends postgres -only clients"
//	make bench-store ARGS="-rows 10000000 -backends postgres -keep DIR"
//	make bench-store ARGS="-rows 10000000 -reuse DIR -against 1m.json"  # asks again
//
// Each kind of question is asked in three ways: new ones, anywhere in the data set,
// of a server that has been asked before, which of a data set larger than memory
// means the disk now and then; warm, the same ones again; and cold, each of a
// server just started, with nothing of its files in memory.
//
// Everything runs on the same cores: the server, the archives in this process,
// and the load.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/gologshim"
)

// The systems that are measured.
const (
	today    = "baseline"
	postgres = "postgres"
	sqlite   = "sqlite"
)

// The phases of a system.
const (
	asking    = "questions"
	inserting = "inserts"
	storming  = "clients"
)

var phases = []string{asking, inserting, storming}

// wants tells whether a phase is to be measured.
func (o options) wants(phase string) bool { return slices.Contains(o.only, phase) }

// maxBaseline is the largest data set that the baseline is filled with: it takes
// twice the room.
const maxBaseline = 2_000_000

// options are the flags, and what follows from them.
type options struct {
	rows, days int
	seed       uint64
	backends   []string
	only       []string
	quick      bool
	keep       string
	reuse      string
	json       bool
	against    string

	inserts   int           // messages to measure inserting with
	samples   int           // questions of a kind, at most
	restarts  int           // how many of a kind are asked of a server just started
	patience  time.Duration // for the questions of a kind
	underLoad time.Duration // how long many clients ask while messages come in
	clients   int           // how many they are
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("storebench", flag.ContinueOnError)
	f.IntVar(&o.rows, "rows", 1_000_000, "`messages` kept when questions are asked")
	f.IntVar(&o.days, "days", 30, "`days` over which they are spread")
	f.Uint64Var(&o.seed, "seed", 1, "of the messages and questions")
	backends := f.String("backends", strings.Join([]string{today, postgres, sqlite}, ","), "what to measure, by `names`")
	only := f.String("only", strings.Join(phases, ","), "what to measure of each, by `names`; what is kept is always loaded first")
	f.BoolVar(&o.quick, "quick", false, "50,000 messages and few questions")
	f.StringVar(&o.keep, "keep", "", "make the archives below `directory` and leave them there")
	f.StringVar(&o.reuse, "reuse", "", "ask what -keep has left below `directory`, with the same rows, days and seed: PostgreSQL's, and questions only")
	f.BoolVar(&o.json, "json", false, "write JSON to the standard output, and the tables to standard error")
	f.StringVar(&o.against, "against", "", "compare with an earlier run: `file` with its JSON")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.inserts, o.samples, o.restarts, o.patience, o.underLoad, o.clients = 100_000, 400, 20, 15*time.Second, 30*time.Second, 200
	if o.quick {
		o.inserts, o.samples, o.restarts, o.patience, o.underLoad = 20_000, 60, 3, 2*time.Second, 5*time.Second
		given := false
		f.Visit(func(f *flag.Flag) { given = given || f.Name == "rows" })
		if !given {
			o.rows = 50_000
		}
	}
	if o.reuse != "" {
		*backends, *only = postgres, asking // what is kept stays as it is
	}
	o.backends = strings.Split(*backends, ",")
	for _, name := range o.backends {
		if !slices.Contains([]string{today, postgres, sqlite}, name) {
			return o, fmt.Errorf("no such backend: %s", name)
		}
	}
	o.only = strings.Split(*only, ",")
	for _, name := range o.only {
		if !slices.Contains(phases, name) {
			return o, fmt.Errorf("no such phase: %s", name)
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("not understood: %s", f.Arg(0))
	case o.rows < 1000 || o.days < 1:
		return o, errors.New("there must be 1,000 messages and a day at least")
	}
	return o, nil
}

func main() {
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 2 && os.Args[1] == clientsWord {
		end(clients(ctx))
		return
	}
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "storebench:", err)
		os.Exit(2)
	}
	end(run(ctx, o))
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "storebench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	old, err := readReport(o.against)
	if err != nil {
		return err
	}
	b := &bench{options: o, load: newWorkload(o, time.Now()), report: newReport(o)}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{{today, b.baseline}, {postgres, b.postgres}, {sqlite, b.sqlite}} {
		if !slices.Contains(o.backends, step.name) {
			continue
		}
		if step.name == today && o.rows > maxBaseline {
			b.say("the baseline is left out: %d messages would take %d GB", o.rows, int64(o.rows)*7200>>30)
			continue
		}
		b.stage = step.name
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if o.json {
		b.report.write(os.Stderr, old)
		return b.report.writeJSON(os.Stdout)
	}
	b.report.write(os.Stdout, old)
	return nil
}
