package postgres_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// openNodes opens archives on one database at the same moment.
func openNodes(t testing.TB, url string, n int, cfg postgres.Config) []*postgres.Archive {
	t.Helper()
	nodes := make([]*postgres.Archive, n)
	var all sync.WaitGroup
	for i := range nodes {
		all.Go(func() {
			cfg := cfg
			cfg.SpoolDir = t.TempDir()
			a, err := postgres.Open(context.Background(), url, cfg)
			if !assert.NoError(t, err) {
				return
			}
			nodes[i] = a
			t.Cleanup(func() { assert.NoError(t, a.Close()) })
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return nodes
}

// Nodes that get the same messages at the same time keep each once, and a walk may
// ask another node for each page.
func TestNodesShareOneStream(t *testing.T) {
	nodes := openNodes(t, pgtest.Shared(t).Database(t), 4, postgres.Config{Policy: month, PruneEvery: 50 * time.Millisecond})
	list := entries(3000, 300)
	var all sync.WaitGroup
	for i, a := range nodes {
		mine := slices.Clone(list)
		if i%2 == 1 { // not quite in order
			for j := range len(mine) - 10 {
				k := j + rand.IntN(10)
				mine[j], mine[k] = mine[k], mine[j]
			}
		}
		all.Go(func() {
			for part := range slices.Chunk(mine, 1+rand.IntN(20)) {
				assert.NoError(t, a.Put(t.Context(), part))
			}
			assert.NoError(t, a.Flush(t.Context()))
		})
	}
	all.Wait()

	want := hashes(list)
	turns := 0
	next := func() store.Archive { turns++; return nodes[turns%len(nodes)] }
	for _, backward := range []bool{false, true} {
		q := store.Query{Shard: &shard, Limit: 97, Backward: backward}
		require.Equal(t, want, hashes(walk(t, q, next)))
	}
	for _, a := range nodes {
		s, err := a.Stats(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, len(list), s.Messages)
		require.Zero(t, a.Unstorable())
		require.Zero(t, a.Damaged())
	}
}

// The first of five to come makes the tables, the others wait for it.
func TestFiveOpenedAtOnce(t *testing.T) { openedAtOnce(t, 5, times(20)) }

func openedAtOnce(t *testing.T, n, rounds int) {
	for range rounds {
		t.Run("", func(t *testing.T) {
			nodes := openNodes(t, pgtest.Shared(t).Database(t), n, postgres.Config{Policy: month})
			list := entries(n, 100)
			for i, a := range nodes {
				require.Equal(t, store.Ready, a.Condition().State)
				require.NoError(t, a.Put(t.Context(), list[i:i+1]))
			}
			for _, a := range nodes {
				require.NoError(t, a.Flush(t.Context()))
			}
			for _, a := range nodes {
				require.Len(t, walk(t, store.Query{}, of(a)), len(nodes))
			}
		})
	}
}

// Partitions of two seconds come and go under the hands of four nodes that write,
// read and prune.
func TestPartitionTurns(t *testing.T) { partitionTurns(t, times(40)) }

func partitionTurns(t *testing.T, turns int) {
	const width = 2 * time.Second
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	policy := store.Policy{Default: store.Retention{MaxAge: 5 * width}}
	nodes := openNodes(t, pgtest.Shared(t).Database(t), 4, postgres.Config{
		Policy: policy, Partition: width, Now: clock, PruneEvery: 30 * time.Millisecond, Logger: logger(t),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var slowest time.Duration
	for _, a := range nodes {
		all.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				_, err := a.Query(ctx, store.Query{Shard: &shard, Limit: 50, Backward: rand.IntN(2) == 0})
				if ctx.Err() != nil {
					return
				}
				assert.NoError(t, err)
				mu.Lock()
				slowest = max(slowest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	put := make([][]store.Entry, turns)
	for turn := range turns {
		mu.Lock()
		now = now.Add(width)
		at := now
		mu.Unlock()
		// Some of now, some of the partitions before, some ahead.
		for range 20 {
			ago := time.Duration(rand.Int64N(int64(4*width))) - width
			put[turn] = append(put[turn], entry(at.Add(-ago), 200))
		}
		var group sync.WaitGroup
		for _, a := range nodes {
			group.Go(func() { assert.NoError(t, a.Put(ctx, put[turn])) })
		}
		group.Wait()
		if turn%5 == 4 {
			// Time is far ahead of what the nodes do by themselves.
			_, err := nodes[rand.IntN(len(nodes))].Prune(t.Context())
			assert.NoError(t, err)
		}
		if turn%10 == 9 {
			for _, a := range nodes {
				assert.NoError(t, a.Flush(patient(t, time.Minute)))
			}
			// What is still kept is there, once.
			var want []store.Entry
			for _, e := range slices.Concat(put[max(0, turn-8) : turn+1]...) {
				if e.Message.Timestamp > at.Add(-4*width).UnixNano() {
					want = append(want, e)
				}
			}
			requireHeld(t, nodes[turn%len(nodes)], hashes(want))
		}
	}
	cancel()
	all.Wait()
	_, err := nodes[0].Prune(t.Context())
	require.NoError(t, err)
	for _, a := range nodes {
		c := a.Condition()
		assert.Equal(t, store.Ready, c.State, c.Err)
		assert.Zero(t, a.Unstorable())
	}
	t.Logf("%d turns, slowest query %v", turns, slowest)
}
