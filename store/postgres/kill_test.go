package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// A child is a store node in a process of its own, to be killed: this test's
// program with these in its environment.
const (
	childURL   = "SHOAL_TEST_DATABASE"
	childSpool = "SHOAL_TEST_SPOOL"
)

// child puts messages and writes the hash of each that is acknowledged to its
// output, until it is killed.
func child(url, spool string) {
	a, err := postgres.Open(context.Background(), url, postgres.Config{
		SpoolDir: spool, Policy: month, PruneEvery: 50 * time.Millisecond,
	})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for range 4 {
		go func() {
			for {
				list := entries(1+rand.IntN(8), 1000)
				if err := a.Put(context.Background(), list); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				text := ""
				for _, e := range list {
					text += e.Hash.String() + "\n"
				}
				os.Stdout.WriteString(text)
			}
		}()
	}
	select {}
}

// runChild runs a child and kills it some time after its first acknowledgement.
// It returns what the child acknowledged, and how long it took to begin.
func runChild(t *testing.T, url, spool string) (acked []message.Hash, opened time.Duration) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childURL+"="+url, childSpool+"="+spool)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	giveUp := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer giveUp.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		h, err := message.ParseHash(lines.Text())
		if err != nil {
			if len(lines.Text()) == len(h.String()) || lines.Text()[0] != '0' {
				assert.Fail(t, "child", lines.Text())
			}
			continue // cut off by the kill
		}
		if acked = append(acked, h); len(acked) == 1 {
			opened = time.Since(began)
			time.AfterFunc(rand.N(300*time.Millisecond), func() { cmd.Process.Kill() })
		}
	}
	require.NotEmpty(t, acked)
	return acked, opened
}

// What a node acknowledged before it was killed is there when the next one has
// started on its spool.
func TestKill(t *testing.T) { kill(t, times(5)) }

func kill(t *testing.T, lives int) (slowest time.Duration) {
	server := pgtest.Start(t, pgtest.Config{})
	url, spool := server.Database(t), t.TempDir()
	var acked []message.Hash
	for range lives {
		more, opened := runChild(t, url, spool)
		acked = append(acked, more...)
		slowest = max(slowest, opened)
	}
	a, err := postgres.Open(t.Context(), url, postgres.Config{SpoolDir: spool, Policy: month})
	require.NoError(t, err)
	defer a.Close()
	requireWhole(t, a, acked)
	assert.Less(t, slowest, 30*time.Second)
	t.Logf("%d lives, %d acknowledged, slowest start %v", lives, len(acked), slowest)
	return slowest
}

// The same with several nodes on one database, which outlive each other.
func TestKillAmongNodes(t *testing.T) { killAmongNodes(t, 3, 2) }

func killAmongNodes(t *testing.T, nodes, lives int) {
	server := pgtest.Start(t, pgtest.Config{})
	url := server.Database(t)
	var mu sync.Mutex
	var acked []message.Hash
	var spools []string
	var all sync.WaitGroup
	for range nodes {
		spool := t.TempDir()
		spools = append(spools, spool)
		all.Go(func() {
			for range lives {
				more, _ := runChild(t, url, spool)
				mu.Lock()
				acked = append(acked, more...)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for i, spool := range spools {
		a, err := postgres.Open(t.Context(), url, postgres.Config{SpoolDir: spool, Policy: month})
		require.NoError(t, err)
		require.NoError(t, a.Flush(patient(t, time.Minute)))
		if i == len(spools)-1 {
			requireWhole(t, a, acked)
		}
		require.NoError(t, a.Close())
	}
}

// requireWhole requires an archive to hold what was acknowledged, and what it
// holds to be found both by time and by hash.
func requireWhole(t *testing.T, a *postgres.Archive, acked []message.Hash) {
	t.Helper()
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	requireHeld(t, a, acked)
	all := walk(t, store.Query{Shard: &shard, Limit: store.MaxPageSize}, of(a))
	requireHeld(t, a, hashes(all))
	s, err := a.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(all), s.Messages)
	require.GreaterOrEqual(t, len(all), len(acked))
	require.Zero(t, a.Damaged())
	require.Zero(t, a.Unstorable())
}
