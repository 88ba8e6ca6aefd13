package spool_test

import (
	"context"
	"crypto/rand"

	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/internal/spool"
)

// BenchmarkBesidePostgres: 10,000 records/s of 2 KiB, in batches of 50, on their
// way into a PostgreSQL that syncs to the same disk. One operation is a batch.
func BenchmarkBesidePostgres(b *testing.B) {
	const batch, rate, workers = 50, 10_000, 4
	c := pgtest.Start(b, pgtest.Config{Settings: map[string]string{"max_wal_size": "4GB"}})
	url := c.Database(b)
	pgtest.Exec(b, url, "CREATE TABLE r (id bigserial PRIMARY KEY, data bytea)")
	pgtest.Exec(b, url, "ALTER TABLE r ALTER data SET STORAGE EXTERNAL")
	s := open(b, b.TempDir(), spool.Config{})
	ctx, cancel := context.WithCancel(b.Context())
	var readers, writers sync.WaitGroup
	for range workers {
		conn, err := pgx.Connect(ctx, url)
		require.NoError(b, err)
		readers.Go(func() {
			defer conn.Close(context.Background())
			for {
				batch, err := s.Next(ctx, 500, 0)
				if err != nil {
					return
				}
				if _, err := conn.Exec(ctx, "INSERT INTO r (data) SELECT unnest($1::bytea[])", batch.Records); err != nil {
					b.Error(err)
					return
				}
				batch.Done()
			}
		})
	}
	records := make([][]byte, batch)
	for i := range records {
		records[i] = make([]byte, benchRecord)
		rand.Read(records[i])
	}
	var mu sync.Mutex
	var waited []time.Duration
	b.SetBytes(batch * benchRecord)
	b.ResetTimer()
	began := time.Now()
	most := int64(0)
	for i := range b.N {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second * batch / rate)))
		due := time.Now()
		most = max(most, s.Stats().Records)
		writers.Go(func() {
			if err := s.Append(ctx, records); err != nil {
				b.Error(err)
				return
			}
			mu.Lock()
			waited = append(waited, time.Since(due))
			mu.Unlock()
		})
	}
	writers.Wait()
	require.NoError(b, s.Wait(ctx, s.Position()))
	b.StopTimer()
	report(b, b.N*batch, waited)
	b.ReportMetric(float64(most), "most-spooled")
	cancel()
	readers.Wait()
}
