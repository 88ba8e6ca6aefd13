//go:build soak && linux

package scorecard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Row C1: a hundred identities of ten addresses ask for ten times what the node can do;
// ten honest ones are served as if they weren't there.
func TestSoakFairness(t *testing.T) {
	for _, kind := range []string{"store", "lightpush", "filter"} {
		t.Run(kind, func(t *testing.T) {
			s := newStreet(t)
			node := s.node(nodeParams{
				Archive: t.TempDir() + "/archive.db", Filter: true, LightPush: true,
			})
			node.ask("keep", 5000, new(int))
			honest := s.begin("caller", loadCPU, callerParams{IDs: 10, Addrs: addresses(20, 10)}, addresses(20, 10)...)
			hostile := s.begin("caller", loadCPU, callerParams{IDs: 100, Addrs: addresses(66, 10)}, addresses(66, 10)...)
			ear := s.begin("caller", loadCPU, callerParams{IDs: 1, Addrs: addresses(30, 1)}, addresses(30, 1)...)
			for _, a := range []*actor{honest, hostile, ear} {
				var r connected
				a.ask("connect", nil, &r)
				require.Empty(t, r.Errors)
			}
			ear.ask("relay", nil, new(string))
			time.Sleep(3 * time.Second) // its subscription

			asks := asking{Kind: kind, Each: time.Second, For: 10 * time.Second}
			var quiet, flat, sieged, siege tally
			honest.ask("ask", asks, &quiet)
			t.Log("honest alone:  ", &quiet)
			require.Equal(t, quiet.Offered, quiet.OK)

			const trial = 5 * time.Second
			hostile.ask("flood", flooding{Kind: kind, For: trial, InFlight: 1}, &flat)
			capacity := float64(flat.Offered-flat.Failed) / trial.Seconds()
			t.Logf("capacity %.0f/s: %v", capacity, &flat)

			var before, after cost
			node.ask("cost", nil, &before)
			began := time.Now()
			asks.For = 15 * time.Second
			hostile.tell("flood", flooding{Kind: kind, Rate: 10 * capacity, For: asks.For, InFlight: 32})
			honest.ask("ask", asks, &sieged)
			hostile.hear(&siege)
			node.ask("cost", nil, &after)
			t.Logf("hostile:        %.0f/s wanted, %.0f/s offered (%.1f times capacity), with %.0f %% of a core: %v",
				10*capacity, float64(siege.Offered)/asks.For.Seconds(), float64(siege.Offered)/asks.For.Seconds()/capacity, 100*siege.CPU, &siege)
			t.Logf("honest, sieged: %v", &sieged)
			t.Logf("p99 with/without %.1f; node %.0f %% of a core, %v", float64(sieged.P99)/float64(quiet.P99),
				100*(after.CPU-before.CPU)/time.Since(began).Seconds(), after)
			t.Log(siege.Errors, sieged.Errors)
			require.GreaterOrEqual(t, float64(sieged.OK), 0.95*float64(sieged.Offered))
			require.Equal(t, siege.TooMany, siege.Hints, "each refusal says when to come back")
		})
	}
}

// Row C7: five hundred pushes a second and more, each with a signature that counts, by a
// node on one core.
func TestSoakLightPush(t *testing.T) {
	const rate, members = 600, 60
	s := newStreet(t)
	node := s.node(nodeParams{LightPush: true, PushRate: -1})
	ear := s.begin("caller", loadCPU, callerParams{IDs: 6, Addrs: addresses(30, 1)}, addresses(30, 1)...)
	all := s.begin("caller", loadCPU, callerParams{IDs: members, Addrs: addresses(20, 10)}, addresses(20, 10)...)
	for _, a := range []*actor{ear, all} {
		var r connected
		a.ask("connect", nil, &r)
		require.Empty(t, r.Errors)
	}
	ear.ask("relay", nil, new(string))
	time.Sleep(3 * time.Second)
	for _, rate := range []int{rate / 2, rate, 2 * rate} {
		var before, after cost
		var y tally
		node.ask("cost", nil, &before)
		began := time.Now()
		all.ask("ask", asking{Kind: "lightpush", Each: time.Second * members / time.Duration(rate), For: 15 * time.Second}, &y)
		took := time.Since(began)
		node.ask("cost", nil, &after)
		t.Logf("%d/s offered, %.0f/s done: %v; node %.0f %% of a core, members %.0f %%, %v",
			rate, float64(y.OK)/took.Seconds(), &y, 100*(after.CPU-before.CPU)/took.Seconds(), 100*y.CPU, y.Errors)
		if rate == 600 {
			require.Equal(t, y.Offered, y.OK)
			require.LessOrEqual(t, y.P99, 100*time.Millisecond)
		}
	}
}
