//go:build soak && linux

package scorecard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/netspace"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
	"github.com/status-im/shoal/waku"
)

// A street is a few machines with addresses of 10.0.0.0/8, because loopback is exempt
// from all rules about addresses. On each is a process: the node under test, which has a
// core of its own, and on the other core who is honest and who isn't. They do what the
// test tells them, in a line of JSON, and answer with another.

// nodeAddr is where the node under test listens.
const nodeAddr = "/ip4/10.0.0.1/tcp/30303"

// loadCPU is for everybody but the node under test.
const loadCPU = 1

// roles are what a process may be: each returns what does as it is told.
var roles = map[string]func(params json.RawMessage) part{
	"node":   playNode,
	"caller": playCallers,
}

// part does one order after the other. What it panics with ends the process.
type part map[string]func(params json.RawMessage) any

// play is the main function of a process that isn't the test.
func play() {
	name, params, _ := strings.Cut(os.Getenv(victimEnv), " ")
	role, ok := roles[name]
	if !ok {
		runVictim()
		return
	}
	p := role(json.RawMessage(params))
	out := json.NewEncoder(os.Stdout)
	check(out.Encode("ready"))
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // the test is over
		}
		name, params, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if p[name] == nil {
			check(fmt.Errorf("no order %q", name))
		}
		check(out.Encode(p[name](json.RawMessage(params))))
	}
}

func as[T any](params json.RawMessage) (v T) {
	if len(params) > 0 {
		check(json.Unmarshal(params, &v))
	}
	return v
}

type street struct {
	t       *testing.T
	segment *netspace.Segment
}

func newStreet(t *testing.T) *street {
	if why := netspace.Unable(); why != "" {
		t.Fatal("this row is about addresses and can't be tried here: ", why)
	}
	return &street{t, netspace.NewSegment(t, 8)}
}

// actor is a process on a machine of its own.
type actor struct {
	t    *testing.T
	name string
	in   io.WriteCloser
	out  *bufio.Reader
}

// begin starts a process on a machine with these addresses.
func (s *street) begin(role string, cpu int, params any, addrs ...string) *actor {
	s.t.Helper()
	text, err := json.Marshal(params)
	require.NoError(s.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+role+" "+string(text))
	cmd.Stderr = os.Stderr
	a := &actor{t: s.t, name: role}
	a.in, err = cmd.StdinPipe()
	require.NoError(s.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	a.out = bufio.NewReaderSize(out, 1<<20)
	machine := s.segment.Machine(s.t, role, addrs...)
	require.NoError(s.t, machine.StartOn(cmd, cpu))
	s.t.Cleanup(func() {
		a.in.Close()
		_ = cmd.Wait()
	})
	var hello string
	a.hear(&hello)
	return a
}

// node begins the node under test.
func (s *street) node(params nodeParams) *actor {
	s.t.Helper()
	return s.begin("node", victimCPU, params, "10.0.0.1")
}

func (a *actor) hear(answer any) {
	line, err := a.out.ReadBytes('\n')
	require.NoError(a.t, err, "%s ended: %s", a.name, line)
	require.NoError(a.t, json.Unmarshal(line, answer), "%s", line)
}

// tell gives an order and doesn't wait.
func (a *actor) tell(order string, params any) {
	text, err := json.Marshal(params)
	require.NoError(a.t, err)
	_, err = fmt.Fprintln(a.in, order, string(text))
	require.NoError(a.t, err)
}

func (a *actor) ask(order string, params, answer any) {
	a.tell(order, params)
	a.hear(answer)
}

// addresses are n of them, 10.net.i.1.
func addresses(net, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("10.%d.%d.1", net, i))
	}
	return out
}

// nodeParams is what the node under test offers.
type nodeParams struct {
	Conns, PerIP int // 0: as usual
	Archive      string
	Filter       bool
	LightPush    bool
	PushRate     float64 // of one member; 0: as usual
}

// cost is what a process has used.
type cost struct {
	CPU        float64 // seconds, user and system
	Heap       uint64  // bytes, after a collection
	RSS        uint64
	Goroutines int
	Files      int
	Counts     map[string]float64 // the metrics
}

func (c cost) String() string {
	return fmt.Sprintf("heap %.1f MiB, RSS %.1f MiB, %d goroutines, %d files", float64(c.Heap)/(1<<20), float64(c.RSS)/(1<<20), c.Goroutines, c.Files)
}

func costs() (c cost) {
	runtime.GC()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	var ru syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &ru))
	c.CPU, c.Heap, c.Goroutines = seconds(ru.Utime)+seconds(ru.Stime), mem.HeapAlloc, runtime.NumGoroutine()
	files, err := os.ReadDir("/proc/self/fd")
	check(err)
	c.Files = len(files)
	statm, err := os.ReadFile("/proc/self/statm")
	check(err)
	var size, resident uint64
	_, err = fmt.Sscan(string(statm), &size, &resident)
	check(err)
	c.RSS = resident * uint64(os.Getpagesize())
	return c
}

func playNode(text json.RawMessage) part {
	p := as[nodeParams](text)
	runtime.GOMAXPROCS(1)
	ctx := context.Background()
	registry := prometheus.NewRegistry()
	options := []waku.Option{
		waku.WithNetwork(waku.Local), waku.WithListenAddrs(nodeAddr), waku.WithMetrics(registry),
		waku.WithProtectedShard(shard, key.PublicKey()), waku.WithNodeKey(nodeKey),
	}
	if p.Conns > 0 {
		options = append(options, waku.WithMaxConns(p.Conns))
	}
	if p.PerIP > 0 {
		options = append(options, waku.WithMaxConnsPerIP(p.PerIP))
	}
	var evicted, dropped atomic.Int64
	if p.Filter {
		options = append(options, waku.WithFilterService(filter.ServerConfig{
			OnEvict: func(peer.ID, error) { evicted.Add(1) },
			OnFailure: func(_ peer.ID, err error) {
				var o *filter.OverflowError
				if errors.As(err, &o) {
					dropped.Add(int64(o.Dropped))
				}
			},
		}))
	}
	if p.LightPush {
		options = append(options, waku.WithLightPushService(lightpush.ServerConfig{Rate: p.PushRate}))
	}
	var archive *sqlite.Archive
	if p.Archive != "" {
		var err error
		archive, err = sqlite.Open(ctx, p.Archive, sqlite.Config{Policy: store.Policy{Default: store.Retention{MaxAge: archived}}})
		check(err)
		options = append(options, waku.WithArchive(archive))
	}
	n, err := waku.New(ctx, options...)
	check(err)
	_, err = n.Join(ctx, waku.Community{Shard: shard})
	check(err)
	key.PublicKey().Verify([32]byte{}, make([]byte, 64)) // builds the table
	return part{
		"cost": func(json.RawMessage) any {
			c := costs()
			c.Counts = gather(registry)
			c.Counts["evicted"], c.Counts["dropped"] = float64(evicted.Load()), float64(dropped.Load())
			return c
		},
		"parted": func(json.RawMessage) any {
			reasons := map[string]int{}
			for _, d := range n.Health().Disconnects {
				reasons[d.Reason]++
			}
			return reasons
		},
		"peers": func(json.RawMessage) any { return n.Peers() },
		"keep":  func(text json.RawMessage) any { return keep(ctx, archive, as[int](text)) },
		"close": func(json.RawMessage) any {
			err := n.Close()
			if archive != nil {
				err = archive.Close()
			}
			return fmt.Sprint(err)
		},
	}
}

// gather is the registry's counters and gauges by name and labels.
func gather(r *prometheus.Registry) map[string]float64 {
	families, err := r.Gather()
	check(err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// nodeKey makes the node's id known to everybody.
var nodeKey = append(make([]byte, 31), 7)

var nodeInfo = func() peer.AddrInfo {
	private, err := crypto.UnmarshalSecp256k1PrivateKey(nodeKey)
	check(err)
	id, err := peer.IDFromPrivateKey(private)
	check(err)
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast(nodeAddr)}}
}()

// archived is how long the node's archive keeps messages.
const archived = 30 * 24 * time.Hour

// keep puts n messages of 2 KiB into the archive, of all the topics there are and the last hour.
func keep(ctx context.Context, archive *sqlite.Archive, n int) int {
	now := time.Now()
	var batch []store.Entry
	for i := range n {
		m := &message.Message{
			Payload: payload2K(int64(i)), ContentTopic: topicOf(i % kept),
			Timestamp: now.Add(-time.Hour).UnixNano() + int64(i)*int64(time.Hour)/int64(n),
		}
		check(key.Sign(shard.PubsubTopic(), m))
		batch = append(batch, store.NewEntry(shard, m))
		if len(batch) == 500 || i == n-1 {
			check(archive.Put(ctx, batch))
			batch = nil
		}
	}
	return n
}
