package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// outages are the ways in which a server goes away and comes back.
var outages = map[string]struct{ begin, end func(*pgtest.Cluster) error }{
	"stopped": {func(c *pgtest.Cluster) error { return c.Stop(pgtest.Fast) }, (*pgtest.Cluster).Restart},
	"killed":  {(*pgtest.Cluster).Kill, (*pgtest.Cluster).Restart},
	"frozen":  {(*pgtest.Cluster).Pause, (*pgtest.Cluster).Resume},
}

// Whatever becomes of the server, Put goes on, queries fail soon, and afterwards
// all that was acknowledged is there.
func TestOutage(t *testing.T) {
	server := pgtest.Start(t, pgtest.Config{})
	for name := range outages {
		t.Run(name, func(t *testing.T) { outage(t, server, name, 200, 1500*time.Millisecond) })
	}
}

func TestSoakOutage(t *testing.T) {
	if !soaking {
		t.Skip("takes hours")
	}
	server := pgtest.Start(t, pgtest.Config{})
	for name := range outages {
		for _, rate := range []int{50, 500} {
			for _, away := range []time.Duration{5 * time.Second, time.Minute, 10 * time.Minute} {
				t.Run(fmt.Sprintf("%s for %v at %d per second", name, away, rate), func(t *testing.T) {
					outage(t, server, name, rate, away)
				})
			}
		}
	}
}

func outage(t *testing.T, server *pgtest.Cluster, name string, rate int, away time.Duration) {
	a, err := postgres.Open(t.Context(), server.Database(t), postgres.Config{
		SpoolDir: t.TempDir(), Policy: month, PruneEvery: 100 * time.Millisecond, Logger: logger(t),
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	require.Equal(t, store.Ready, a.Condition().State)

	l := startLoad(t, a, rate)
	defer l.stop()
	l.await(true, time.Minute)
	time.Sleep(away / 5)

	began := time.Now()
	require.NoError(t, outages[name].begin(server))
	l.await(false, 3*time.Second)
	noticed := time.Since(began)
	c := a.Condition()
	assert.Equal(t, store.Spooling, c.State)
	assert.Error(t, c.Err)
	assert.False(t, c.Since.Before(began))
	time.Sleep(away - time.Since(began))
	assert.Positive(t, a.Condition().Pending)

	back := time.Now()
	require.NoError(t, outages[name].end(server))
	served := time.Now()
	l.await(true, 3*time.Second)
	require.NoError(t, a.Flush(patient(t, away+time.Minute)))
	drained := time.Since(served)
	acked := l.stop()
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	c = a.Condition()
	assert.Equal(t, store.Ready, c.State)
	assert.NoError(t, c.Err)
	assert.Zero(t, c.Pending)
	assert.Zero(t, c.Refused)
	assert.Less(t, l.slowest, 3*time.Second, "queries end within a second, on a machine with time for them")
	requireHeld(t, a, acked)
	stats, err := a.Stats(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, len(acked), stats.Messages, "no message twice, and none that nobody put")
	if soaking {
		assert.Less(t, l.slowest, time.Second)
		assert.Less(t, drained, 2*away)
	}
	t.Logf("%s %v: noticed after %v, slowest query %v, served again after %v, drained after %v; %d acknowledged, %d queries, %d told that it was away",
		name, away, noticed, l.slowest, served.Sub(back), drained, len(acked), l.answers, l.away)
}
