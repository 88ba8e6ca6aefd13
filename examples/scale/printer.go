package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/status-im/shoal/internal/scale"
)

// showProgress writes a line for each virtual second.
func showProgress(w io.Writer) func(scale.Progress) {
	var last scale.Progress
	return func(p scale.Progress) {
		pace := (p.Wall - last.Wall).Seconds() / max(0.001, (p.Done-last.Done).Seconds())
		left := time.Duration(pace * float64(p.All-p.Done)).Round(time.Second)
		last = p
		fmt.Fprintf(w, "%-9s %3.0f of %.0f s, %s passed, %.2f s for a second, about %s left; degree %.2f, delivered %d of %d, %.2f GiB\n",
			p.Part, p.Done.Seconds(), p.All.Seconds(), p.Wall.Round(time.Second), pace, left, p.Degree, p.Delivered, p.Due,
			float64(p.RSS)/(1<<30))
	}
}

func printResult(w io.Writer, r *scale.Result) {
	fmt.Fprintf(w, "%d members and %d fleet nodes, profile %s, %.2f messages of %d bytes a second over %s, seed %d\n",
		r.Members, r.Fleet, r.Profile.Name, r.Rate, r.Size, r.Transport, r.Seed)
	for _, name := range slices.Sorted(maps.Keys(r.Roles)) {
		x := r.Roles[name]
		fmt.Fprintf(w, "  %-9s %6d nodes  %.3f Mbit/s (in %.3f, out %.3f, most %.3f; streams %.3f)  copies %.2f  degree %.2f  peers %.1f\n",
			name, x.Nodes, x.Sum(), x.In, x.Out, x.Max, x.Stream, x.Copies, x.Degree, x.Peers)
		fmt.Fprint(w, "           ")
		for _, class := range slices.Sorted(maps.Keys(x.Classes)) {
			if v := x.Classes[class]; v >= 0.00005 {
				fmt.Fprintf(w, " %s %.4f", class, v)
			}
		}
		fmt.Fprintln(w)
	}
	l, nodes := r.Latency, float64(r.Members+r.Fleet)
	fmt.Fprintf(w, "  latency   mean %.3f s, p50 %.3f, p90 %.3f, p99 %.3f, p99.9 %.3f, most %.3f\n", l.Mean, l.P50, l.P90, l.P99, l.P999, l.Max)
	fmt.Fprintf(w, "  delivered %d of %d, missing %d, twice %d, refused %d, RPCs dropped %d, peers cut %d\n",
		r.Delivered, r.Expected, r.Missing, r.Twice, r.Rejected, r.Dropped, r.Cut)
	if a := r.Attack; a != nil {
		held := make([]float64, 0, 4)
		for _, at := range []int{1, 20, 40, 60, len(a.Held)} {
			if at <= len(a.Held) {
				held = append(held, a.Held[at-1])
			}
		}
		fmt.Fprintf(w, "  attack    %d %s; hold %.3f of mesh links after 1, 20, 40, 60 s and in the end; forged delivered %d, passed on %d, RPCs sent %d; honest mesh peers at least %d\n",
			a.Attackers, a.Kind, held, a.ForgedDelivered, a.ForgedPassedOn, a.Sent, a.Honest)
	}
	fmt.Fprintf(w, "  machine   %.0f s, %.2f s for a second of load, %.2f GiB at most; a node has %.0f goroutines, %.0f KiB heap, %.0f KiB stacks\n",
		r.WallSeconds, r.WallPerSecond, float64(r.RSS)/(1<<30), float64(r.Goroutines)/nodes, float64(r.Heap)/nodes/1024, float64(r.Stacks)/nodes/1024)
}
