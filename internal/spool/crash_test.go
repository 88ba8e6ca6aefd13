package spool_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/spool"
)

// life is what the caller of a spool knows, over several lives of the machine.
type life struct {
	t     *testing.T
	r     *rand.Rand
	n     uint64
	tried map[string]bool
	acked map[string]bool // and not done
}

func (l *life) batch() [][]byte {
	records := make([][]byte, 1+l.r.IntN(6))
	for i := range records {
		b := binary.LittleEndian.AppendUint64(nil, l.n)
		l.n++
		for range l.r.IntN(40) {
			b = append(b, byte(l.r.Uint32()))
		}
		records[i] = b
		l.tried[string(b)] = true
	}
	return records
}

// live uses a spool until its disk fails for good, or it has had enough.
func (l *life) live(s *spool.Spool, steps int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var held []*spool.Batch
	for range steps {
		switch l.r.IntN(5) {
		case 0, 1:
			n := 1 + l.r.IntN(3)
			batches, errs := make([][][]byte, n), make([]error, n)
			var calls sync.WaitGroup
			for i := range n {
				batches[i] = l.batch()
				calls.Go(func() { errs[i] = s.Append(ctx, batches[i]) })
			}
			calls.Wait()
			for i, err := range errs {
				if err != nil {
					continue
				}
				for _, b := range batches[i] {
					l.acked[string(b)] = true
				}
			}
		case 2, 3:
			if s.Stats().Records == 0 {
				continue
			}
			b := l.next(s)
			if b == nil {
				continue
			}
			for _, r := range b.Records {
				require.True(l.t, l.tried[string(r)], "nobody appended %x", r)
			}
			held = append(held, b)
		case 4:
			if len(held) == 0 {
				continue
			}
			i := l.r.IntN(len(held))
			b := held[i]
			held = append(held[:i], held[i+1:]...)
			if l.r.IntN(3) == 0 {
				b.Return()
				continue
			}
			for _, r := range b.Records {
				delete(l.acked, string(r))
			}
			b.Done()
		}
	}
}

// next returns nil when all is out, or the disk can't be read. In virtual time
// the wait for what won't come is short.
func (l *life) next(s *spool.Spool) *spool.Batch {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	b, err := s.Next(ctx, 1+l.r.IntN(8), 0)
	if err != nil {
		return nil
	}
	return b
}

// seeds is how many courses of events are tried.
func seeds() uint64 {
	if testing.Short() {
		return 150
	}
	return 1000
}

func TestPowerLoss(t *testing.T) {
	for seed := range seeds() {
		oneLife(t, seed, true)
	}
}

func TestKilled(t *testing.T) {
	for seed := range seeds() / 4 {
		oneLife(t, seed, false)
	}
}

func oneLife(t *testing.T, seed uint64, power bool) {
	synctest.Test(t, func(t *testing.T) { lives(t, seed, power) })
	if t.Failed() {
		t.Fatal("seed", seed)
	}
}

func lives(t *testing.T, seed uint64, power bool) {
	r := rand.New(rand.NewPCG(seed, 0))
	l := &life{t: t, r: r, tried: make(map[string]bool), acked: make(map[string]bool)}
	d := newDisk()
	for range 1 + r.IntN(4) {
		// The disk ends after some operation; before, it fails now and then.
		end, often := r.IntN(60), 5+r.IntN(40)
		faults := rand.New(rand.NewPCG(seed, uint64(end)))
		d.part = func(n int) int { return faults.IntN(n + 1) }
		d.fail = func(o op) error {
			if d.ops >= end {
				d.crashed = true
				return errCrash
			}
			if o.name != "list" && faults.IntN(often) == 0 {
				return errors.New("a fault")
			}
			return nil
		}
		s, err := spool.Open("", spool.Config{
			FS: d, MaxBytes: 1 << 20, SegmentBytes: int64(100 + r.IntN(600)), MemoryBytes: int64(1 + r.IntN(400)),
		})
		if err == nil {
			l.live(s, 40)
			require.NoError(t, s.Close())
		}
		if power {
			d = d.crash(r)
		} else {
			d = d.kill()
		}
	}
	s, err := spool.Open("", spool.Config{FS: d})
	require.NoError(t, err)
	for _, record := range drain(t, s) {
		require.True(t, l.tried[record], "nobody appended %x", record)
		delete(l.acked, record)
	}
	require.Empty(t, l.acked, "acknowledged and lost")
	require.Zero(t, s.Stats().Records)
	if !power {
		require.Zero(t, s.Stats().Damaged)
	}
	require.NoError(t, s.Close())
	require.Empty(t, d.files)
}
