package sqlite_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// A question for hashes alone doesn't read the messages, and is told nothing that
// isn't so all the same.
func TestDamagedPlaces(t *testing.T) {
	for name, damage := range map[string]string{
		"shard":         `UPDATE shoal_messages SET shard = shard + 32 WHERE id = 7`,
		"topic":         `UPDATE shoal_messages SET topic = (SELECT max(id) FROM shoal_topics WHERE id <> topic) WHERE id = 7`,
		"time":          `UPDATE shoal_messages SET time = time + 1 WHERE id = 7`,
		"prefix":        `UPDATE shoal_messages SET prefix = prefix + 1 WHERE id = 7`,
		"rest":          `UPDATE shoal_messages SET rest = randomblob(24) WHERE id = 7`,
		"short":         `UPDATE shoal_messages SET rest = randomblob(23) WHERE id = 7`,
		"seal":          `UPDATE shoal_messages SET seal = seal + 4294967296 WHERE id = 7`,
		"text":          `UPDATE shoal_messages SET topic = 'seven' WHERE id = 7`,
		"topic's name":  `UPDATE shoal_topics SET name = '/app/1/topic-9/proto' WHERE id = 1`,
		"topics change": `UPDATE shoal_topics SET seal = seal + 1 WHERE id = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			db := appDatabase(t)
			a := newIn(t, db)
			list := entries(30, origin, 500)
			require.NoError(t, a.Put(t.Context(), list))
			known := map[message.Hash]store.Entry{}
			for _, e := range list {
				known[e.Hash] = e
			}
			_, err := db.Exec(damage)
			require.NoError(t, err)
			failed := 0
			for _, q := range []store.Query{
				{}, {Shard: &shardA}, {Shard: &shardB},
				{Shard: &shardA, ContentTopics: []string{topicName(0)}},
				{Shard: &shardA, ContentTopics: []string{"/app/1/topic-9/proto", topicName(4)}},
			} {
				q.HashesOnly = true
				found, err := walk(t.Context(), a, q)
				if err != nil {
					require.ErrorIs(t, err, store.ErrUnavailable)
					failed++
				}
				for _, e := range found {
					was, ok := known[e.Hash]
					require.True(t, ok, "never put")
					require.True(t, q.Shard == nil || was.Shard == *q.Shard, "on another shard")
					require.True(t, len(q.ContentTopics) == 0 || assert.Contains(t, q.ContentTopics, was.Message.ContentTopic))
				}
			}
			assert.NotZero(t, failed, "nobody noticed")
			assert.Equal(t, store.Damaged, a.Condition().State)
		})
	}
}

// What a message holds isn't read for its hash.
func TestHashOfDamagedMessage(t *testing.T) {
	db := appDatabase(t)
	a := newIn(t, db)
	list := entries(30, origin, 500)
	require.NoError(t, a.Put(t.Context(), list))
	spoil(t, db, 7)
	found, err := walk(t.Context(), a, store.Query{HashesOnly: true})
	require.NoError(t, err)
	assert.Len(t, found, len(list))
	_, err = walk(t.Context(), a, store.Query{Hashes: []message.Hash{found[6].Hash}})
	require.ErrorIs(t, err, store.ErrUnavailable)
}
