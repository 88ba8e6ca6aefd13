package store_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// A timestamp is kept from the retention's age on until MaxFuture, inclusive.
func TestCheckEntriesTime(t *testing.T) {
	cases(t, 5_000)
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, rapid.Int64Range(0, math.MaxInt64-int64(store.MaxFuture)).Draw(t, "now"))
		s := sharding.Shard{Index: 1}
		age := time.Duration(rapid.Int64().Draw(t, "age"))
		p := store.Policy{Default: store.Retention{MaxAge: age}}
		at := rapid.OneOf(
			rapid.Int64(),
			rapid.Map(rapid.Int64Range(-2, 2), func(d int64) int64 { return now.UnixNano() - int64(age) + d }),
			rapid.Map(rapid.Int64Range(-2, 2), func(d int64) int64 { return now.UnixNano() + int64(store.MaxFuture) + d }),
		).Draw(t, "timestamp")
		e := store.NewEntry(s, &message.Message{Payload: []byte("x"), ContentTopic: "/t", Timestamp: at})
		// A time.Time has room for all of them.
		when := time.Unix(0, at)
		var want error
		switch {
		case at <= 0:
			want = store.ErrNoTimestamp
		case when.After(now.Add(store.MaxFuture)):
			want = store.ErrFuture
		case age > 0 && when.Before(now.Add(-age)):
			want = store.ErrTooOld
		}
		err := p.CheckEntries([]store.Entry{e}, now)
		if want == nil {
			require.NoError(t, err)
			return
		}
		require.Equal(t, &store.EntryError{Hash: e.Hash, Err: want}, err)
		require.ErrorIs(t, err, want)
	})
}

func TestCheckEntriesFirst(t *testing.T) {
	now := time.Unix(1000, 0)
	good := store.NewEntry(sharding.Shard{Index: 1}, &message.Message{Payload: []byte("x"), ContentTopic: "/t", Timestamp: 1})
	bad, worse := good, good
	bad.Hash[0]++
	worse.Message = nil
	var p store.Policy
	require.NoError(t, p.CheckEntries(nil, now))
	require.NoError(t, p.CheckEntries([]store.Entry{good, good}, now))
	assert.ErrorIs(t, p.CheckEntries([]store.Entry{good, bad, worse}, now), store.ErrHashMismatch)
	assert.ErrorIs(t, p.CheckEntries([]store.Entry{good, worse, bad}, now), message.ErrEmptyPayload)
}

// drawQuery draws any question, sensible or not.
func drawQuery(t *rapid.T) store.Query {
	var q store.Query
	if rapid.Bool().Draw(t, "one shard") {
		q.Shard = &sharding.Shard{Index: rapid.SampledFrom([]uint16{0, 1023, 1024}).Draw(t, "shard")}
	}
	few := rapid.SampledFrom([]int{0, 0, 1, 3, 10, 11, 14}).Draw(t, "topics")
	for range few {
		q.ContentTopics = append(q.ContentTopics, fmt.Sprint("/", rapid.IntRange(0, 13).Draw(t, "topic")))
	}
	if few > 0 && rapid.IntRange(0, 9).Draw(t, "an empty topic") == 0 {
		q.ContentTopics[0] = ""
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 5, 100, 101, 130}).Draw(t, "hashes") {
		q.Hashes = append(q.Hashes, message.Hash{rapid.ByteRange(0, 130).Draw(t, "hash")})
	}
	times := []time.Time{
		{}, {}, time.Unix(0, 0), time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64), time.Unix(0, 5),
		time.Unix(0, math.MinInt64).Add(-1), time.Unix(0, math.MaxInt64).Add(1), time.Unix(1<<62, 0), time.Unix(-1<<62, 0),
	}
	q.Start = rapid.SampledFrom(times).Draw(t, "start")
	q.End = rapid.SampledFrom(times).Draw(t, "end")
	q.Limit = rapid.SampledFrom([]int{0, 1, 20, 100, 101, math.MaxInt, -1}).Draw(t, "limit")
	q.MaxBytes = rapid.SampledFrom([]int{0, 1, math.MaxInt, -1}).Draw(t, "bytes")
	if rapid.Bool().Draw(t, "from within") {
		q.Cursor = &message.Hash{31: rapid.ByteRange(0, 3).Draw(t, "cursor")}
	}
	return q
}

// What Check lets through is within bounds, says the same once more, and asks for
// what was asked for.
func TestCheckQuery(t *testing.T) {
	cases(t, 5_000)
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuery(t)
		got, err := q.Check()
		if err != nil {
			var wrong *store.QueryError
			require.ErrorAs(t, err, &wrong)
			require.Contains(t, []string{"Shard", "ContentTopics", "Hashes", "Start", "End", "Limit", "MaxBytes", "Cursor"}, wrong.Field)
			require.NotEmpty(t, wrong.Reason)
			require.Zero(t, got)
			return
		}
		again, err := got.Check()
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.True(t, 1 <= got.Limit && got.Limit <= store.MaxPageSize)
		require.LessOrEqual(t, len(got.ContentTopics), store.MaxContentTopics)
		require.LessOrEqual(t, len(got.Hashes), store.MaxHashes)
		require.Equal(t, set(q.ContentTopics), set(got.ContentTopics))
		require.Equal(t, set(q.Hashes), set(got.Hashes))
		require.Len(t, set(got.ContentTopics), len(got.ContentTopics), "nothing twice")
		require.Len(t, set(got.Hashes), len(got.Hashes), "nothing twice")
		start, end := got.Bounds()
		require.LessOrEqual(t, start, end)
		require.True(t, q.Start.IsZero() && start == math.MinInt64 || time.Unix(0, start).Equal(q.Start))
		require.True(t, q.End.IsZero() && end == math.MaxInt64 || time.Unix(0, end).Equal(q.End))
		q.Limit, q.ContentTopics, q.Hashes = got.Limit, got.ContentTopics, got.Hashes
		require.Equal(t, q, got, "the rest is as it was")
	})
}

func set[T comparable](list []T) map[T]bool {
	all := make(map[T]bool)
	for _, x := range list {
		all[x] = true
	}
	return all
}

func TestCheckQueryLeavesArguments(t *testing.T) {
	q := store.Query{Shard: new(sharding.Shard), ContentTopics: []string{"/a", "/a", "/b"}}
	got, err := q.Check()
	require.NoError(t, err)
	assert.Equal(t, []string{"/a", "/b"}, got.ContentTopics)
	assert.Equal(t, []string{"/a", "/a", "/b"}, q.ContentTopics)
}
