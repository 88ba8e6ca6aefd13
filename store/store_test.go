package store_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

func TestCheck(t *testing.T) {
	h := func(n int) (list []message.Hash) {
		for i := range n {
			list = append(list, message.Hash{1, byte(i), byte(i >> 8)})
		}
		return list
	}
	topics := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint(i))
		}
		return list
	}
	for field, bad := range map[string][]store.Query{
		"Shard":         {{Shard: &sharding.Shard{Index: 1024}}},
		"ContentTopics": {{Shard: &shard, ContentTopics: topics(11)}, {Shard: &shard, ContentTopics: []string{""}}, {ContentTopics: topics(1)}},
		"Hashes": {{Hashes: h(101)}, {Hashes: h(1), Start: at(1)}, {Hashes: h(1), End: at(1)},
			{Shard: &shard, Hashes: h(1), ContentTopics: topics(1)}},
		"Start":    {{Start: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)}, {Start: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"End":      {{End: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}, {Start: at(2), End: at(1)}},
		"Limit":    {{Limit: -1}},
		"MaxBytes": {{MaxBytes: -1}},
		"Cursor":   {{Cursor: new(message.Hash)}},
	} {
		for _, q := range bad {
			_, err := q.Check()
			var e *store.QueryError
			require.ErrorAs(t, err, &e)
			require.Equal(t, field, e.Field)
			require.Equal(t, "store: query: "+field+" "+e.Reason, e.Error())
		}
	}
	q, err := store.Query{Shard: &shard, ContentTopics: append(topics(10), topics(10)...), Limit: 1000}.Check()
	require.NoError(t, err)
	require.Equal(t, store.Query{Shard: &shard, ContentTopics: topics(10), Limit: 100}, q)
	q, err = store.Query{Hashes: append(h(100), h(100)...)}.Check()
	require.NoError(t, err)
	require.Equal(t, store.Query{Hashes: h(100), Limit: 20}, q)
	start, end := store.Query{}.Bounds()
	require.Equal(t, [2]int64{math.MinInt64, math.MaxInt64}, [2]int64{start, end})
}

func TestErrorsRead(t *testing.T) {
	cause := errors.New("cause")
	for want, err := range map[string]error{
		"store: answer of : malformed": &store.AnswerError{Err: store.ErrMalformed},
		"store: asking : cause":        &store.ExchangeError{Err: cause},
		"store:  answers 429 (slow)":   &store.StatusError{Code: store.StatusTooManyRequests, Desc: "slow"},
	} {
		require.EqualError(t, err, want)
	}
	require.ErrorIs(t, &store.ExchangeError{Err: cause}, cause)
	for code, want := range map[store.StatusCode]string{
		200: "SUCCESS", 300: "BAD_RESPONSE", 400: "BAD_REQUEST", 429: "TOO_MANY_REQUESTS",
		503: "SERVICE_UNAVAILABLE", 0: "UNKNOWN", 418: "418",
	} {
		require.Equal(t, want, code.String())
	}
}

// What a peer says of its failures is text of any kind.
func TestDescriptions(t *testing.T) {
	type want struct {
		desc  string
		after time.Duration
		is    error
	}
	for in, want := range map[string]want{
		"503|":                            {"", 0, store.ErrUnavailable},
		"503|later, retry after 1.5s":     {"later, retry after 1.5s", 1500 * time.Millisecond, store.ErrUnavailable},
		"429|retry after never":           {"retry after never", 0, nil},
		"429|retry after -5s":             {"retry after -5s", 0, nil},
		"429|retry after 100h":            {"retry after 100h", time.Minute, nil},
		"300|Driver: cursor not found":    {"Driver: cursor not found", 0, store.ErrUnknownCursor},
		"300|Invalid Cursor":              {"Invalid Cursor", 0, store.ErrUnknownCursor},
		"300|database locked":             {"database locked", 0, nil},
		"400|cursor":                      {"cursor", 0, nil},
		"0|\x1b[31mred\n\xff":             {" [31mred ", 0, nil},
		"400|" + strings.Repeat("x", 999): {strings.Repeat("x", 256), 0, nil},
		"4294967295|":                     {"", 0, nil},
	} {
		pair(t, func(t *testing.T, client, server host.Host) {
			var code uint32
			text := strings.NewReader(in)
			_, err := fmt.Fscanf(text, "%d|", &code)
			require.NoError(t, err)
			desc, err := io.ReadAll(text)
			require.NoError(t, err)
			answerBy(server, func([]byte) []byte {
				return store.AppendResponse("N/A", store.StatusCode(code), string(desc), store.Page{})
			})
			_, err = store.NewClient(client, fast).Query(t.Context(), server.ID(), store.Query{})
			var e *store.StatusError
			require.ErrorAs(t, err, &e)
			require.Equal(t, &store.StatusError{Peer: server.ID(), Code: store.StatusCode(code), Desc: want.desc, RetryAfter: want.after}, e)
			for _, sentinel := range []error{store.ErrUnavailable, store.ErrUnknownCursor} {
				require.Equal(t, sentinel == want.is, errors.Is(err, sentinel), in)
			}
		})
	}
}

// A walk gives up on a peer that asks for more patience than it is worth.
func TestPatienceEnds(t *testing.T) {
	for desc, want := range map[string]time.Duration{
		"TOO_MANY_REQUESTS":                   (250 + 500 + 1000 + 2000 + 4000) * time.Millisecond,
		"TOO_MANY_REQUESTS, retry after 3s":   (3 + 3 + 3 + 3 + 4) * time.Second,
		"TOO_MANY_REQUESTS, retry after 20s":  0,
		"TOO_MANY_REQUESTS, retry after 100h": 0,
	} {
		pair(t, func(t *testing.T, client, server host.Host) {
			answerBy(server, func([]byte) []byte { return store.AppendResponse("N/A", 429, desc, store.Page{}) })
			w, err := store.NewClient(client, fast).Walk(store.Query{})
			require.NoError(t, err)
			start := time.Now()
			_, _, err = w.Next(t.Context(), server.ID())
			var e *store.StatusError
			require.ErrorAs(t, err, &e)
			require.Equal(t, want, time.Since(start), desc)
		})
	}
}
