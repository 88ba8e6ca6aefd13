package filter_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
)

// void is a host whose streams take everything: what the server itself costs.
type void struct {
	quiet
	taken atomic.Int64 // writes of pushes
}

func (v *void) Network() network.Network { return voidNetwork{v: v} }

type voidNetwork struct {
	network.Network
	v *void
}

func (voidNetwork) Connectedness(peer.ID) network.Connectedness { return network.Connected }

func (n voidNetwork) NewStream(context.Context, peer.ID) (network.Stream, error) {
	s := &voidStream{v: n.v}
	for _, line := range []string{"/multistream/1.0.0\n", string(filter.PushID) + "\n"} {
		s.in.WriteByte(byte(len(line)))
		s.in.WriteString(line)
	}
	return s, nil
}

type voidStream struct {
	network.Stream
	v        *void
	mu       sync.Mutex
	in       bytes.Buffer
	deadline time.Time
	begun    bool
}

func (s *voidStream) Read(b []byte) (int, error) {
	s.mu.Lock()
	wait := time.Until(s.deadline)
	n, err := s.in.Read(b)
	s.mu.Unlock()
	if err == io.EOF {
		time.Sleep(wait)
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func (s *voidStream) Write(b []byte) (int, error) {
	if s.begun {
		s.v.taken.Add(1)
	}
	return len(b), nil
}

func (s *voidStream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return nil
}
func (s *voidStream) SetProtocol(protocol.ID) error { s.begun = true; return nil }
func (s *voidStream) Scope() network.StreamScope    { return &network.NullScope{} }
func (s *voidStream) Reset() error                  { return nil }
func (s *voidStream) Close() error                  { return nil }

// heap is what is in use after the garbage is gone.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// cpu is the process's time on processors so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const subscribers, share = 5000, 100 // each message is for one in a hundred

func sample(i int) *message.Message { return number(fmt.Sprint(i%share), i, 1000) }

// BenchmarkPush is a message of 1 KB for fifty of five thousand subscribers, on
// streams that cost nothing, each subscriber holding one topic or a hundred.
func BenchmarkPush(b *testing.B) {
	for _, topics := range []int{1, 100} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			v := new(void)
			before := heap()
			s := filter.NewServer(v, filter.ServerConfig{Rate: -1})
			defer s.Close()
			for i := range subscribers {
				r := filter.Request{ID: "1", Kind: 1, PubsubTopic: pubsub, ContentTopics: []string{fmt.Sprint(i % share)}}
				for j := 1; j < topics; j++ {
					r.ContentTopics = append(r.ContentTopics, fmt.Sprintf("/app/1/%d/proto", i*topics+j))
				}
				s.Handle(peer.ID(fmt.Sprint(i)), r.Append())
			}
			idle := heap()
			for i := range share {
				require.Equal(b, subscribers/share, s.Push(pubsub, sample(i)))
			}
			time.Sleep(4 * time.Second) // until all streams are trusted
			open := heap()
			b.ResetTimer()
			spent := cpu()
			for i := range b.N {
				s.Push(pubsub, sample(i))
				if i%share == share-1 { // one for each
					for s.Stats().Sent < uint64(subscribers+(i+1)*subscribers/share) {
						time.Sleep(50 * time.Microsecond)
					}
				}
			}
			spent = cpu() - spent
			b.ReportMetric(float64(spent)/float64(b.N*subscribers/share), "cpu-ns/push")
			b.ReportMetric(float64(idle-before)/subscribers, "B/subscriber")
			b.ReportMetric(float64(open-idle)/subscribers, "B/stream")
			require.Zero(b, s.Stats().Dropped)
		})
	}
}

// BenchmarkMatch is what Push itself takes, whoever waits: its caller's time.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{0, 1, 50, 5000} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			s := filter.NewServer(quiet{}, filter.ServerConfig{Rate: -1, MaxSubscribers: 2 * subscribers})
			defer s.Close()
			for i := range subscribers + n {
				topic := "theirs"
				if i < n {
					topic = "0"
				}
				s.Handle(peer.ID(fmt.Sprint(i)), filter.Request{ID: "1", Kind: 1, PubsubTopic: pubsub, ContentTopics: []string{topic}}.Append())
			}
			m := sample(0)
			b.ResetTimer()
			for range b.N {
				s.Push(pubsub, m)
			}
		})
	}
}

// BenchmarkFanOut is the same between hosts in memory, both sides in one process:
// 100 messages a second at first, for the delay, then two thousand at once. It takes
// its time: run it once, with -benchtime=1x.
func BenchmarkFanOut(b *testing.B) {
	n := subscribers
	if testing.Short() {
		n = 500
	}
	all := p2ptest.Hosts(b, n+1)
	before := heap()
	s := serve(b, all[0], filter.ServerConfig{Rate: -1})
	var (
		taken  atomic.Int64
		mu     sync.Mutex
		delays []time.Duration
	)
	clients := make([]*filter.Client, n)
	each(n, func(i int) {
		h := all[1+i]
		clients[i] = clientWith(b, h, filter.ClientConfig{Rate: -1, OnPush: func(p filter.Push) {
			if sent := time.Unix(0, p.Message.Timestamp); sent.Year() > 2023 {
				mu.Lock()
				delays = append(delays, time.Since(sent))
				mu.Unlock()
			}
			taken.Add(1)
		}})
		if err := h.Connect(context.Background(), p2ptest.AddrInfo(all[0])); err != nil {
			b.Error(err)
		}
	})
	connected := heap()
	each(n, func(i int) {
		if err := clients[i].Subscribe(context.Background(), all[0].ID(), shard, []string{fmt.Sprint(i % share)}); err != nil {
			b.Error(err)
		}
	})
	subscribed := heap()
	var sent int64
	push := func(i int, at time.Time) {
		m := sample(i)
		m.Timestamp = at.UnixNano()
		sent += int64(s.Push(pubsub, m))
	}
	for i := range share {
		push(i, time.Unix(0, 0))
	}
	await(b, &taken, &sent)
	time.Sleep(4 * time.Second)
	open := heap()
	spent, from, began := cpu(), sent, time.Now()
	for i := range 20 * 100 { // twenty seconds
		time.Sleep(time.Until(began.Add(time.Duration(i) * 10 * time.Millisecond)))
		push(i, time.Now())
	}
	await(b, &taken, &sent)
	spent = cpu() - spent
	atRate, cores := float64(spent)/float64(sent-from), spent.Seconds()/time.Since(began).Seconds()

	spent, from, began = cpu(), sent, time.Now()
	for i := range 20 * share { // twenty for each subscriber, less than its queue holds
		push(i, time.Unix(0, 0))
	}
	await(b, &taken, &sent)
	spent = cpu() - spent
	b.ReportMetric(float64(sent-from)/time.Since(began).Seconds(), "push/s")
	b.ReportMetric(float64(spent)/float64(sent-from), "cpu-ns/push")
	b.ReportMetric(float64(subscribed-connected)/float64(n), "B/subscriber")
	b.ReportMetric(float64(open)/float64(n)-float64(subscribed)/float64(n), "B/stream-both-ends")
	b.ReportMetric(float64(connected-before)/float64(n), "B/connection-both-ends")
	b.ReportMetric(atRate, "cpu-ns/push-at-100/s")
	b.ReportMetric(cores, "cores-at-100/s")
	mu.Lock()
	b.ReportMetric(float64(percentile(delays, 50).Microseconds()), "p50-us")
	b.ReportMetric(float64(percentile(delays, 99).Microseconds()), "p99-us")
	mu.Unlock()
	require.Zero(b, s.Stats().Dropped)
}

func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() { f(i); <-slots })
	}
	wg.Wait()
}

func await(b *testing.B, taken *atomic.Int64, sent *int64) {
	for began := time.Now(); taken.Load() < *sent; {
		if time.Since(began) > time.Minute {
			b.Fatalf("%d of %d", taken.Load(), *sent)
		}
		time.Sleep(time.Millisecond)
	}
}

var _ host.Host = (*void)(nil)
