package store_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

func unhash(s string) message.Hash { return message.Hash(unhex(s)) }

type vectors struct {
	Requests []struct {
		Name, Hex string
		Ours      bool
		Query     struct {
			Shard         string
			ContentTopics []string `json:"content_topics"`
			Start, End    *int64
			Hashes        []string
			Cursor        string
			Backward      bool
			Limit         int
			HashesOnly    bool `json:"hashes_only"`
		}
	}
	Responses []struct {
		Name, Hex string
		Ours      bool
		Entries   []struct{ Hash, Message, Shard string }
		Cursor    string
	}
}

func loadVectors(t testing.TB) (v vectors) {
	b, err := os.ReadFile("testdata/wire.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Requests)
	require.NotEmpty(t, v.Responses)
	return v
}

// query is the question of the i-th request.
func (v vectors) query(t testing.TB, i int) store.Query {
	in := v.Requests[i].Query
	q := store.Query{ContentTopics: in.ContentTopics, Backward: in.Backward, Limit: in.Limit, HashesOnly: in.HashesOnly}
	if in.Shard != "" {
		s, err := sharding.ParseShard(in.Shard)
		require.NoError(t, err)
		q.Shard = &s
	}
	if in.Start != nil {
		q.Start = time.Unix(0, *in.Start)
	}
	if in.End != nil {
		q.End = time.Unix(0, *in.End)
	}
	for _, h := range in.Hashes {
		q.Hashes = append(q.Hashes, unhash(h))
	}
	if in.Cursor != "" {
		q.Cursor = new(unhash(in.Cursor))
	}
	return q
}

// page is what the i-th response holds.
func (v vectors) page(t testing.TB, i int) (p store.Page) {
	for _, in := range v.Responses[i].Entries {
		e := store.Entry{Hash: unhash(in.Hash)}
		if in.Message != "" {
			var err error
			e.Shard, err = sharding.ParseShard(in.Shard)
			require.NoError(t, err)
			e.Message, err = message.Decode(unhex(in.Message))
			require.NoError(t, err)
		}
		p.Entries = append(p.Entries, e)
	}
	if c := v.Responses[i].Cursor; c != "" {
		p.Cursor = new(unhash(c))
	}
	return p
}

// ask sends a request as it stands and returns the response as it stands.
func ask(t testing.TB, from, to host.Host, request []byte) []byte {
	s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), store.ID)
	require.NoError(t, err)
	defer s.Reset()
	require.NoError(t, wire.WriteFrame(s, request))
	require.NoError(t, s.CloseWrite())
	b, err := wire.ReadFrame(s, 32<<20)
	require.NoError(t, err)
	return b
}

func TestRequestsRead(t *testing.T) {
	v := loadVectors(t)
	pair(t, func(t *testing.T, client, server host.Host) {
		var got store.Query
		serve(t, server, source(func(_ context.Context, q store.Query) (store.Page, error) {
			got = q
			return store.Page{}, nil
		}), store.ServerConfig{})
		for i, r := range v.Requests {
			require.Equal(t, unhex("0a0131 50c801 5a024f4b"), ask(t, client, server, unhex(r.Hex)), r.Name)
			want := v.query(t, i)
			want.MaxBytes = store.DefaultPageBytes
			require.Equal(t, want, got, r.Name)
		}
	})
}

func TestRequestsWritten(t *testing.T) {
	v := loadVectors(t)
	pair(t, func(t *testing.T, client, server host.Host) {
		var got []byte
		answerBy(server, func(b []byte) []byte {
			got = b
			return unhex("50c801")
		})
		c := store.NewClient(client, fast)
		for i, r := range v.Requests {
			if !r.Ours {
				continue
			}
			_, err := c.Query(t.Context(), server.ID(), v.query(t, i))
			require.NoError(t, err)
			require.Equal(t, "0a1a", hex.EncodeToString(got[:2]), "an id")
			require.Equal(t, unhex(r.Hex)[3:], got[28:], r.Name)
		}
	})
}

func TestResponsesWritten(t *testing.T) {
	v := loadVectors(t)
	pair(t, func(t *testing.T, client, server host.Host) {
		var page store.Page
		serve(t, server, source(func(context.Context, store.Query) (store.Page, error) { return page, nil }),
			store.ServerConfig{})
		for i, r := range v.Responses {
			if r.Ours {
				page = v.page(t, i)
				require.Equal(t, unhex(r.Hex), ask(t, client, server, unhex("0a0131 1001")), r.Name)
			}
		}
	})
}

func TestResponsesRead(t *testing.T) {
	v := loadVectors(t)
	pair(t, func(t *testing.T, client, server host.Host) {
		c := store.NewClient(client, fast)
		for i, r := range v.Responses {
			answerBy(server, func(request []byte) []byte {
				// The id is what differs from the recorded bytes.
				return append(unhex(r.Hex), request[:28]...)
			})
			want := v.page(t, i)
			q := store.Query{HashesOnly: len(want.Entries) > 0 && want.Entries[0].Message == nil}
			got, err := c.Query(t.Context(), server.ID(), q)
			require.NoError(t, err, r.Name)
			require.Equal(t, want, got, r.Name)
		}
	})
}
