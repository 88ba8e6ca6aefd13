package sqlite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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

// outage is a disk after a power failure, and what had been acknowledged.
type outage struct {
	files map[string][]byte // by ending
	acked []message.Hash    // of shardA
	mark  time.Time
}

// outages are those in the life of an archive.
type outages struct {
	path string
	disk *disk
	rand *rand.Rand
	next int // operations until there is one
	most int
	list []outage

	// opening: while an archive is opened, in each operation, and at no other time.
	opening bool

	mu    sync.Mutex
	acked []message.Hash
	mark  time.Time
	open  bool
}

// fails is called by the disk, in each operation.
func (o *outages) fails() {
	o.next--
	due := o.next <= 0
	if o.opening {
		o.mu.Lock()
		due = !o.open
		o.mu.Unlock()
	}
	if !due || len(o.list) == o.most {
		return
	}
	// Now and then there are several in a row.
	o.next = 1 + o.rand.IntN([]int{1, 10, 100, 500}[o.rand.IntN(4)])
	out := outage{files: map[string][]byte{}}
	for name, data := range o.disk.after(o.rand, []float64{0, 1, o.rand.Float64()}[o.rand.IntN(3)]) {
		out.files[name[len(o.path):]] = data
	}
	// The archive itself writes this one, once, and syncs it.
	if data, err := os.ReadFile(o.path + ".lock"); err == nil {
		out.files[".lock"] = data
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	out.acked, out.mark = o.acked[:len(o.acked):len(o.acked)], o.mark
	o.list = append(o.list, out)
}

// live opens an archive, has several put messages while it is pruned and its log
// taken over, and closes it.
func (o *outages) live(t *testing.T, options ...string) {
	forget, err := watch(filepath.Dir(o.path), o.disk)
	require.NoError(t, err)
	defer forget()
	a, err := sqlite.Open(t.Context(), o.path, sqlite.With(
		sqlite.Config{Policy: victimPolicy, PruneEvery: time.Millisecond}, append(options, "vfs="+vfsName)...))
	require.NoError(t, err)
	o.mu.Lock()
	o.open = true
	o.mu.Unlock()
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			size, err := sqlite.Checkpoint(a)
			assert.NoError(t, err)
			if rand.IntN(2) == 0 {
				sqlite.Restart(a, size)
			}
		}
	})
	var putting sync.WaitGroup
	for worker := range 3 {
		putting.Go(func() {
			for range 15 {
				o.put(t, a, worker)
			}
		})
	}
	putting.Wait()
	close(done)
	group.Wait()
	require.NoError(t, a.Close())
}

func (o *outages) put(t *testing.T, a *sqlite.Archive, worker int) {
	ctx := context.Background()
	now := time.Now()
	var batch []store.Entry
	for range 1 + rand.IntN(12) {
		s := []sharding.Shard{shardA, shardB}[rand.IntN(2)]
		batch = append(batch, entryAt(s, topicName(worker), now.Add(-time.Duration(rand.Int64N(int64(time.Hour)))), rand.IntN(3000)))
	}
	if !assert.NoError(t, a.Put(ctx, batch)) {
		return
	}
	o.mu.Lock()
	for _, e := range batch {
		if e.Shard == shardA {
			o.acked = append(o.acked, e.Hash)
		}
	}
	o.mu.Unlock()
	if worker > 0 {
		return
	}
	if assert.NoError(t, a.SetMark(ctx, shardA, now)) {
		o.mu.Lock()
		o.mark = now
		o.mu.Unlock()
	}
}

// suffer lives through a life of an archive and returns its outages.
func suffer(t *testing.T, seed uint64, most int, options ...string) []outage {
	r := rand.New(rand.NewPCG(seed, 7))
	o := &outages{path: filepath.Join(t.TempDir(), "archive.db"), rand: r, next: 1 + r.IntN(300), most: most}
	o.disk = newDisk(o.fails)
	o.live(t, options...)
	o.open = false
	o.live(t, options...) // and once more, with what it has
	return o.list
}

// reopened opens what an outage has left, with a power failure in each operation.
func (o *outage) reopened(t *testing.T, seed uint64) []outage {
	r := rand.New(rand.NewPCG(seed, 7))
	again := &outages{path: filepath.Join(t.TempDir(), "archive.db"), rand: r, most: 1000, opening: true, acked: o.acked, mark: o.mark}
	again.disk = newDisk(again.fails)
	o.restore(t, again.path)
	for part, data := range o.files {
		f := &diskFile{synced: data}
		again.disk.durable[again.path+part], again.disk.now[again.path+part] = f, f
	}
	again.live(t)
	return again.list
}

func (o *outage) restore(t *testing.T, path string) {
	for part, data := range o.files {
		require.NoError(t, os.WriteFile(path+part, data, 0o600))
	}
}

// recovered opens what an outage has left, and returns how many of the messages
// that had been acknowledged are there.
func (o *outage) recovered(t *testing.T, path string) (*sqlite.Archive, int, error) {
	o.restore(t, path)
	a, err := sqlite.Open(t.Context(), path, sqlite.Config{Policy: victimPolicy, PruneEvery: -1})
	if err != nil {
		return nil, 0, err
	}
	kept := 0
	for i := 0; i < len(o.acked); i += store.MaxHashes {
		some := o.acked[i:min(i+store.MaxHashes, len(o.acked))]
		found, err := walk(t.Context(), a, store.Query{Hashes: some, Limit: store.MaxPageSize})
		if err != nil {
			return a, kept, err
		}
		kept += len(found)
	}
	return a, kept, sqlite.Check(t.Context(), a)
}

// require requires that an outage took nothing away.
func (o *outage) require(t *testing.T) {
	a, kept, err := o.recovered(t, filepath.Join(t.TempDir(), "archive.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	assert.Equal(t, len(o.acked), kept, "acknowledged and kept")
	mark, err := a.Mark(t.Context(), shardA)
	require.NoError(t, err)
	assert.False(t, mark.Before(o.mark), "the mark was %v and is %v", o.mark, mark)
	assert.Equal(t, store.Ready, a.Condition().State, "%v", a.Condition().Err)
	put := entries(10, time.Now().Add(-time.Minute), 100)
	require.NoError(t, a.Put(t.Context(), put))
}

// TestPowerLoss takes the power away at random moments. What was synced is there,
// and of what wasn't any part (D2).
func TestPowerLoss(t *testing.T) {
	lives, most := 16, 20
	if testing.Short() {
		lives, most = 1, 10
	}
	n, acked := 0, 0
	for seed := range uint64(lives) {
		for i, o := range suffer(t, seed, most) {
			ok := t.Run(fmt.Sprintf("%d-%d", seed, i), o.require)
			require.True(t, ok)
			n, acked = n+1, acked+len(o.acked)
		}
	}
	t.Logf("%d outages, %d messages acknowledged before them", n, acked)
	assert.Greater(t, acked, n)
}

// TestPowerLossOpening takes the power away in the midst of everything that opening
// an archive does, after it was closed and after a power failure: it has all that
// was there, and takes itself for nothing but in order.
func TestPowerLossOpening(t *testing.T) {
	o := &outages{path: filepath.Join(t.TempDir(), "archive.db"), rand: rand.New(rand.NewPCG(1, 7)), most: 1000, opening: true}
	o.disk = newDisk(o.fails)
	o.live(t)
	first := len(o.list)
	o.open = false
	o.live(t)
	list := o.list[first:]
	failed := suffer(t, 2, 3)
	for i := range failed {
		list = append(list, failed[i].reopened(t, uint64(i))...)
	}
	for i, o := range list {
		ok := t.Run(fmt.Sprint(i), o.require)
		require.True(t, ok)
	}
	t.Logf("%d outages, %d of them after others", len(list), len(list)-(len(o.list)-first))
}

// TestPowerLossUnsynced is the same without fsync, so that the test above is known
// to notice what is lost.
func TestPowerLossUnsynced(t *testing.T) {
	lost := 0
	list := suffer(t, 1, 10, "_pragma=synchronous(OFF)")
	for _, o := range list {
		a, kept, err := o.recovered(t, filepath.Join(t.TempDir(), "archive.db"))
		if err != nil || kept < len(o.acked) {
			lost++
		}
		if a != nil {
			_ = a.Close() // a damaged archive may say so
		}
	}
	t.Logf("something was lost in %d of %d outages", lost, len(list))
	assert.NotZero(t, lost)
}
