package scale

import (
	"cmp"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/status-im/shoal/internal/simnet"
	"github.com/status-im/shoal/relay"
)

type hostNumber = *simnet.Host

// Result is what a run measured. Times are in seconds, rates in Mbit/s.
type Result struct {
	Name           string        // what the run is called
	Trouble        string        // what befell it
	Attack         *AttackResult // nil: none
	Seed           uint64
	Members, Fleet int
	Profile        relay.Profile
	Size           int
	Rate           float64 // messages a second
	Transport      string
	Settle, Load   float64
	Roles          map[Role]*RoleResult
	Messages       int // published, those while warming up included
	Expected       int // deliveries
	Delivered      int
	Missing, Twice int
	Latency        Spread
	Quantiles      []float64 // of the latency, in steps of a hundredth, 0 to 1
	Seconds        []Second  // by when messages were published
	Reached        []float64 // share delivered within 1, 2, ... 15 seconds
	Rejected       uint64    // messages refused by validators
	Dropped        uint64    // RPCs that found a queue full
	Cut            uint64    // peers cut off
	Goroutines     int
	RSS            uint64 // bytes, at most
	Heap, Stacks   uint64 // bytes in use in the end
	WallSeconds    float64
	WallPerSecond  float64 // while loaded
	Floor          float64 // Mbit/s in and out, if every message came and left once
}

// Second is what became of the messages published in one second of the run.
type Second struct {
	At        float64 // since counting began
	Messages  int
	Delivered float64 // share, in the end
	InTen     float64 // share within ten seconds
}

// RoleResult is the mean over the nodes of a role, over the counted time.
type RoleResult struct {
	Nodes   int
	In, Out float64 // on the wire
	Stream  float64 // in and out, without what the transport adds
	Max     float64 // of one node, in and out
	Classes map[string]float64
	Copies  float64 // received for each message
	Degree  float64
	Peers   float64
}

// Spread describes a distribution.
type Spread struct{ Mean, P50, P90, P99, P999, Max float64 }

// Sum is in and out.
func (r *RoleResult) Sum() float64 { return r.In + r.Out }

func (w *world) result() *Result {
	c := w.cfg
	r := &Result{
		Seed: c.Seed, Members: c.Members, Fleet: c.Fleet, Profile: c.Profile, Size: c.Size, Rate: c.Rate,
		Transport: w.net.Transport().Name, Settle: c.Settle.Seconds(), Load: c.Load.Seconds(),
		Roles: map[Role]*RoleResult{}, Goroutines: runtime.NumGoroutine(), RSS: rss(), WallSeconds: c.Wall().Seconds(), WallPerSecond: w.pace,
	}
	r.Trouble = c.trouble()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	r.Heap, r.Stacks = m.HeapAlloc, m.StackInuse
	counted := 0
	for i := range w.say {
		if w.say[i].counted && !w.say[i].gone {
			counted++
		}
	}
	mbit := func(bytes uint64) float64 { return float64(bytes) * 8 / c.Load.Seconds() / 1e6 }
	for _, n := range w.nodes {
		if n.gone.Load() {
			continue
		}
		role := r.Roles[n.role]
		if role == nil {
			role = &RoleResult{Classes: map[string]float64{}}
			r.Roles[n.role] = role
		}
		role.Nodes++
		in, out := mbit(n.bytes.In.Wire()), mbit(n.bytes.Out.Wire())
		role.In += in
		role.Out += out
		role.Stream += mbit(n.bytes.In.Stream() + n.bytes.Out.Stream())
		role.Max = max(role.Max, in+out)
		for class := range simnet.Class(simnet.Classes) {
			role.Classes[class.String()] += mbit(n.bytes.In.Bytes[class] + n.bytes.Out.Bytes[class])
		}
		role.Copies += float64(n.bytes.In.Messages) / float64(max(1, counted))
		role.Peers += float64(len(n.host.Network().Peers()))
		if n.role == Attacker {
			continue
		}
		role.Degree += float64(len(n.relay.Mesh(shard)))
		stats := n.relay.Stats()
		for _, s := range stats.Shards {
			r.Rejected += s.Rejected + s.Ignored
		}
		r.Dropped += stats.DroppedRPCs
		r.Cut += stats.PeersCut
		r.Twice += int(n.twice.Load())
	}
	for _, role := range r.Roles {
		nodes := float64(role.Nodes)
		for _, x := range []*float64{&role.In, &role.Out, &role.Stream, &role.Copies, &role.Degree, &role.Peers} {
			*x /= nodes
		}
		for class := range role.Classes {
			role.Classes[class] /= nodes
		}
	}
	w.deliveries(r)
	if a := c.Attack; a.Kind != "" {
		r.Attack = &AttackResult{Kind: a.Kind, Attackers: a.Attackers, Held: w.heldBy, ForgedDelivered: w.forged.Load()}
		_, r.Attack.Honest = w.held()
		for _, n := range w.attackers() {
			if n.raw != nil {
				r.Attack.ForgedPassedOn += n.raw.heard.Load()
				r.Attack.Sent += n.raw.sent.Load()
			}
		}
	}
	r.Floor = 2 * float64(c.Size) * 8 * c.Rate / 1e6
	return r
}

// deliveries counts what came, for nodes that are still there: each of them ought to
// have everything that was said.
func (w *world) deliveries(r *Result) {
	c := w.cfg
	var took []float64
	began := c.Settle + c.Warm
	seconds, due := map[int]*Second{}, map[int]float64{}
	r.Reached = make([]float64, 15)
	for i := range w.say {
		u := &w.say[i]
		if u.gone || u.sent.IsZero() {
			continue
		}
		r.Messages++
		at := int(math.Floor((u.at - began).Seconds()))
		if seconds[at] == nil {
			seconds[at] = &Second{At: float64(at)}
		}
		second := seconds[at]
		second.Messages++
		for _, n := range w.honest() {
			if n.number == u.by || n.gone.Load() {
				continue
			}
			r.Expected++
			due[at]++
			t := n.took[i].Load()
			if t < 0 {
				r.Missing++
				continue
			}
			r.Delivered++
			second.Delivered++
			if t < int64(10*time.Second) {
				second.InTen++
			}
			took = append(took, time.Duration(t).Seconds())
		}
	}
	slices.Sort(took)
	for i := range r.Reached {
		n, _ := slices.BinarySearchFunc(took, float64(i+1), cmp.Compare)
		r.Reached[i] = float64(n) / float64(max(1, r.Expected))
	}
	r.Latency = spread(took)
	for q := range 101 {
		r.Quantiles = append(r.Quantiles, quantile(took, float64(q)/100))
	}
	for _, at := range slices.Sorted(maps.Keys(seconds)) {
		second := seconds[at]
		second.Delivered, second.InTen = second.Delivered/max(1, due[at]), second.InTen/max(1, due[at])
		r.Seconds = append(r.Seconds, *second)
	}
}

// spread describes sorted values.
func spread(v []float64) (s Spread) {
	if len(v) == 0 {
		return s
	}
	for _, x := range v {
		s.Mean += x
	}
	s.Mean /= float64(len(v))
	s.P50, s.P90, s.P99, s.P999, s.Max = quantile(v, 0.5), quantile(v, 0.9), quantile(v, 0.99), quantile(v, 0.999), v[len(v)-1]
	return s
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// rss is the most memory that the process has had, in bytes, or 0 if the system
// doesn't say.
func rss() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
