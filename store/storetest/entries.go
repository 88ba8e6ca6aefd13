package storetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

var (
	shardA = sharding.Shard{Cluster: 16, Index: 32}
	shardB = sharding.Shard{Cluster: 16, Index: 64}
	shardC = sharding.Shard{Cluster: 65535, Index: 1023}

	topics = []string{"/waku/1/0x9c22ff5f/rfc26", "/app/1/chat/proto", "/app/1/Chat/proto", "/app/1/chat/proto "}
)

// payload is random bytes, which no archive can compress, the same for the same
// seed.
func payload(seed, size int) []byte {
	b := make([]byte, size+8)
	rnd := rand.New(rand.NewPCG(uint64(seed), 7))
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rnd.Uint64())
	}
	return b[:size]
}

// entry makes an entry unlike those made before, of about 40 bytes and more.
func (e *env) entry(s sharding.Shard, topic string, at time.Time) store.Entry {
	e.made++
	return store.NewEntry(s, &message.Message{
		Payload:      fmt.Appendf(nil, "message %d", e.made),
		ContentTopic: topic,
		Timestamp:    at.UnixNano(),
	})
}

// entries makes n entries on a shard, a step apart from each other.
func (e *env) entries(n int, s sharding.Shard, from time.Time, step time.Duration) []store.Entry {
	var list []store.Entry
	for i := range n {
		list = append(list, e.entry(s, topics[i%len(topics)], from.Add(time.Duration(i)*step)))
	}
	sortEntries(list)
	return list
}

// sortEntries puts entries into an archive's order.
func sortEntries(list []store.Entry) {
	slices.SortFunc(list, func(a, b store.Entry) int { return a.Key().Compare(b.Key()) })
}

// put keeps entries and sees to it that others find them.
func (e *env) put(a store.Archive, list ...store.Entry) {
	e.Helper()
	require.NoError(e, a.Put(e.ctx, list))
	require.NoError(e, a.Flush(e.ctx))
}

// page asks one question.
func (e *env) page(a store.Archive, q store.Query) store.Page {
	e.Helper()
	q, err := q.Check()
	require.NoError(e, err)
	p, err := a.Query(e.ctx, q)
	require.NoError(e, err)
	e.wellFormed(q, p)
	return p
}

// wellFormed requires of a page what holds for every page.
func (e *env) wellFormed(q store.Query, p store.Page) {
	e.Helper()
	require.LessOrEqual(e, len(p.Entries), q.Limit, "entries in a page")
	for i, x := range p.Entries {
		if q.HashesOnly {
			require.Nil(e, x.Message, "a message in an answer of hashes")
			require.Zero(e, x.Shard, "a shard in an answer of hashes")
			continue
		}
		require.NotNil(e, x.Message)
		require.Equal(e, x.Hash, x.Message.Hash(x.Shard.PubsubTopic()), "the hash of an entry")
		require.True(e, admits(q, x), "an entry that wasn't asked for: %+v", x)
		if i > 0 {
			require.LessOrEqual(e, p.Entries[i-1].Key().Compare(x.Key()), 0, "entries ascend")
		}
	}
	if p.Cursor != nil {
		require.NotEmpty(e, p.Entries, "a cursor without entries")
		require.Equal(e, edge(q, p), *p.Cursor, "the cursor is the page's edge in the direction of the walk")
	}
}

// edge is what others compute as a page's cursor.
func edge(q store.Query, p store.Page) message.Hash {
	if q.Backward {
		return p.Entries[0].Hash
	}
	return p.Entries[len(p.Entries)-1].Hash
}

// walk asks until there is no more. It returns everything in ascending order.
func (e *env) walk(a store.Archive, q store.Query) []store.Entry {
	e.Helper()
	var all []store.Entry
	been := make(map[message.Hash]bool)
	for {
		p := e.page(a, q)
		if q.Backward {
			all = append(slices.Clone(p.Entries), all...)
		} else {
			all = append(all, p.Entries...)
		}
		if p.Cursor == nil {
			return all
		}
		require.False(e, been[*p.Cursor], "a walk in circles")
		been[*p.Cursor] = true
		q.Cursor = p.Cursor
	}
}

// same requires entries to be those wanted, in order, byte for byte.
func (e *env) same(want, got []store.Entry, about ...any) {
	e.Helper()
	require.Equal(e, hashes(want), hashes(got), about...)
	for i := range want {
		if got[i].Message != nil {
			assert.Equal(e, want[i].Shard, got[i].Shard, about...)
			require.Equal(e, want[i].Message.Encode(), got[i].Message.Encode(), about...)
		}
	}
}

// holds requires an archive to hold exactly these entries.
func (e *env) holds(a store.Archive, want []store.Entry, about ...any) {
	e.Helper()
	want = slices.Clone(want)
	sortEntries(want)
	e.same(want, e.walk(a, store.Query{Limit: store.MaxPageSize}), about...)
}

func hashes(list []store.Entry) []message.Hash {
	all := []message.Hash{}
	for _, x := range list {
		all = append(all, x.Hash)
	}
	return all
}
