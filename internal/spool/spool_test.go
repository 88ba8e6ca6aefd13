package spool_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/status-im/shoal/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string, cfg spool.Config) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func add(t testing.TB, s *spool.Spool, records ...string) {
	t.Helper()
	var all [][]byte
	for _, r := range records {
		all = append(all, []byte(r))
	}
	require.NoError(t, s.Append(context.Background(), all))
}

func next(t testing.TB, s *spool.Spool, n int) *spool.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := s.Next(ctx, n, 0)
	require.NoError(t, err)
	return b
}

// drain takes out all there is.
func drain(t testing.TB, s *spool.Spool) (records []string) {
	t.Helper()
	for s.Stats().Records > 0 {
		// Damage may turn up at the very end, when nothing comes any more.
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		b, err := s.Next(ctx, 0, 0)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			continue
		}
		records = append(records, texts(b)...)
		b.Done()
	}
	return records
}

func texts(b *spool.Batch) (records []string) {
	for _, r := range b.Records {
		records = append(records, string(r))
	}
	return records
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	require.NoError(t, err)
	return files
}

func TestInAndOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "spool")
	s := open(t, dir, spool.Config{})
	require.Zero(t, s.Stats())
	add(t, s)
	add(t, s, "a", "", "ccc")
	add(t, s, "dddd")
	require.Equal(t, spool.Stats{Records: 4, Bytes: 8, DiskBytes: 4*16 + 8}, s.Stats())

	one, rest := next(t, s, 1), next(t, s, 0)
	require.Equal(t, []string{"a"}, texts(one))
	require.Equal(t, []string{"", "ccc", "dddd"}, texts(rest))
	rest.Return()
	rest.Return()
	one.Return()
	one.Done()
	require.Equal(t, []string{"a", ""}, texts(next(t, s, 2)), "the oldest first")
	require.EqualValues(t, 4, s.Stats().Records)
	b := next(t, s, 2)
	require.Equal(t, []string{"ccc", "dddd"}, texts(b))
	b.Done()
	b.Done()
	require.Equal(t, spool.Stats{Records: 2, Bytes: 1, DiskBytes: 72}, s.Stats())

	// What wasn't done comes again, and as segments go as a whole, the rest too.
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	s = open(t, dir, spool.Config{})
	require.EqualValues(t, 4, s.Stats().Records)
	require.Equal(t, []string{"a", "", "ccc", "dddd"}, drain(t, s))
	require.Zero(t, s.Stats())
	require.NoError(t, s.Close())
	require.Empty(t, segments(t, dir))
}

func TestBatchBytes(t *testing.T) {
	s := open(t, t.TempDir(), spool.Config{})
	add(t, s, "12345", "1", "12", "1234")
	for _, want := range [][]string{{"12345"}, {"1", "12"}, {"1234"}} {
		b, err := s.Next(t.Context(), 10, 4)
		require.NoError(t, err)
		require.Equal(t, want, texts(b))
	}
}

func TestNextWaits(t *testing.T) {
	fs := newDisk()
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.Open("", spool.Config{FS: fs})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Next(ctx, 1, 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Next(ctx, 1, 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, s.Append(ctx, [][]byte{nil}), context.DeadlineExceeded)

		got := make(chan string)
		go func() {
			for {
				b, err := s.Next(context.Background(), 1, 0)
				if err != nil {
					require.ErrorIs(t, err, net.ErrClosed)
					close(got)
					return
				}
				got <- texts(b)[0]
				b.Return()
				b, err = s.Next(context.Background(), 1, 0)
				require.NoError(t, err)
				got <- texts(b)[0]
				b.Done()
			}
		}()
		synctest.Wait()
		for _, r := range []string{"a", "b"} {
			require.NoError(t, s.Append(t.Context(), [][]byte{[]byte(r)}))
			require.Equal(t, r, <-got)
			require.Equal(t, r, <-got)
		}
		require.NoError(t, s.Close())
		<-got
		require.ErrorIs(t, s.Append(t.Context(), [][]byte{nil}), net.ErrClosed)
		require.ErrorIs(t, s.Append(t.Context(), nil), net.ErrClosed)
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := spool.Open("", spool.Config{FS: newDisk()})
		require.NoError(t, err)
		require.NoError(t, s.Wait(t.Context(), s.Position()))
		for range 4 {
			require.NoError(t, s.Append(t.Context(), [][]byte{nil}))
		}
		p := s.Position()
		var waits atomic.Bool
		waits.Store(true)
		result := make(chan error, 1)
		go func() {
			err := s.Wait(context.Background(), p)
			waits.Store(false)
			result <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.Wait(ctx, p), context.DeadlineExceeded)

		var batches []*spool.Batch
		for range 3 {
			b, err := s.Next(t.Context(), 1, 0)
			require.NoError(t, err)
			batches = append(batches, b)
		}
		require.NoError(t, s.Append(t.Context(), [][]byte{nil}), "younger than the wait")
		batches[2].Done()
		batches[0].Done()
		batches[1].Return()
		b, err := s.Next(t.Context(), 2, 0)
		require.NoError(t, err)
		synctest.Wait()
		require.True(t, waits.Load())
		b.Done()
		require.NoError(t, <-result)

		go func() { result <- s.Wait(context.Background(), s.Position()) }()
		synctest.Wait()
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-result, net.ErrClosed)
	})
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Config{})
	_, err := spool.Open(dir, spool.Config{})
	require.ErrorIs(t, err, spool.ErrLocked)
	require.NoError(t, s.Close())
	open(t, dir, spool.Config{})
}

func TestFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Config{MaxBytes: 4096})
	record := make([]byte, 100)
	appended := 0
	fill := func() {
		for {
			err := s.Append(t.Context(), [][]byte{record})
			require.LessOrEqual(t, s.Stats().DiskBytes, int64(4096))
			if err != nil {
				var full *spool.FullError
				require.ErrorAs(t, err, &full)
				require.EqualValues(t, 4096, full.Limit)
				return
			}
			appended++
		}
	}
	fill()
	require.Greater(t, appended, 30)
	require.EqualValues(t, appended, s.Stats().Records)
	total := int64(0)
	for _, f := range segments(t, dir) {
		info, err := os.Stat(f)
		require.NoError(t, err)
		total += info.Size()
	}
	require.Equal(t, total, s.Stats().DiskBytes)
	fill()

	for range 20 { // a segment's worth at least
		next(t, s, 1).Done()
	}
	was := appended
	fill()
	require.Greater(t, appended, was)
	for s.Stats().Records > 0 {
		next(t, s, 0).Done()
	}
	add(t, s, string(make([]byte, 800)))
	drain(t, s)
	const most = 4096 - 16 - 2*24 // less the header of a record, and seals
	var full *spool.FullError
	require.ErrorAs(t, s.Append(t.Context(), [][]byte{make([]byte, most+1)}), &full)
	require.NoError(t, s.Append(t.Context(), [][]byte{make([]byte, most)}), "all of it is free")
	require.ErrorIs(t, s.Append(t.Context(), [][]byte{make([]byte, spool.MaxRecordBytes+1)}), spool.ErrTooLarge)
}

// Memory holds a little of what is spooled; the rest comes back from the disk in
// the order in which it went there.
func TestBacklogIsReadFromTheDisk(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		dir := t.TempDir()
		cfg := spool.Config{SegmentBytes: 64 << 10, MemoryBytes: 16 << 10}
		s := open(t, dir, cfg)
		var want []string
		write := func(n int) {
			var some []string
			for range n {
				r := fmt.Sprintf("%0*d", 1+len(want)*7%2000, len(want))
				some, want = append(some, r), append(want, r)
			}
			add(t, s, some...)
		}
		for i := range 100 {
			write(i % 17)
		}
		large := string(make([]byte, 3<<20)) // more than is read at a time
		want = append(want, large)
		add(t, s, large)
		write(5)
		if reopen {
			require.NoError(t, s.Close())
			s = open(t, dir, cfg)
		}
		require.Greater(t, len(segments(t, dir)), 5)
		var got []string
		for i := 0; s.Stats().Records > 0; i++ {
			if i < 50 {
				write(3)
			}
			b := next(t, s, 11)
			if i%3 == 0 {
				b.Return()
				b = next(t, s, 5)
			}
			got = append(got, texts(b)...)
			b.Done()
		}
		require.Equal(t, len(want), len(got))
		require.Equal(t, want, got)
		require.Zero(t, s.Stats().Damaged)
		require.LessOrEqual(t, len(segments(t, dir)), 1)
	}
}

func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	cfg := spool.Config{SegmentBytes: 32 << 10, MemoryBytes: 8 << 10, MaxBytes: 256 << 10}
	s := open(t, dir, cfg)
	const writers, each = 8, 150
	var wrote, readers sync.WaitGroup
	seen := make(map[string]int)
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		readers.Go(func() {
			for i := 0; ; i++ {
				b, err := s.Next(ctx, 20, 0)
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
					return
				}
				if i%4 == 0 {
					b.Return()
					continue
				}
				mu.Lock()
				for _, r := range texts(b) {
					seen[r]++
				}
				mu.Unlock()
				b.Done()
			}
		})
	}
	for w := range writers {
		wrote.Go(func() {
			for i := range each {
				r := fmt.Appendf(nil, "%d/%d/%0*d", w, i, 400, 0)
				for {
					err := s.Append(ctx, [][]byte{r, append([]byte("second"), r...)})
					var full *spool.FullError
					if err == nil {
						break
					}
					if !errorsAs(err, &full) {
						t.Error(err)
						return
					}
					p := s.Position()
					s.Wait(ctx, p-min(p, 10))
				}
				s.Stats()
			}
		})
	}
	wrote.Wait()
	require.NoError(t, s.Wait(ctx, s.Position()))
	cancel()
	readers.Wait()
	require.Len(t, seen, 2*writers*each)
	for r, n := range seen {
		require.Equal(t, 1, n, r[:20])
	}
	require.Zero(t, s.Stats().Records)
}

// Records come, and a segment is full, while the one before is being read.
func TestAppendDuringRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, err := spool.Open("", spool.Config{FS: d, MemoryBytes: 1, SegmentBytes: 100})
		require.NoError(t, err)
		want := []string{"while nobody reads"}
		add(t, s, want...)
		d.before = func(o op) {
			if o.name == "read" && len(want) < 10 {
				for i := range 5 {
					r := fmt.Sprint("while somebody reads: ", i)
					want = append(want, r)
					add(t, s, r)
				}
			}
		}
		var got []string
		for s.Stats().Records > 0 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			b, err := s.Next(ctx, 1, 0)
			cancel()
			require.NoError(t, err)
			got = append(got, texts(b)...)
			b.Done()
		}
		require.Equal(t, want, got)
		require.NoError(t, s.Close())
	})
}

// An append whose context ends before the disk has heard of it is forgotten.
func TestAppendGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, err := spool.Open("", spool.Config{FS: d})
		require.NoError(t, err)
		stuck := make(chan struct{})
		d.before = func(o op) {
			if o.name == "sync" {
				<-stuck
			}
		}
		var calls sync.WaitGroup
		call := func(ctx context.Context, r string, want error) {
			calls.Go(func() { require.ErrorIs(t, s.Append(ctx, [][]byte{[]byte(r)}), want) })
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		call(ctx, "under way", context.Canceled)
		call(ctx, "in the queue", context.Canceled)
		call(t.Context(), "patient", nil)
		cancel()
		synctest.Wait()
		close(stuck)
		calls.Wait()
		require.Equal(t, []string{"under way", "patient"}, drain(t, s))
		require.NoError(t, s.Close())
	})
}

// Close finishes what is under way.
func TestCloseDuringAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s, err := spool.Open("", spool.Config{FS: d})
		require.NoError(t, err)
		d.before = func(o op) {
			if o.name == "sync" {
				time.Sleep(time.Second)
			}
		}
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() { require.NoError(t, s.Append(context.Background(), [][]byte{[]byte("kept")})) })
		}
		synctest.Wait()
		for range 2 {
			calls.Go(func() { require.NoError(t, s.Close()) })
		}
		calls.Wait()
		s, err = spool.Open("", spool.Config{FS: d})
		require.NoError(t, err)
		require.Len(t, drain(t, s), 5)
		require.NoError(t, s.Close())
	})
}
