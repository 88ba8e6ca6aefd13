package sqlite_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

var (
	shardA = sharding.Shard{Cluster: 16, Index: 32}
	shardB = sharding.Shard{Cluster: 16, Index: 64}
	origin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// clockAt is a clock that stands still.
func clockAt(t time.Time) func() time.Time { return func() time.Time { return t } }

// entryAt makes a message, whose payload tells it from all others.
func entryAt(s sharding.Shard, topic string, at time.Time, size int) store.Entry {
	payload := make([]byte, max(size, 16))
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(at.UnixNano()))
	binary.BigEndian.PutUint16(seed[8:], s.Index)
	_, _ = rand.NewChaCha8(seed).Read(payload)
	return store.NewEntry(s, &message.Message{
		Payload: payload, ContentTopic: topic, Timestamp: at.UnixNano(), Meta: payload[:16], Version: 1,
	})
}

// entries are messages of both shards and five content topics, a second apart.
func entries(n int, from time.Time, size int) []store.Entry {
	list := make([]store.Entry, n)
	for i := range list {
		s := []sharding.Shard{shardA, shardA, shardB}[i%3]
		list[i] = entryAt(s, topicName(i), from.Add(time.Duration(i)*time.Second), size)
	}
	return list
}

func topicName(i int) string { return fmt.Sprintf("/app/1/topic-%d/proto", i%5) }

func open(t testing.TB, path string, cfg sqlite.Config) *sqlite.Archive {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = clockAt(origin.Add(24 * time.Hour))
	}
	if cfg.PruneEvery == 0 {
		cfg.PruneEvery = -1
	}
	a, err := sqlite.Open(t.Context(), path, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// walk reads pages to the end.
func walk(ctx context.Context, a store.Archive, q store.Query) (all []store.Entry, err error) {
	for {
		page, err := a.Query(ctx, q)
		if err != nil {
			return all, err
		}
		all = append(all, page.Entries...)
		if q.Cursor = page.Cursor; q.Cursor == nil {
			return all, nil
		}
	}
}

// served is everything that an archive serves, by each way there is to ask.
func served(t testing.TB, a store.Archive, known []store.Entry) map[message.Hash]*message.Message {
	t.Helper()
	questions := []store.Query{{Limit: 100}, {Limit: 7, Backward: true}}
	for _, s := range []sharding.Shard{shardA, shardB} {
		questions = append(questions, store.Query{Shard: &s, Limit: 50},
			store.Query{Shard: &s, ContentTopics: []string{topicName(0), topicName(1), topicName(2), topicName(3), topicName(4)}})
	}
	for i := 0; i < len(known); i += 100 {
		var hashes []message.Hash
		for _, e := range known[i:min(i+100, len(known))] {
			hashes = append(hashes, e.Hash)
		}
		questions = append(questions, store.Query{Hashes: hashes, Limit: 100})
	}
	found := map[message.Hash]*message.Message{}
	for _, q := range questions {
		var list []store.Entry
		// While a damaged file is replaced, nobody is served.
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			var err error
			list, err = walk(t.Context(), a, q)
			if err != nil && !errors.Is(err, store.ErrUnknownCursor) {
				require.ErrorIs(t, err, store.ErrUnavailable)
				c.Errorf("%v", err)
			}
		}, 20*time.Second, time.Millisecond)
		for _, e := range list {
			require.Equal(t, e.Hash, e.Message.Hash(e.Shard.PubsubTopic()), "served under another hash")
			found[e.Hash] = e.Message
		}
	}
	return found
}
