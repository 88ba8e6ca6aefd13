//go:build soak && linux

package scorecard

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/store"
)

// callerParams is how many there are, and from which addresses they call: each of those
// in turn.
type callerParams struct {
	IDs   int
	Addrs []string
}

// caller is somebody who is connected with the node under test.
type caller struct {
	host   host.Host
	store  *store.Client
	push   *lightpush.Client
	filter *filter.Client
	heard  func(filter.Push)
}

// callers are all of a process.
type callers struct {
	params callerParams
	all    []*caller
	halves []*net.TCPConn
	begun  time.Time // the last of them
	author *relay.Relay
	audience
}

func newCaller(ip string) *caller {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	h, err := libp2p.New(
		libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport(),
			tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) { return dialer, nil })),
	)
	check(err)
	c := &caller{host: h}
	metadata.Serve(h, metadata.Config{Own: func() metadata.Info {
		return metadata.Info{Cluster: shard.Cluster, HasCluster: true, Shards: []uint16{shard.Index}}
	}})
	c.store = store.NewClient(h, store.ClientConfig{Rate: -1})
	c.push = lightpush.NewClient(h, lightpush.ClientConfig{Rate: -1})
	c.filter = filter.NewClient(h, filter.ClientConfig{Rate: -1, OnPush: func(p filter.Push) {
		if c.heard != nil {
			c.heard(p)
		}
	}})
	return c
}

func playCallers(text json.RawMessage) part {
	cs := &callers{params: as[callerParams](text)}
	runtime.GOMAXPROCS(1)
	for i := range cs.params.IDs {
		cs.all = append(cs.all, newCaller(cs.params.Addrs[i%len(cs.params.Addrs)]))
	}
	return part{
		"cost":        func(json.RawMessage) any { return costs() },
		"connect":     func(json.RawMessage) any { return cs.connect() },
		"call":        func(text json.RawMessage) any { return cs.all[as[int](text)].call() },
		"hangup":      func(json.RawMessage) any { return cs.hangUp() },
		"left":        func(json.RawMessage) any { return cs.left() },
		"relay":       func(json.RawMessage) any { return cs.relay() },
		"ask":         func(text json.RawMessage) any { return cs.ask(as[asking](text)) },
		"flood":       func(text json.RawMessage) any { return cs.flood(as[flooding](text)) },
		"open":        func(text json.RawMessage) any { return cs.open(as[opening](text)) },
		"abort":       func(text json.RawMessage) any { return cs.abort(as[int](text)) },
		"begin":       func(text json.RawMessage) any { return cs.begin(as[int](text)) },
		"spam":        func(text json.RawMessage) any { return cs.spam(as[int](text)) },
		"join":        func(json.RawMessage) any { return cs.join() },
		"deafen":      func(text json.RawMessage) any { return cs.deafen(as[int](text)) },
		"publish":     func(text json.RawMessage) any { return cs.publish(as[publishing](text)) },
		"archived":    func(text json.RawMessage) any { return cs.archived(as[[]message.Hash](text)) },
		"subscribe":   func(text json.RawMessage) any { return cs.subscribe(as[subscribing](text)) },
		"subscribed":  func(text json.RawMessage) any { return cs.subscribed(as[subscribing](text)) },
		"unsubscribe": func(json.RawMessage) any { return cs.unsubscribe() },
		"ended":       func(json.RawMessage) any { return cs.ended() },
	}
}

// connected is how many got in.
type connected struct {
	Connected int
	Slowest   time.Duration
	Errors    map[string]int
}

func (c connected) String() string {
	return fmt.Sprintf("%d connected, the slowest after %v %v", c.Connected, c.Slowest.Round(time.Millisecond), c.Errors)
}

// connect connects all and returns how many are, a second later, and what was wrong
// with the others.
func (cs *callers) connect() (r connected) {
	r.Errors = map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	some := make(chan struct{}, 16)
	for _, c := range cs.all {
		some <- struct{}{}
		wg.Go(func() {
			defer func() { <-some }()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			began := time.Now()
			err := c.host.Connect(ctx, nodeInfo)
			mu.Lock()
			defer mu.Unlock()
			r.Slowest = max(r.Slowest, time.Since(began))
			if err != nil {
				lines := strings.Split(err.Error(), "\n")
				r.Errors[lines[len(lines)-1]]++
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Second)
	r.Connected = cs.left()
	return r
}

// call is how one connection went.
type call struct {
	Took  time.Duration
	Error string
}

// call connects, at the first try or not at all.
func (c *caller) call() (r call) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	began := time.Now()
	if err := c.host.Connect(ctx, nodeInfo); err != nil {
		r.Error = err.Error()
	}
	r.Took = time.Since(began)
	return r
}

// hangUp ends all connections.
func (cs *callers) hangUp() int {
	for _, c := range cs.all {
		_ = c.host.Network().ClosePeer(nodeInfo.ID)
	}
	return len(cs.all)
}

// left is how many are connected.
func (cs *callers) left() (n int) {
	for _, c := range cs.all {
		if c.host.Network().Connectedness(nodeInfo.ID) == network.Connected {
			n++
		}
	}
	return n
}

// relay makes the callers members of the mesh, so that the node has somebody to hand
// messages to.
func (cs *callers) relay() any {
	for _, c := range cs.all {
		r, err := relay.New(c.host, relay.Config{})
		check(err)
		sub, err := r.Subscribe(shard, relay.SubscribeConfig{})
		check(err)
		go func() {
			for range sub.All(context.Background()) {
			}
		}()
	}
	return "done"
}

// tally is what became of requests.
type tally struct {
	Offered, OK, TooMany, Unavailable, Other, Failed int
	Hints                                            int // of TooMany, those that say when to come back
	Errors                                           map[string]int
	P50, P99, Max                                    time.Duration // of those that were answered well
	CPU                                              float64       // of a core, the process's
	latencies                                        []time.Duration
	mu                                               sync.Mutex
}

func (y *tally) add(status int, desc string, err error, took time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.Offered++
	switch {
	case err != nil:
		y.Failed++
		if y.Errors == nil {
			y.Errors = map[string]int{}
		}
		if len(y.Errors) < 5 {
			y.Errors[err.Error()]++
		}
	case status == 200:
		y.OK++
		y.latencies = append(y.latencies, took)
	case status == 429:
		y.TooMany++
		if strings.Contains(desc, "retry after") {
			y.Hints++
		}
	case status == 503:
		y.Unavailable++
	default:
		y.Other++
	}
}

func (y *tally) end() *tally {
	slices.Sort(y.latencies)
	if n := len(y.latencies); n > 0 {
		y.P50, y.P99, y.Max = y.latencies[n/2], y.latencies[n*99/100], y.latencies[n-1]
	}
	return y
}

func (y *tally) String() string {
	return fmt.Sprintf("offered %d: %d answered, %d too many (%d with a time), %d unavailable, %d other, %d failed; p50 %v, p99 %v, max %v",
		y.Offered, y.OK, y.TooMany, y.Hints, y.Unavailable, y.Other, y.Failed,
		y.P50.Round(10*time.Microsecond), y.P99.Round(10*time.Microsecond), y.Max.Round(10*time.Microsecond))
}

// during runs f and notes what it cost.
func (y *tally) during(f func()) *tally {
	before, began := costs().CPU, time.Now()
	f()
	y.CPU = (costs().CPU - before) / time.Since(began).Seconds()
	return y.end()
}

// asking is what honest callers do: each asks once in a while, with our clients.
type asking struct {
	Kind string
	Each time.Duration
	For  time.Duration
}

func (cs *callers) ask(a asking) any {
	y := new(tally)
	return y.during(func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.For+30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		began := time.Now()
		for i, c := range cs.all {
			wg.Go(func() {
				first := began.Add(a.Each * time.Duration(i) / time.Duration(len(cs.all)))
				for n := 0; ; n++ {
					due := first.Add(time.Duration(n) * a.Each)
					if due.Sub(began) > a.For {
						return
					}
					time.Sleep(time.Until(due))
					wg.Go(func() {
						at := time.Now()
						status, err := c.request(ctx, a.Kind)
						y.add(status, "", err, time.Since(at))
					})
				}
			})
		}
		wg.Wait()
	})
}

// request asks as an application would, and returns the status.
func (c *caller) request(ctx context.Context, kind string) (int, error) {
	switch kind {
	case "store":
		_, err := c.store.Query(ctx, nodeInfo.ID, store.Query{Shard: &shard, ContentTopics: []string{topicOf(1)}, Limit: 20})
		var status *store.StatusError
		if errors.As(err, &status) {
			return int(status.Code), nil
		}
		return 200, err
	case "lightpush":
		m := &message.Message{Payload: fmt.Appendf(nil, "%d", serial.Add(1)), ContentTopic: contentTopic, Timestamp: time.Now().UnixNano()}
		check(key.Sign(shard.PubsubTopic(), m))
		_, err := c.push.Push(ctx, nodeInfo.ID, shard, m)
		var status *lightpush.StatusError
		if errors.As(err, &status) {
			return int(status.Code), nil
		}
		return 200, err
	case "filter":
		err := c.filter.Subscribe(ctx, nodeInfo.ID, shard, []string{topicOf(1)})
		var status *filter.StatusError
		if errors.As(err, &status) {
			return int(status.Code), nil
		}
		return 200, err
	}
	return 0, fmt.Errorf("no kind %q", kind)
}

var serial atomic.Int64

func topicOf(n int) string { return fmt.Sprintf("/town/1/lobby-%d/proto", n) }

// flooding is what hostile callers do: so many requests a second together, each
// written at once and on a stream of its own, whatever became of those before. Rate 0:
// the next when the one before is answered.
type flooding struct {
	Kind     string
	Rate     float64
	For      time.Duration
	InFlight int // of each
}

func (cs *callers) flood(f flooding) any {
	y := new(tally)
	return y.during(func() {
		var wg sync.WaitGroup
		end := time.Now().Add(f.For)
		for i, c := range cs.all {
			turns := make(chan int, f.InFlight)
			wg.Go(func() {
				defer close(turns)
				began := time.Now()
				for n := 0; time.Now().Before(end); n++ {
					if f.Rate > 0 {
						each := time.Duration(float64(time.Second) * float64(len(cs.all)) / f.Rate)
						time.Sleep(time.Until(began.Add(each*time.Duration(n) + each*time.Duration(i)/time.Duration(len(cs.all)))))
					}
					turns <- n
				}
			})
			for range f.InFlight {
				wg.Go(func() {
					for n := range turns {
						at := time.Now()
						status, desc, err := c.raw(f.Kind, n)
						y.add(status, desc, err, time.Since(at))
					}
				})
			}
		}
		wg.Wait()
	})
}

// opener is what a stream begins with: both lines of multistream at once.
func opener(id protocol.ID) []byte {
	var b []byte
	for _, text := range []string{"/multistream/1.0.0\n", string(id) + "\n"} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

// kept is how many topics the node's archive has messages of.
const kept = 50

// hostile is what asks for as much as one request may.
func hostile(kind string, n int) (id protocol.ID, request []byte) {
	switch kind {
	case "store":
		return store.ID, questions()[n%kept]
	case "lightpush": // what looks signed
		m := &message.Message{
			Payload: payload2K(serial.Add(1)), ContentTopic: contentTopic, Timestamp: time.Now().UnixNano(), Meta: forgedMeta(),
		}
		b := protowire.AppendString(protowire.AppendTag(asked(), 20, protowire.BytesType), shard.PubsubTopic())
		return lightpush.ID, protowire.AppendBytes(protowire.AppendTag(b, 21, protowire.BytesType), m.Encode())
	case "filter":
		return filter.SubscribeID, subscriptions()[n%5]
	}
	panic(kind)
}

// asked is how all requests begin.
func asked() []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "hostile")
}

// questions ask for data, a hundred messages, all of ten topics.
var questions = sync.OnceValue(func() (all [][]byte) {
	for n := range kept {
		b := protowire.AppendVarint(protowire.AppendTag(asked(), 2, protowire.VarintType), 1)
		b = protowire.AppendString(protowire.AppendTag(b, 10, protowire.BytesType), shard.PubsubTopic())
		for i := range 10 {
			b = protowire.AppendString(protowire.AppendTag(b, 11, protowire.BytesType), topicOf((n+i)%kept))
		}
		all = append(all, protowire.AppendVarint(protowire.AppendTag(b, 53, protowire.VarintType), 100))
	}
	return all
})

// subscriptions are to a hundred topics each.
var subscriptions = sync.OnceValue(func() (all [][]byte) {
	for n := range 5 {
		b := protowire.AppendVarint(protowire.AppendTag(asked(), 2, protowire.VarintType), 1)
		b = protowire.AppendString(protowire.AppendTag(b, 10, protowire.BytesType), shard.PubsubTopic())
		for i := range 100 {
			b = protowire.AppendString(protowire.AppendTag(b, 11, protowire.BytesType), topicOf(1000+n*100+i))
		}
		all = append(all, b)
	}
	return all
})

// forgedMeta is a signature of another message.
var forgedMeta = sync.OnceValue(func() []byte {
	m := &message.Message{Payload: []byte("another"), ContentTopic: contentTopic, Timestamp: time.Now().UnixNano()}
	check(key.Sign(shard.PubsubTopic(), m))
	return m.Meta
})

// raw makes one request with as little effort as can be.
func (c *caller) raw(kind string, n int) (status int, desc string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := c.host.Network().NewStream(network.WithNoDial(ctx, "flood"), nodeInfo.ID)
	if err != nil {
		return 0, "", err
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(30 * time.Second))
	id, request := hostile(kind, n)
	b := opener(id)
	b = append(binary.AppendUvarint(b, uint64(len(request))), request...)
	if _, err = s.Write(b); err != nil {
		return 0, "", err
	}
	if err = s.CloseWrite(); err != nil {
		return 0, "", err
	}
	if _, err = io.ReadFull(s, make([]byte, len(opener(id)))); err != nil {
		return 0, "", err
	}
	answer, err := wire.ReadFrame(s, 16<<20)
	if err != nil {
		return 0, "", err
	}
	for len(answer) > 0 {
		num, typ, size := protowire.ConsumeTag(answer)
		if size < 0 {
			return 0, "", protowire.ParseError(size)
		}
		answer = answer[size:]
		switch {
		case num == 10 && typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(answer)
			status = int(v)
		case num == 11 && typ == protowire.BytesType:
			desc, _ = protowire.ConsumeString(answer)
		}
		if size = protowire.ConsumeFieldValue(num, typ, answer); size < 0 {
			return 0, "", protowire.ParseError(size)
		}
		answer = answer[size:]
	}
	return status, desc, nil
}
