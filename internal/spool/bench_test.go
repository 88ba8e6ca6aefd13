package spool_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/spool"
)

const benchRecord = 2 << 10

func batchOf(n int) [][]byte {
	records := make([][]byte, n)
	for i := range records {
		records[i] = make([]byte, benchRecord)
	}
	return records
}

// report adds records per second and how long callers waited.
func report(b *testing.B, records int, waited []time.Duration) {
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
	slices.Sort(waited)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(waited[len(waited)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
}

// BenchmarkAppend: records of 2 KiB, durable, while another goroutine takes them
// out.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ callers, batch int }{{1, 1}, {64, 1}, {1, 50}, {8, 50}, {64, 50}} {
		b.Run(fmt.Sprintf("callers=%d/batch=%d", c.callers, c.batch), func(b *testing.B) {
			s := open(b, b.TempDir(), spool.Config{})
			ctx, cancel := context.WithCancel(b.Context())
			var readers, writers sync.WaitGroup
			readers.Go(func() {
				for {
					batch, err := s.Next(ctx, 200, 0)
					if err != nil {
						return
					}
					batch.Done()
				}
			})
			var mu sync.Mutex
			var waited []time.Duration
			var left atomic.Int64
			left.Store(int64(b.N))
			b.SetBytes(int64(c.batch) * benchRecord)
			b.ResetTimer()
			for range c.callers {
				writers.Go(func() {
					records := batchOf(c.batch)
					var mine []time.Duration
					for left.Add(-1) >= 0 {
						began := time.Now()
						if err := s.Append(ctx, records); err != nil {
							b.Error(err)
							break
						}
						mine = append(mine, time.Since(began))
					}
					mu.Lock()
					waited = append(waited, mine...)
					mu.Unlock()
				})
			}
			writers.Wait()
			b.StopTimer()
			report(b, b.N*c.batch, waited)
			cancel()
			readers.Wait()
		})
	}
}

// BenchmarkBacklog: records of 2 KiB that are read from the disk again.
func BenchmarkBacklog(b *testing.B) {
	s := open(b, b.TempDir(), spool.Config{MemoryBytes: 1})
	records := batchOf(500)
	for n := 0; n < b.N; n += len(records) {
		require.NoError(b, s.Append(b.Context(), records))
	}
	b.SetBytes(benchRecord)
	b.ResetTimer()
	for n := 0; n < b.N; {
		batch, err := s.Next(b.Context(), 200, 0)
		require.NoError(b, err)
		n += len(batch.Records)
		batch.Done()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkOpen: a spool of 1 GiB.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := open(b, dir, spool.Config{})
	records := batchOf(1000)
	for range 512 {
		require.NoError(b, s.Append(b.Context(), records))
	}
	require.NoError(b, s.Close())
	b.ResetTimer()
	for b.Loop() {
		s, err := spool.Open(dir, spool.Config{})
		require.NoError(b, err)
		_, err = s.Next(b.Context(), 1, 0)
		require.NoError(b, err)
		require.NoError(b, s.Close())
	}
}
