package store_test

import (
	"cmp"
	"flag"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// cases sets how many cases rapid tries in this test.
func cases(t *testing.T, n int) {
	f := flag.Lookup("rapid.checks")
	before := f.Value.String()
	require.NoError(t, f.Value.Set(strconv.Itoa(n)))
	t.Cleanup(func() { require.NoError(t, f.Value.Set(before)) })
}

func TestRetention(t *testing.T) {
	cases(t, 20_000)
	rapid.Check(t, retention)
}

// kept is a message, as far as retention is concerned.
type kept struct {
	shard       sharding.Shard
	time, bytes int64
	n           int // tells messages of one time apart
}

// retention is the property: carried out on messages, what Cuts says never takes
// one that a simulation keeps, and taken twice leaves exactly what that keeps.
func retention(t *rapid.T) {
	now := time.Unix(0, rapid.SampledFrom([]int64{1000, 1_772_366_370_123_456_789}).Draw(t, "now"))
	grid := drawGrid(t)
	var have []kept
	for range rapid.IntRange(0, 30).Draw(t, "messages") {
		have = append(have, kept{
			shard: sharding.Shard{Index: rapid.Uint16Range(0, 3).Draw(t, "shard")},
			time:  now.UnixNano() - rapid.Int64Range(-5, 60).Draw(t, "age"),
			bytes: rapid.SampledFrom([]int64{1, 2, 10, 100}).Draw(t, "bytes"),
			n:     len(have),
		})
	}
	slices.SortFunc(have, kept.compare)
	policy := drawRetention(t)

	want := simulate(have, policy, now.UnixNano())
	got := slices.DeleteFunc(slices.Clone(have), func(m kept) bool { return tooOld(m, policy, now.UnixNano()) })
	buckets := grid.count(t, got, now.UnixNano())
	shards, total := policy.Cuts(slices.Clone(buckets))
	for s, c := range shards {
		require.NotZero(t, c)
		got = cut(got, c, func(m kept) bool { return m.shard == s })
	}
	for _, s := range shardsOf(got) {
		messages, bytes := sum(got, &s)
		r := policy.For(s)
		require.False(t, r.MaxMessages > 0 && messages > r.MaxMessages, "more messages than a shard may have")
		require.False(t, r.MaxBytes > 0 && bytes > r.MaxBytes, "more bytes than a shard may have")
	}
	got = cut(got, total, everyShard)
	for _, m := range want {
		require.True(t, slices.Contains(got, m), "%v was taken", m)
	}
	if len(shards) == 0 {
		require.True(t, slices.Equal(want, got), "without cuts of shards, the total is exact at once: %v, want %v", got, want)
	}

	shards, total = policy.Cuts(grid.count(t, got, now.UnixNano()))
	require.Empty(t, shards, "shards are exact at once")
	got = cut(got, total, everyShard)
	require.True(t, slices.Equal(want, got), "exact when asked again: %v, want %v", got, want)
	shards, total = policy.Cuts(grid.count(t, got, now.UnixNano()))
	require.Empty(t, shards)
	require.Zero(t, total)
}

func (m kept) compare(other kept) int {
	return cmp.Or(cmp.Compare(m.time, other.time), cmp.Compare(m.n, other.n))
}

func everyShard(kept) bool { return true }

func tooOld(m kept, p store.Policy, now int64) bool {
	age := int64(p.For(m.shard).MaxAge)
	return age > 0 && m.time < now-age
}

func shardsOf(list []kept) []sharding.Shard {
	all := make(map[sharding.Shard]bool)
	for _, m := range list {
		all[m.shard] = true
	}
	return slices.Collect(maps.Keys(all))
}

func sum(list []kept, s *sharding.Shard) (messages, bytes int64) {
	for _, m := range list {
		if s == nil || m.shard == *s {
			messages++
			bytes += m.bytes
		}
	}
	return messages, bytes
}

// simulate takes the oldest, one by one, while there is too much.
func simulate(have []kept, p store.Policy, now int64) []kept {
	left := slices.DeleteFunc(slices.Clone(have), func(m kept) bool { return tooOld(m, p, now) })
	takeOldest := func(s *sharding.Shard, r store.Retention) {
		for {
			messages, bytes := sum(left, s)
			if (r.MaxMessages <= 0 || messages <= r.MaxMessages) && (r.MaxBytes <= 0 || bytes <= r.MaxBytes) {
				return
			}
			i := slices.IndexFunc(left, func(m kept) bool { return s == nil || m.shard == *s })
			left = slices.Delete(left, i, i+1)
		}
	}
	for _, s := range shardsOf(left) {
		takeOldest(&s, p.For(s))
	}
	takeOldest(nil, p.Total)
	return left
}

// cut carries out a cut, as its comment has it.
func cut(have []kept, c store.Cut, in func(kept) bool) (left []kept) {
	for _, m := range have {
		switch {
		case in(m) && m.time < c.Before:
		case in(m) && (c.Messages > 0 || c.Bytes > 0):
			c.Messages--
			c.Bytes -= m.bytes
		default:
			left = append(left, m)
		}
	}
	return left
}

// grid are the bounds of buckets, before now.
type grid []int64

func drawGrid(t *rapid.T) (g grid) {
	for at := int64(-10); at < 70; at += rapid.SampledFrom([]int64{1, 3, 10, 80}).Draw(t, "width") {
		g = append(g, at)
	}
	return append(g, 1000)
}

// count fills buckets, in no order, some of them empty.
func (g grid) count(t *rapid.T, list []kept, now int64) (buckets []store.Bucket) {
	for i := range g[1:] {
		// Ages ascend in the grid, times in buckets.
		b := store.Bucket{Start: now - g[i+1] + 1, End: now - g[i] + 1}
		for index := range uint16(4) {
			b.Shard.Index = index
			b.Messages, b.Bytes = 0, 0
			for _, m := range list {
				if m.shard == b.Shard && b.Start <= m.time && m.time < b.End {
					b.Messages++
					b.Bytes += m.bytes
				}
			}
			if b.Messages > 0 || i%5 == 0 {
				buckets = append(buckets, b)
			}
		}
	}
	return rapid.Permutation(buckets).Draw(t, "order")
}

func drawRetention(t *rapid.T) store.Policy {
	draw := func(name string) store.Retention {
		return store.Retention{
			MaxAge:      time.Duration(rapid.SampledFrom([]int64{-1, 0, 0, 1, 20, 55}).Draw(t, name+" age")),
			MaxMessages: rapid.SampledFrom([]int64{-1, 0, 0, 0, 1, 3, 10}).Draw(t, name+" messages"),
			MaxBytes:    rapid.SampledFrom([]int64{-1, 0, 0, 0, 1, 20, 200}).Draw(t, name+" bytes"),
		}
	}
	p := store.Policy{Default: draw("default"), Total: draw("total")}
	if rapid.Bool().Draw(t, "per shard") {
		p.Shards = map[sharding.Shard]store.Retention{{Index: 1}: draw("shard 1"), {Index: 9}: draw("shard 9")}
	}
	return p
}

func TestRetentionOfShard(t *testing.T) {
	a, b := sharding.Shard{Index: 1}, sharding.Shard{Index: 2}
	day := 24 * time.Hour
	p := store.Policy{
		Default: store.Retention{MaxAge: 3 * day, MaxMessages: 5, MaxBytes: 7},
		Shards:  map[sharding.Shard]store.Retention{a: {MaxBytes: 9}},
		Total:   store.Retention{MaxMessages: 1, MaxBytes: 1},
	}
	assert.Equal(t, store.Retention{MaxBytes: 9}, p.For(a), "in place of the default")
	assert.Equal(t, p.Default, p.For(b), "the total's number and size aren't each shard's")
	p.Total.MaxAge = 2 * day
	assert.Equal(t, 2*day, p.For(a).MaxAge)
	assert.Equal(t, 2*day, p.For(b).MaxAge)
	p.Total.MaxAge = 4 * day
	assert.Equal(t, 4*day, p.For(a).MaxAge)
	assert.Equal(t, 3*day, p.For(b).MaxAge)
	assert.Zero(t, store.Policy{}.For(a))
}

// A gap in time, however long, takes nothing along.
func TestCutsAcrossGap(t *testing.T) {
	s := sharding.Shard{Index: 1}
	kept := []store.Bucket{
		{Shard: s, Start: 900, End: 1000, Messages: 5, Bytes: 50},
		{Shard: s, Start: 0, End: 10, Messages: 5, Bytes: 50},
	}
	p := store.Policy{Default: store.Retention{MaxMessages: 6}}
	shards, total := p.Cuts(kept)
	assert.Equal(t, map[sharding.Shard]store.Cut{s: {Messages: 4}}, shards)
	assert.Zero(t, total)
	p.Default.MaxMessages = 5
	shards, _ = p.Cuts(kept)
	assert.Equal(t, map[sharding.Shard]store.Cut{s: {Before: 10}}, shards)
	shards, total = p.Cuts(nil)
	assert.Empty(t, shards)
	assert.Zero(t, total)
}
