//go:build soak && linux

package scorecard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// The node under test runs in a process of its own on one core, the load on the
// others. Its CPU time is the child's own; a run without the attack comes first.

const (
	victimCPU = 0
	honestPer = 14 // messages a second
)

func init() { victim = play }

// usage is what the victim reports of itself.
type usage struct {
	CPU      float64 // seconds, user and system
	Heap     uint64  // bytes in use after a collection
	Cut      uint64
	Refused  map[string]uint64
	Rejected uint64
	Ignored  uint64
	Forward  uint64
}

func runVictim() {
	pin(victimCPU)
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	check(err)
	r, err := relay.New(h, relay.Config{})
	check(err)
	rules := guarded()
	if os.Getenv(victimEnv) == "lenient" {
		rules = blameless(rules)
	}
	r.SetRules(shard, rules)
	sub, err := r.Subscribe(shard, relay.SubscribeConfig{})
	check(err)
	go func() {
		for range sub.All(context.Background()) {
		}
	}()
	key.PublicKey().Verify([32]byte{}, make([]byte, 64))
	info, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	check(err)
	fmt.Println("victim", info[0])
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		var ru syscall.Rusage
		check(syscall.Getrusage(syscall.RUSAGE_SELF, &ru))
		s := r.Stats()
		out, err := json.Marshal(usage{
			CPU:      seconds(ru.Utime) + seconds(ru.Stime),
			Heap:     mem.HeapAlloc,
			Cut:      s.PeersCut,
			Refused:  s.Refused,
			Rejected: s.Shards[0].Rejected,
			Ignored:  s.Shards[0].Ignored,
			Forward:  s.Shards[0].Out,
		})
		check(err)
		fmt.Println("usage", string(out))
	}
	check(r.Close())
	check(h.Close())
}

// blameless turns Reject into Ignore, so that nobody is cut: what refusing
// costs without end.
func blameless(rules relay.Rules) relay.Rules {
	soften := func(v message.Verdict) message.Verdict {
		if v == message.Reject {
			return message.Ignore
		}
		return v
	}
	return relay.Rules{
		Screen: func(in *message.Received) message.Verdict { return soften(rules.Screen(in)) },
		Validator: func(ctx context.Context, in *message.Received) message.Verdict {
			return soften(rules.Validator(ctx, in))
		},
	}
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "victim:", err)
		os.Exit(1)
	}
}

func pin(cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	check(unix.SchedSetaffinity(0, &set))
	runtime.GOMAXPROCS(1)
}

// rig is the load side.
type rig struct {
	t      *testing.T
	child  *exec.Cmd
	stdin  interface{ Write([]byte) (int, error) }
	lines  chan string
	victim peer.AddrInfo
	author *relay.Relay
	ear    *relay.Subscription
}

func newRig(t *testing.T, mode string) *rig {
	g := &rig{t: t, lines: make(chan string, 10)}
	g.child = exec.Command(os.Args[0])
	g.child.Env = append(os.Environ(), victimEnv+"="+mode)
	g.child.Stderr = os.Stderr
	in, err := g.child.StdinPipe()
	require.NoError(t, err)
	g.stdin = in
	out, err := g.child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, g.child.Start())
	t.Cleanup(func() {
		in.Close()
		_ = g.child.Wait()
	})
	go func() {
		defer close(g.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			g.lines <- s.Text()
		}
	}()
	first := <-g.lines
	info, err := peer.AddrInfoFromString(strings.TrimPrefix(first, "victim "))
	require.NoError(t, err, first)
	g.victim = *info

	g.author, _ = g.member()
	_, g.ear = g.member()
	p2ptest.Eventually(t, func() bool { return len(g.author.Mesh(shard)) == 1 }, "no mesh")
	time.Sleep(3 * time.Second)
	return g
}

func (g *rig) host() host.Host {
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
	require.NoError(g.t, err)
	g.t.Cleanup(func() { h.Close() })
	return h
}

func (g *rig) member() (*relay.Relay, *relay.Subscription) {
	h := g.host()
	r, err := relay.New(h, relay.Config{})
	require.NoError(g.t, err)
	g.t.Cleanup(func() { r.Close() })
	sub, err := r.Subscribe(shard, relay.SubscribeConfig{Buffer: 1 << 14})
	require.NoError(g.t, err)
	require.NoError(g.t, h.Connect(context.Background(), g.victim))
	return r, sub
}

func (g *rig) usage() usage {
	_, err := g.stdin.Write([]byte("\n"))
	require.NoError(g.t, err)
	var u usage
	require.NoError(g.t, json.Unmarshal([]byte(strings.TrimPrefix(<-g.lines, "usage ")), &u))
	return u
}

// outcome is what honest traffic met while something else went on.
type outcome struct {
	sent, delivered int
	p50, p99        time.Duration
	cpu             float64 // of one core
	heap            int64   // growth in bytes
	offered         int64
	usage           usage
}

func (o outcome) String() string {
	return fmt.Sprintf("offered %d  cpu %.1f%%  heap %+.1f MiB  honest %d/%d  p50 %v  p99 %v  cut %d  refused %v  rejected %d",
		o.offered, 100*o.cpu, float64(o.heap)/(1<<20), o.delivered, o.sent, o.p50.Round(10*time.Microsecond), o.p99.Round(10*time.Microsecond),
		o.usage.Cut, o.usage.Refused, o.usage.Rejected)
}

// run sends honest traffic for d while attack, if any, goes on.
func (g *rig) run(d time.Duration, attack func(context.Context) int64) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	before, start := g.usage(), time.Now()
	var o outcome
	var load sync.WaitGroup
	if attack != nil {
		load.Go(func() { o.offered = attack(ctx) })
	}
	var latencies []time.Duration
	load.Go(func() {
		for {
			env, err := g.ear.Next(ctx)
			if err != nil {
				return
			}
			latencies = append(latencies, time.Since(time.Unix(0, env.Message.Timestamp)))
		}
	})
	tick := time.NewTicker(time.Second / honestPer)
	defer tick.Stop()
	for end := time.Now().Add(d - time.Second); time.Now().Before(end); <-tick.C {
		m := signed(g.t, strings.Repeat("h", 2000), time.Now())
		_, err := g.author.Publish(ctx, shard, m)
		require.NoError(g.t, err)
		o.sent++
	}
	load.Wait()
	after, took := g.usage(), time.Since(start)
	o.usage = after
	o.cpu = (after.CPU - before.CPU) / took.Seconds()
	o.heap = int64(after.Heap) - int64(before.Heap)
	o.delivered = len(latencies)
	slices.Sort(latencies)
	if n := len(latencies); n > 0 {
		o.p50, o.p99 = latencies[n/2], latencies[n*99/100]
	}
	return o
}

// flood sends messages at a rate, from one peer after the other: who is cut off
// comes back under another name.
func (g *rig) flood(rate int, next func(i int64) *pb.RPC) func(context.Context) int64 {
	return func(ctx context.Context) int64 {
		var sent atomic.Int64
		topic := shard.PubsubTopic()
		for ctx.Err() == nil {
			h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
			if err != nil {
				return sent.Load()
			}
			if h.Connect(ctx, g.victim) == nil {
				raw := p2ptest.NewRawPubsub(g.t, h)
				_ = raw.Send(g.victim.ID, p2ptest.Subscribe(topic), p2ptest.Graft(topic))
				start, n := time.Now(), 0
				for ctx.Err() == nil && h.Network().Connectedness(g.victim.ID) == network.Connected {
					if due := int(time.Since(start).Seconds() * float64(rate)); n >= due {
						time.Sleep(time.Millisecond)
						continue
					}
					if raw.Send(g.victim.ID, next(sent.Load())) != nil {
						break
					}
					n++
					sent.Add(1)
				}
				raw.Close()
			}
			h.Close()
		}
		return sent.Load()
	}
}

func unsignedMessage(i int64) *pb.RPC {
	m := &message.Message{Payload: payload2K(i), ContentTopic: contentTopic, Timestamp: time.Now().UnixNano()}
	return p2ptest.Publish(shard.PubsubTopic(), m.Encode())
}

func forgedMessage(template *message.Message) func(int64) *pb.RPC {
	return func(i int64) *pb.RPC {
		m := &message.Message{Payload: payload2K(i), ContentTopic: contentTopic, Timestamp: time.Now().UnixNano(), Meta: template.Meta}
		return p2ptest.Publish(shard.PubsubTopic(), m.Encode())
	}
}

func payload2K(i int64) []byte {
	b := make([]byte, 2048)
	r := rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))
	for j := 0; j < 64; j++ {
		b[j] = byte(r.Uint32())
	}
	return b
}

const soakFor = 10 * time.Second

func TestSoakUnsignedFlood(t *testing.T) {
	soakFlood(t, 10_000, unsignedMessage, 0.4, 100*time.Millisecond, "strict", "lenient")
}

func TestSoakForgedFlood(t *testing.T) {
	soakFlood(t, 5_000, forgedMessage(signed(t, "template", time.Now())), 0.4, 150*time.Millisecond, "strict", "lenient")
}

func TestSoakControlFloods(t *testing.T) {
	topic := shard.PubsubTopic()
	ids := func(n int, salt int64) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = string(payload2K(salt*int64(n) + int64(i))[:32])
		}
		return out
	}
	same := ids(4000, 0)
	var shards []string
	for i := range 4000 {
		shards = append(shards, fmt.Sprintf("/waku/2/rs/%d/%d", 100+i/1024, i%1024))
	}
	for name, next := range map[string]func(int64) *pb.RPC{
		"IHAVE":         func(i int64) *pb.RPC { return p2ptest.IHave(topic, ids(4000, i)...) },
		"IWANT":         func(int64) *pb.RPC { return p2ptest.IWant(same...) },
		"IDONTWANT":     func(i int64) *pb.RPC { return p2ptest.IDontWant(ids(4000, i)...) },
		"GRAFT":         func(int64) *pb.RPC { return p2ptest.Graft(shards...) },
		"subscriptions": func(int64) *pb.RPC { return p2ptest.Subscribe(shards...) },
	} {
		t.Run(name, func(t *testing.T) { soakFlood(t, 10, next, 0.3, 100*time.Millisecond, "strict") })
	}
}

// soakFlood compares honest traffic with and without a flood. In mode "lenient"
// nobody is blamed for messages: what refusing costs without end is shown.
func soakFlood(t *testing.T, rate int, next func(int64) *pb.RPC, share float64, slack time.Duration, modes ...string) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			g := newRig(t, mode)
			quiet := g.run(soakFor, nil)
			t.Log("without:", quiet)
			flooded := g.run(soakFor, g.flood(rate, next))
			t.Log("with:   ", flooded)
			t.Logf("p99 with/without %.1f", float64(flooded.p99)/float64(quiet.p99))
			require.Equal(t, quiet.sent, quiet.delivered)
			require.Equal(t, flooded.sent, flooded.delivered, "honest messages and nothing else")
			require.Less(t, flooded.heap, int64(16<<20))
			if mode == "lenient" {
				return // shown, not judged
			}
			require.Positive(t, flooded.usage.Cut)
			require.LessOrEqual(t, flooded.cpu, share, "share of a core")
			require.LessOrEqual(t, flooded.p99, quiet.p99+slack)
		})
	}
}
