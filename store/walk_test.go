package store_test

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
)

func reversed(list []store.Entry) []store.Entry {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

func TestAll(t *testing.T) {
	all := entries(250)
	b := entries(250)
	odd := slices.DeleteFunc(b, func(e store.Entry) bool { return e.Message.ContentTopic != topicB })
	elsewhere := store.NewEntry(other, all[0].Message)
	pair(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, archive(append(entries(250), elsewhere)...), store.ServerConfig{Rate: -1, PageBytes: 2000})
		c := store.NewClient(client, fast)
		for name, q := range map[string]struct {
			q    store.Query
			want []store.Entry
		}{
			"a shard":   {store.Query{Shard: &shard}, all},
			"a topic":   {store.Query{Shard: &shard, ContentTopics: []string{topicB}}, odd},
			"a range":   {store.Query{Start: at(100), End: at(200)}, all[100:200]},
			"nothing":   {store.Query{Start: at(300)}, nil},
			"by sevens": {store.Query{Shard: &shard, Limit: 7}, all},
			"by tens":   {store.Query{Shard: &shard, Limit: 10}, all},
			"behind":    {store.Query{Shard: &shard, Cursor: &all[99].Hash}, all[100:]},
			"the end":   {store.Query{Shard: &shard, Cursor: &all[249].Hash}, nil},
		} {
			require.Equal(t, q.want, collect(t, c, server, q.q), name)
			if q.q.Cursor != nil {
				continue
			}
			q.q.Backward = true
			require.Equal(t, reversed(q.want), collect(t, c, server, q.q), name)
			q.q.HashesOnly = true
			got := collect(t, c, server, q.q)
			require.Equal(t, hashes(reversed(q.want)), hashes(got), name)
			for _, e := range got {
				require.Nil(t, e.Message)
				require.Zero(t, e.Shard)
			}
		}
		require.Zero(t, c.Dropped())
	})
}
