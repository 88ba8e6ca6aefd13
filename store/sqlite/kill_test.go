package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

// victimEnv tells a process of this test to be a victim, with the archive's path.
const victimEnv = "SHOAL_SQLITE_VICTIM"

// victimPolicy has the archive prune one shard while it is killed.
var victimPolicy = store.Policy{Shards: map[sharding.Shard]store.Retention{shardB: {MaxMessages: 100}}}

// victim puts messages until it is killed, and says which were acknowledged: those
// of shardA by their hashes.
func victim(path string) {
	ctx := context.Background()
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	a, err := sqlite.Open(ctx, path, sqlite.Config{Policy: victimPolicy, PruneEvery: 20 * time.Millisecond})
	if err != nil {
		fail(err)
	}
	var group sync.WaitGroup
	var out sync.Mutex
	for worker := range 4 {
		group.Go(func() {
			for {
				var batch []store.Entry
				for range 1 + rand.IntN(20) {
					s := []sharding.Shard{shardA, shardB}[rand.IntN(2)]
					at := time.Now().Add(-time.Duration(rand.Int64N(int64(time.Hour))))
					batch = append(batch, entryAt(s, topicName(worker), at, rand.IntN(3000)))
				}
				if err := a.Put(ctx, batch); err != nil {
					fail(err)
				}
				var acks strings.Builder
				for _, e := range batch {
					if e.Shard == shardA {
						fmt.Fprintln(&acks, "ack", e.Hash)
					}
				}
				out.Lock()
				_, _ = os.Stdout.WriteString(acks.String())
				out.Unlock()
			}
		})
	}
	group.Wait()
}

func TestKill(t *testing.T) { killMany(t, 5) }

// killMany kills a process that writes, again and again: nothing that it
// acknowledged is lost, and the archive opens and is whole.
func killMany(t *testing.T, rounds int) {
	path := filepath.Join(t.TempDir(), "archive.db")
	var acked []message.Hash
	var slowest time.Duration
	for round := range rounds {
		acked = append(acked, killOne(t, path, 1+rand.IntN(400))...)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		a, err := sqlite.Open(ctx, path, sqlite.Config{Policy: victimPolicy, PruneEvery: -1})
		slowest = max(slowest, time.Since(began))
		cancel()
		require.NoError(t, err)
		require.Equal(t, store.Ready, a.Condition().State, "round %d: %v", round, a.Condition().Err)
		recent := acked
		if round < rounds-1 { // everything at the end
			recent = acked[max(0, len(acked)-2000):]
		}
		requireKept(t, a, recent)
		require.NoError(t, sqlite.Check(t.Context(), a))
		require.NoError(t, a.Close())
	}
	t.Logf("%d kills, %d acknowledged, opened in %v at most", rounds, len(acked), slowest)
}

// killOne kills a process after it has acknowledged some messages, and returns
// those of which it could still tell.
func killOne(t *testing.T, path string, after int) (acked []message.Hash) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), victimEnv+"="+path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // what remains is half a line
		}
		require.NoError(t, err)
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "ack ")
		require.True(t, ok, line)
		h, err := message.ParseHash(text)
		require.NoError(t, err)
		if acked = append(acked, h); len(acked) == after {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	assert.Error(t, cmd.Wait(), "killed")
	require.GreaterOrEqual(t, len(acked), after)
	return acked
}

func requireKept(t *testing.T, a *sqlite.Archive, hashes []message.Hash) {
	t.Helper()
	for i := 0; i < len(hashes); i += store.MaxHashes {
		some := hashes[i:min(i+store.MaxHashes, len(hashes))]
		found, err := walk(t.Context(), a, store.Query{Hashes: some, Limit: store.MaxPageSize})
		require.NoError(t, err)
		require.Len(t, found, len(some), "acknowledged and lost")
	}
}
