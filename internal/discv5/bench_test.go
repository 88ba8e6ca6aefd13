package discv5_test

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/discv5"
)

// network starts n nodes that know the first.
func network(b *testing.B, n int) []*discv5.Service {
	nodes := []*discv5.Service{listen(b, 1, shards(16, 1))}
	for i := 2; i <= n; i++ {
		nodes = append(nodes, listen(b, i, shards(16, 1), boot(nodes[0])))
	}
	return nodes
}

// BenchmarkFind is a newcomer among sixty.
func BenchmarkFind(b *testing.B) {
	nodes := network(b, 60)
	others := map[peer.ID]bool{}
	for _, n := range nodes[1:] {
		others[n.Record().PeerID()] = true
	}
	time.Sleep(5 * time.Second) // their own first look around
	var ten, most, all time.Duration
	for i := 0; b.Loop(); i++ {
		s := listen(b, 1000+i, shards(16, 1), boot(nodes[0]))
		start := time.Now()
		for found := 1; found < len(nodes); {
			r, err := s.Next(within(b, soon))
			require.NoError(b, err)
			if !others[r.PeerID()] {
				continue
			}
			switch found++; found {
			case 10:
				ten += time.Since(start)
			case len(nodes) * 9 / 10:
				most += time.Since(start)
			}
		}
		all += time.Since(start)
		require.NoError(b, s.Close())
	}
	b.ReportMetric(float64(ten.Milliseconds())/float64(b.N), "ms/10")
	b.ReportMetric(float64(most.Milliseconds())/float64(b.N), "ms/90%")
	b.ReportMetric(float64(all.Milliseconds())/float64(b.N), "ms/all")
}

// BenchmarkIdle is a second of twenty nodes that nobody asks for anything:
// -benchtime=90x makes it a minute and a half.
func BenchmarkIdle(b *testing.B) {
	const n = 20
	nodes := network(b, n)
	time.Sleep(10 * time.Second)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	woken, packets := counted(), traffic(nodes)
	for b.Loop() {
		time.Sleep(time.Second)
	}
	minutes := b.Elapsed().Minutes() * n
	b.ReportMetric(float64(traffic(nodes)-packets)/minutes, "packets/min")
	b.ReportMetric(float64(counted()-woken)/minutes, "wakeups/min")
	b.ReportMetric(float64(m.HeapAlloc)/n/1024, "KiB")
}

// counted is how often a goroutine of this process has been woken.
func counted() (n uint64) {
	s := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(s)
	for _, c := range s[0].Value.Float64Histogram().Counts {
		n += c
	}
	return n
}

func traffic(nodes []*discv5.Service) (n uint64) {
	for _, s := range nodes {
		st := s.Stats()
		n += st.In + st.Out
	}
	return n
}
