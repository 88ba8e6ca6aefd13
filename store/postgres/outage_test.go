package postgres_test

import (
	"sync"
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
		t.Run(name, func(t *testing.T) { outage(t, server, name, 1500*time.Millisecond, 50, 300) })
	}
}

// outcome is what a node with a load saw of an outage.
type outcome struct {
	rate             int // messages per second
	slowest, drained time.Duration
}

// outage has nodes with these loads on one database, which goes away for a time.
func outage(t *testing.T, server *pgtest.Cluster, name string, away time.Duration, rates ...int) []outcome {
	url := server.Database(t)
	nodes := make([]*postgres.Archive, len(rates))
	loads := make([]*load, len(rates))
	for i, rate := range rates {
		nodes[i] = open(t, url, postgres.Config{PruneEvery: 100 * time.Millisecond, Logger: logger(t)})
		require.Equal(t, store.Ready, nodes[i].Condition().State)
		loads[i] = startLoad(t, nodes[i], rate)
		defer loads[i].stop()
	}
	for _, l := range loads {
		l.await(true, time.Minute)
	}
	time.Sleep(away / 5)

	began := time.Now()
	require.NoError(t, outages[name].begin(server))
	for i, l := range loads {
		l.await(false, time.Minute)
		c := nodes[i].Condition()
		assert.Equal(t, store.Spooling, c.State)
		assert.Error(t, c.Err)
		assert.False(t, c.Since.Before(began))
	}
	noticed := time.Since(began)
	time.Sleep(away - noticed)
	for _, a := range nodes {
		assert.Positive(t, a.Condition().Pending)
	}

	require.NoError(t, outages[name].end(server))
	served := time.Now()
	var all sync.WaitGroup
	outcomes := make([]outcome, len(rates))
	for i, l := range loads {
		all.Go(func() {
			l.await(true, time.Minute)
			assert.NoError(t, nodes[i].Flush(patient(t, away+time.Minute)))
			outcomes[i] = outcome{rate: rates[i], drained: time.Since(served)}
		})
	}
	all.Wait()
	messages := 0
	for i, l := range loads {
		acked := l.stop()
		messages += len(acked)
		outcomes[i].slowest = l.slowest
		assert.NoError(t, nodes[i].Flush(patient(t, time.Minute)))
		c := nodes[i].Condition()
		assert.Equal(t, store.Ready, c.State)
		assert.NoError(t, c.Err)
		assert.Zero(t, c.Pending)
		assert.Zero(t, c.Refused)
		assert.Less(t, l.slowest, 30*time.Second, "it waits for the server: a query should end after a second and the machine's own delays")
		requireHeld(t, nodes[i], acked)
		t.Logf("%s %v, %d per second: %d acknowledged, noticed after %v, drained after %v; %d queries, the slowest %v, %d told that it was away",
			name, away, rates[i], len(acked), noticed, outcomes[i].drained, l.answers, l.slowest, l.away)
	}
	stats, err := nodes[0].Stats(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, messages, stats.Messages, "no message twice, and none that nobody put")
	return outcomes
}

// Close doesn't wait for a server that doesn't answer, and what was acknowledged
// goes to the database another time.
func TestCloseWhileFrozen(t *testing.T) {
	server := pgtest.Start(t, pgtest.Config{NoSync: true})
	url, spool := server.Database(t), t.TempDir()
	for _, noticed := range []bool{false, true} {
		a := open(t, url, postgres.Config{SpoolDir: spool})
		l := startLoad(t, a, 100)
		defer l.stop()
		l.await(true, time.Minute)
		require.NoError(t, server.Pause())
		if noticed {
			l.await(false, time.Minute)
		}
		acked := l.stop()
		began := time.Now()
		require.NoError(t, a.Close())
		require.Less(t, time.Since(began), time.Minute)
		require.NoError(t, server.Resume())
		a = open(t, url, postgres.Config{SpoolDir: spool})
		require.NoError(t, a.Flush(patient(t, time.Minute)))
		requireHeld(t, a, acked)
		require.NoError(t, a.Close())
	}
}
