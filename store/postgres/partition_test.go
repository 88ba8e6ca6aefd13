package postgres_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// No partition is let go that may hold what some shard keeps, nor that of now or
// later, and every other one is.
func TestExpiredPartitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ages := rapid.OneOf(rapid.Just(time.Duration(0)), rapid.Map(rapid.Int64Range(1, int64(400*24*time.Hour)),
			func(ns int64) time.Duration { return time.Duration(ns) }))
		now := time.Unix(0, rapid.Int64Range(int64(time.Hour), math.MaxInt64/2).Draw(t, "now"))
		width := time.Duration(rapid.Int64Range(int64(time.Second), int64(30*24*time.Hour)).Draw(t, "width"))
		policy := store.Policy{
			Default: store.Retention{MaxAge: ages.Draw(t, "default")},
			Shards:  make(map[sharding.Shard]store.Retention),
			Total:   store.Retention{MaxAge: ages.Draw(t, "total")},
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "shards") {
			policy.Shards[sharding.Shard{Cluster: math.MaxUint16, Index: uint16(i)}] = store.Retention{MaxAge: ages.Draw(t, "age")}
		}
		near := rapid.Int64Range(max(1, now.UnixNano()-int64(500*24*time.Hour)), now.UnixNano()+int64(time.Hour))
		at := rapid.SliceOfN(rapid.OneOf(near, rapid.Int64Range(1, now.UnixNano())), 0, 60).Draw(t, "timestamps")

		keeps := func(age time.Duration, ts int64) bool { return age <= 0 || ts >= now.Add(-age).UnixNano() }
		retentions := []store.Retention{policy.For(sharding.Shard{Cluster: 1})}
		for s := range policy.Shards {
			retentions = append(retentions, policy.For(s))
		}
		all, gone := postgres.Expired(at, policy, width, now)
		for _, p := range all {
			kept := p.End > now.UnixNano() ||
				slices.ContainsFunc(retentions, func(r store.Retention) bool { return keeps(r.MaxAge, p.End-1) })
			require.NotEqual(t, kept, slices.Contains(gone, p), "%v at %v", p, now.UnixNano())
		}
	})
}

// A timestamp's partition holds it, has a name that says so, and partitions don't
// overlap.
func TestPartitionOfTimestamp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		began := time.Unix(0, rapid.Int64Range(1, math.MaxInt64/2).Draw(t, "began"))
		width := time.Duration(rapid.Int64Range(int64(time.Second), int64(30*24*time.Hour)).Draw(t, "width"))
		times := rapid.Bool().Draw(t, "times")
		a := rapid.Int64Range(1, math.MaxInt64/2).Draw(t, "a")
		b := a + rapid.Int64Range(-int64(width), int64(width)).Draw(t, "b")
		p, ok := postgres.Holding(a, width, began, times)
		require.True(t, ok)
		require.True(t, p.Start <= a && a < p.End)
		q, ok := postgres.Holding(b, width, began, times)
		require.True(t, ok)
		require.True(t, p == q || p.End <= q.Start || q.End <= p.Start)
		if !times { // one of times holds whole ones of messages
			r, _ := postgres.Holding(a, width, began, true)
			require.True(t, r.Start <= p.Start && p.End <= r.End)
		}
	})
}

func TestTopicKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topic := rapid.OneOf(rapid.String(), rapid.StringN(150, 400, -1))
		a, b := topic.Draw(t, "a"), topic.Draw(t, "b")
		x, y := postgres.TopicKey(a), postgres.TopicKey(b)
		require.Equal(t, a == b, string(x) == string(y))
		require.LessOrEqual(t, len(x), 200)
	})
}
