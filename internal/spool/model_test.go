package spool_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/status-im/shoal/internal/spool"
)

// model is what a spool must hold, by the numbers of records.
type model struct {
	d    *disk
	cfg  spool.Config
	s    *spool.Spool
	n    int
	size map[int]int // of all that were appended

	waiting map[int]bool // neither done nor out
	again   map[int]bool // done before the last Open: these may come
	out     []flight
	fault   string // the next such operation fails
}

type flight struct {
	b       *spool.Batch
	numbers []int
}

func (m *model) open(t *rapid.T) {
	var err error
	m.s, err = spool.Open("", m.cfg)
	require.NoError(t, err)
}

func (m *model) append(t *rapid.T) {
	var batch [][]byte
	var numbers []int
	for range rapid.IntRange(1, 5).Draw(t, "records") {
		r := fmt.Sprintf("%d %s", m.n, strings.Repeat("x", rapid.IntRange(0, 60).Draw(t, "size")))
		m.size[m.n] = len(r)
		numbers = append(numbers, m.n)
		batch = append(batch, []byte(r))
		m.n++
	}
	err := m.s.Append(context.Background(), batch)
	var full *spool.FullError
	var disk *spool.DiskError
	switch {
	case err == nil:
		for _, n := range numbers {
			m.waiting[n] = true
		}
	case errors.As(err, &full):
		used := int64(2 * 24)
		for _, r := range batch {
			used += int64(16 + len(r))
		}
		require.Greater(t, used+m.d.used(), m.cfg.MaxBytes)
	default:
		require.ErrorAs(t, err, &disk)
		require.NotEqual(t, "sync", m.fault, "one sync that fails is made good")
		// After the end of the process the part that was written may be there.
		for _, n := range numbers {
			m.again[n] = true
		}
	}
	m.fault = ""
}

func (m *model) next(t *rapid.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	limit := rapid.IntRange(1, 10).Draw(t, "limit")
	bytes := rapid.IntRange(1, 300).Draw(t, "bytes")
	b, err := m.s.Next(ctx, limit, bytes)
	if err != nil {
		require.Empty(t, m.waiting)
		return
	}
	f := flight{b: b}
	total := 0
	for _, r := range b.Records {
		digits, _, _ := strings.Cut(string(r), " ")
		n, err := strconv.Atoi(digits)
		require.NoError(t, err)
		require.Len(t, r, m.size[n])
		for w := range m.waiting {
			require.GreaterOrEqual(t, w, n, "the oldest first")
		}
		require.True(t, m.waiting[n] || m.again[n], n)
		delete(m.waiting, n)
		delete(m.again, n)
		f.numbers = append(f.numbers, n)
		total += len(r)
	}
	require.True(t, slices.IsSorted(f.numbers))
	require.LessOrEqual(t, len(f.numbers), limit)
	require.True(t, total <= bytes || len(f.numbers) == 1)
	m.out = append(m.out, f)
}

func (m *model) land(t *rapid.T) {
	if len(m.out) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.out)-1).Draw(t, "which")
	f := m.out[i]
	m.out = slices.Delete(m.out, i, i+1)
	if rapid.Bool().Draw(t, "return") {
		f.b.Return()
		for _, n := range f.numbers {
			m.waiting[n] = true
		}
		return
	}
	f.b.Done()
}

// reopen ends the process, in order or not.
func (m *model) reopen(t *rapid.T) {
	m.fault = ""
	left := m.d
	if rapid.Bool().Draw(t, "kill") {
		left = m.d.kill()
	}
	require.NoError(t, m.s.Close())
	require.NoError(t, m.s.Close())
	for n := range m.size {
		m.again[n] = true
	}
	for _, f := range m.out {
		f.b.Done() // too late
		for _, n := range f.numbers {
			m.waiting[n] = true
		}
	}
	for n := range m.waiting {
		delete(m.again, n)
	}
	m.out = nil
	m.d, m.cfg.FS = left, left
	m.attach()
	m.open(t)
}

func (m *model) attach() {
	m.d.fail = func(o op) error {
		if o.name == m.fault && o.name != "" {
			m.fault = ""
			return errNoSpace
		}
		return nil
	}
	m.d.part = func(n int) int { return n / 2 }
}

func (m *model) check(t *rapid.T) {
	synctest.Wait()
	stats := m.s.Stats()
	require.Zero(t, stats.Damaged)
	require.Equal(t, m.d.used(), stats.DiskBytes)
	pending := maps.Clone(m.waiting)
	for _, f := range m.out {
		for _, n := range f.numbers {
			pending[n] = true
		}
	}
	least := int64(0)
	for n := range pending {
		least += int64(m.size[n])
	}
	require.GreaterOrEqual(t, stats.Records, int64(len(pending)))
	require.GreaterOrEqual(t, stats.Bytes, least)
	if len(m.again) == 0 {
		require.EqualValues(t, len(pending), stats.Records)
		require.Equal(t, least, stats.Bytes)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.s.Wait(ctx, m.s.Position()); err == nil {
		require.Empty(t, pending)
	} else {
		require.NotZero(t, stats.Records)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		// The library fails a property by a panic, which must not leave the bubble
		// by itself.
		var failed any
		synctest.Test(t, func(*testing.T) {
			defer func() { failed = recover() }()
			live(r)
		})
		if failed != nil {
			panic(failed)
		}
	})
}

func live(t *rapid.T) {
	m := &model{
		d:    newDisk(),
		size: make(map[int]int), waiting: make(map[int]bool), again: make(map[int]bool),
	}
	m.cfg = spool.Config{
		FS:           m.d,
		MaxBytes:     rapid.Int64Range(400, 4000).Draw(t, "bound"),
		SegmentBytes: rapid.Int64Range(1, 600).Draw(t, "segment"),
		MemoryBytes:  rapid.Int64Range(1, 600).Draw(t, "memory"),
	}
	m.attach()
	m.open(t)
	defer func() { m.s.Close() }()
	fault := func(name string) func(*rapid.T) { return func(*rapid.T) { m.fault = name } }
	t.Repeat(map[string]func(*rapid.T){
		"append":      m.append,
		"append more": m.append,
		"next":        m.next,
		"land":        m.land,
		"land more":   m.land,
		"reopen":      m.reopen,
		"write fails": fault("write"),
		"sync fails":  fault("sync"),
		"no segment":  fault("create"),
		"":            m.check,
	})
}
