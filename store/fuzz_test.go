package store_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
)

// allocated is how many bytes f allocates, or something more.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func hostileRequests() [][]byte {
	number := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 16) }
	return [][]byte{
		nil,
		unhex("0a0131" + repeat(100, "a201", number)),
		unhex("0a0131" + repeat(1900, "a201", number)),
		unhex("5210 2f77616b752f322f72732f31362f3332" + repeat(2000, "5a", number)),
		bytes.Repeat([]byte{0x5a, 0}, 32<<10),
		bytes.Repeat([]byte{0xa3, 0x06}, 32<<10),
		bytes.Repeat([]byte{0xff}, 20),
		unhex("60 ffffffffffffffffff01 68 feffffffffffffffff01 a803 ffffffffffffffffff01"),
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range loadVectors(f).Requests {
		f.Add(unhex(r.Hex))
	}
	for _, b := range hostileRequests() {
		f.Add(b[:min(len(b), 2000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, again, err := store.RequestOf(b)
		if again == nil {
			require.Error(t, err)
			return
		}
		q2, again2, err2 := store.RequestOf(again)
		require.Equal(t, err == nil, err2 == nil)
		require.Equal(t, again, again2)
		if err != nil {
			var wrong *store.QueryError
			require.True(t, errors.As(err, &wrong) || errors.Is(err, store.ErrUnknownCursor))
			return
		}
		require.Equal(t, q, q2)
		checked, err := q.Check()
		require.NoError(t, err)
		require.Equal(t, q, checked)
		require.LessOrEqual(t, len(q.ContentTopics), store.MaxContentTopics)
		require.LessOrEqual(t, len(q.Hashes), store.MaxHashes)
		require.Positive(t, q.Limit)
		require.LessOrEqual(t, q.Limit, store.MaxPageSize)

		// A client would ask the same.
		q3, _, err := store.RequestOf(store.AppendRequest("id", q))
		require.NoError(t, err)
		require.Equal(t, q, q3)
	})
}

func FuzzResponse(f *testing.F) {
	for _, r := range loadVectors(f).Responses {
		f.Add(unhex(r.Hex), false, false)
		f.Add(unhex(r.Hex), true, true)
	}
	list := entries(3)
	f.Add(store.AppendResponse("id", 200, "OK", store.Page{Entries: list, Cursor: &list[2].Hash}), false, false)
	f.Add(bytes.Repeat(unhex("a20100"), 100), false, false)
	f.Add(bytes.Repeat(unhex("a306"), 100), false, false)
	f.Fuzz(func(t *testing.T, b []byte, bare, backward bool) {
		q, err := store.Query{HashesOnly: bare, Backward: backward, Limit: 50}.Check()
		require.NoError(t, err)
		p, err := store.PageOf(b, q)
		if err != nil {
			require.Zero(t, p)
			return
		}
		require.LessOrEqual(t, len(p.Entries), q.Limit)
		for i, e := range p.Entries {
			if bare {
				require.Nil(t, e.Message)
				continue
			}
			require.Equal(t, e.Hash, e.Message.Hash(e.Shard.PubsubTopic()))
			require.NoError(t, e.Message.Validate())
			require.True(t, i == 0 || e.Key().Compare(p.Entries[i-1].Key()) > 0)
		}
		again := store.AppendResponse("id", 200, "OK", p)
		p2, err := store.PageOf(again, q)
		require.NoError(t, err)
		require.Equal(t, again, store.AppendResponse("id", 200, "OK", p2))
	})
}

// What is read costs no more memory than a few times its length.
func TestDecodersAllocateLittle(t *testing.T) {
	const slack = 64 << 10
	for _, b := range hostileRequests() {
		require.LessOrEqual(t, allocated(func() { store.RequestOf(b) }), uint64(4*len(b)+slack))
	}
	list := entries(100)
	full := store.AppendResponse("id", 200, "OK", store.Page{Entries: list, Cursor: &list[99].Hash})
	for _, b := range [][]byte{
		full,
		bytes.Repeat(unhex("a20122 0a20 1111111111111111111111111111111111111111111111111111111111111111"), 20_000),
		bytes.Repeat(unhex("a20100"), 1<<18),
		bytes.Repeat(unhex("5a00"), 1<<18),
		bytes.Repeat(unhex("a306"), 1<<18),
		append(unhex("5affff7f"), bytes.Repeat([]byte{'x'}, 1<<21-1)...),
	} {
		for _, bare := range []bool{false, true} {
			q := store.Query{HashesOnly: bare, Limit: 100}
			require.LessOrEqual(t, allocated(func() { store.PageOf(b, q) }), uint64(4*len(b)+slack))
		}
	}
}
