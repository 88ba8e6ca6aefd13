package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"

	"github.com/status-im/shoal/internal/scale"
	"github.com/status-im/shoal/internal/simnet"
	"github.com/status-im/shoal/relay"
)

// errUsage marks errors of whoever typed the command.
var errUsage = errors.New("usage")

type usageError struct{ text string }

func (e *usageError) Error() string        { return e.text }
func (e *usageError) Is(target error) bool { return target == errUsage }

func wrong(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// settings are the flags.
type settings struct {
	cfg     scale.Config
	json    string
	name    string
	profile profiling
}

// profiles are what --profile may say.
var profiles = map[string]func() relay.Profile{
	"classic":        relay.Classic,
	"default":        relay.Default,
	"low-bandwidth":  relay.LowBandwidth,
	"fleet-assisted": relay.FleetAssisted,
}

// change sets fields of a profile, such as "D=4,DHigh=5".
func change(p *relay.Profile, text string) error {
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		if err := json.Unmarshal([]byte(fmt.Sprintf("{%q:%s}", name, value)), p); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	p.Name = strings.Trim(p.Name+" "+text, " ")
	return nil
}

func profileFlag(to *relay.Profile) func(string) error {
	return func(text string) error {
		name, changes, _ := strings.Cut(text, ":")
		kind, size, _ := strings.Cut(name, "-")
		if f, ok := profiles[name]; ok {
			*to = f()
		} else if f, ok := map[string]func(int) relay.Profile{"fleet": relay.Fleet, "serving": relay.FleetServing}[kind]; ok {
			n, err := strconv.Atoi(size)
			if err != nil {
				return errors.New("want a number after the hyphen, such as fleet-24 or serving-800")
			}
			*to = f(n)
		} else {
			return fmt.Errorf("want one of %s, fleet-24, serving-800", strings.Join(slices.Sorted(maps.Keys(profiles)), ", "))
		}
		return change(to, changes)
	}
}

func flags(s *settings) *flag.FlagSet {
	*s = settings{cfg: scale.Config{Members: 200, Seed: 1}}
	c := &s.cfg
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.IntVar(&c.Members, "members", 200, "`number` of members, who relay and publish")
	f.IntVar(&c.Fleet, "fleet", 0, "`number` of fleet nodes, who relay")
	f.IntVar(&c.Dials, "dials", 0, "`number` of members that each member connects to; as many come to it (default 8)")
	f.IntVar(&c.FleetLinks, "fleet-links", 0, "`number` of fleet nodes that each member connects to")
	f.Func("profile", "the members' `profile`: "+strings.Join(slices.Sorted(maps.Keys(profiles)), ", ")+", fleet-24; fields may be\nchanged, such as classic:D=4,DHigh=6 (default default)", profileFlag(&c.Profile))
	f.Func("other-profile", "the `profile` of a share --other of them", profileFlag(&c.OtherProfile))
	f.Float64Var(&c.Other, "other", 0, "the `share` of members with the other profile, 0 to 1")
	f.Func("fleet-profile", "the fleet's `profile` (default fleet-24)", profileFlag(&c.FleetProfile))
	f.Float64Var(&c.Rate, "rate", 0, "the shard's `messages` a second (default 5 an hour for each member; 13.9 is 10,000 members' load)")
	f.IntVar(&c.Size, "size", scale.MessageSize, "an encoded message's `bytes`")
	f.DurationVar(&c.Settle, "settle", 0, "`time` for connections and meshes to form (default 30s)")
	f.DurationVar(&c.Load, "load", 0, "`time` during which traffic is counted (default 30s)")
	f.DurationVar(&c.Drain, "drain", 0, "`time` to wait for stragglers (default 15s)")
	f.Uint64Var(&c.Seed, "seed", 1, "`number` that decides topology, places and load")
	f.Float64Var(&c.Net.Loss, "loss", 0, "the `share` of packets lost")
	f.Float64Var(&c.Slow, "slow", 0, "the `share` of members with 0.5 Mbit/s up")
	f.Float64Var(&c.Trouble.Vanish, "vanish", 0, "the `share` of members that go without a word when counting begins")
	f.Float64Var(&c.Trouble.FleetVanish, "fleet-vanish", 0, "the `share` of fleet nodes that do")
	f.DurationVar(&c.Trouble.Split, "split", 0, "for how `long` the network is parted in two")
	f.StringVar(&c.Attack.Kind, "attack", "", "what attackers do: `one` of "+strings.Join(slices.Sorted(maps.Keys(scale.Attacks)), ", "))
	f.IntVar(&c.Attack.Attackers, "attackers", 0, "their `number`")
	f.IntVar(&c.Attack.Dials, "attacker-dials", 0, "`number` of members that each attacker connects to (default: as a member)")
	f.DurationVar(&c.Attack.At, "attack-at", 0, "`when` they begin, after counting began; negative: from the start")
	f.DurationVar(&c.Notice, "notice", 0, "`time` until peers see that somebody is gone (default 30s)")
	f.BoolFunc("quic", "count QUIC's overhead rather than TCP's", func(string) error {
		c.Net.Transport = simnet.QUIC()
		return nil
	})
	f.StringVar(&s.json, "json", "", "`file` for the numbers; it is replaced")
	f.StringVar(&s.name, "name", "", "what the run is called in a report")
	f.StringVar(&s.profile.cpu, "cpuprofile", "", "`file` for a processor profile of the whole run")
	f.StringVar(&s.profile.mem, "memprofile", "", "`file` for a memory profile at the end")
	f.Func("memory", "`GiB` of memory to keep to, as far as possible", func(text string) error {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		debug.SetMemoryLimit(int64(n * (1 << 30)))
		return nil
	})
	return f
}

func parse(args []string) (*settings, error) {
	var s settings
	f := flags(&s)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, wrong("%s (scale --help lists the flags)", strings.Replace(err.Error(), "for flag -", "for --", 1))
	case f.NArg() > 0:
		return nil, wrong("unexpected argument %q: settings are flags (scale --help lists them)", f.Arg(0))
	}
	return &s, nil
}

// keep writes a run's numbers.
func (s *settings) keep(r *scale.Result) error {
	if s.json == "" {
		return nil
	}
	r.Name = s.name
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(s.json, append(b, '\n'), 0o644)
}

func usage(w io.Writer) {
	var s settings
	fmt.Fprintln(w, "scale runs a shard of thousands of members on a simulated network.")
	fmt.Fprintln(w)
	flags(&s).VisitAll(func(one *flag.Flag) {
		name, text := flag.UnquoteUsage(one)
		fmt.Fprintf(w, "  --%s %s\n        %s\n", one.Name, name, strings.ReplaceAll(text, "\n", "\n        "))
	})
	fmt.Fprintln(w, "\nscale report --html FILE [--pictures DIRECTORY] RUN.json... makes a page of runs.")
}

// profiling is where a run's own cost goes.
type profiling struct{ cpu, mem string }

func (p profiling) start() (stop func(), err error) {
	var cpu *os.File
	if p.cpu != "" {
		if cpu, err = os.Create(p.cpu); err != nil {
			return nil, err
		}
		if err = pprof.StartCPUProfile(cpu); err != nil {
			return nil, err
		}
	}
	return func() {
		if cpu != nil {
			pprof.StopCPUProfile()
			cpu.Close()
		}
		if p.mem != "" {
			runtime.GC()
			if f, err := os.Create(p.mem); err == nil {
				_ = pprof.WriteHeapProfile(f)
				f.Close()
			}
		}
	}, nil
}
