package lightpush_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
)

// Requests a second on one core, which the client has its share of, with a relayer
// that does nothing.
func BenchmarkPush(b *testing.B) {
	for name, c := range map[string]struct{ version, size, clients int }{
		"v3/100B/1-client":   {3, 100, 1},
		"v3/100B/16-clients": {3, 100, 16},
		"v2/100B/16-clients": {2, 100, 16},
		"v3/2KiB/16-clients": {3, 2 << 10, 16},
		"v3/150KiB/1-client": {3, message.DefaultMaxSize, 1},
	} {
		b.Run(name, func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			hosts := p2ptest.Hosts(b, c.clients+1)
			s := serve(b, hosts[0], to(5), lightpush.ServerConfig{Rate: -1})
			only(hosts[0], c.version)
			p2ptest.Star(b, hosts)
			m := large(c.size)
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			b.ResetTimer()
			jobs := make(chan struct{})
			done := make(chan error, c.clients)
			for _, h := range hosts[1:] {
				client := lightpush.NewClient(h, fast)
				go func() {
					for range jobs {
						if _, err := client.Push(b.Context(), hosts[0].ID(), shard, m); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range b.N {
				jobs <- struct{}{}
			}
			close(jobs)
			for range c.clients {
				require.NoError(b, <-done)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pushes/s")
			require.Equal(b, uint64(b.N), s.Stats().Answers[200])
		})
	}
}

// The codec alone.
func BenchmarkCodec(b *testing.B) {
	m := large(2 << 10)
	for version, name := range map[int]string{3: "v3", 2: "v2"} {
		request := lightpush.AppendRequest(version, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", topic, m)
		b.Run(name+"/read", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, _ := lightpush.RequestOf(version, request)
				message.Decode(r.Message)
			}
		})
		b.Run(name+"/write", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lightpush.AppendRequest(version, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", topic, m)
			}
		})
	}
}
