package lightpush_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// slow is a relayer that does as its context says.
func slow(ctx context.Context, _ peer.ID, _ sharding.Shard, _ *message.Message) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// Every code, in version 3 and as version 2 says it.
func TestStatusCodes(t *testing.T) {
	id, shardTopic, good := []byte("7"), []byte(topic), hello().Encode()
	cut := good[:len(good)-1]
	encode := func(change func(m *message.Message)) []byte {
		m := hello()
		change(m)
		return m.Encode()
	}
	text := func(n int) []byte { return []byte(strings.Repeat("x", n)) }
	cases := map[string]struct {
		id, topic, m []byte
		relayer      lightpush.Relayer
		code         uint64
		words        string // part of them
		answerID     string // "": the request's
		legacyWords  string // "": the same
	}{
		"relayed":                     {id, shardTopic, good, to(5), 200, "OK", "", ""},
		"no id":                       {nil, shardTopic, good, to(5), 200, "OK", "N/A", ""},
		"an empty id":                 {[]byte{}, shardTopic, good, to(5), 200, "OK", "N/A", ""},
		"an id of 256 bytes":          {text(256), shardTopic, good, to(5), 200, "OK", "", ""},
		"an id of 257 bytes":          {text(257), shardTopic, good, to(5), 400, "longer than 256", "N/A", ""},
		"an id that is no text":       {[]byte{0xff}, shardTopic, good, to(5), 400, "request_id is not UTF-8", "N/A", ""},
		"no message":                  {id, shardTopic, nil, to(5), 400, "no message", "", ""},
		"a message cut short":         {id, shardTopic, cut, to(5), 400, "malformed at byte 33", "", ""},
		"a topic of bytes":            {id, []byte{0xff}, good, to(5), 400, "pubsub_topic is not UTF-8", "", ""},
		"an empty topic":              {id, []byte{}, good, to(5), 400, "topic is empty", "", ""},
		"no topic":                    {id, nil, good, to(5), 420, "must be named", "", "BAD_REQUEST: the pubsub topic is empty"},
		"an empty message":            {id, shardTopic, []byte{}, to(5), 420, "payload is empty", "", ""},
		"no payload":                  {id, shardTopic, encode(func(m *message.Message) { m.Payload = nil }), to(5), 420, "payload", "", ""},
		"no content topic":            {id, shardTopic, encode(func(m *message.Message) { m.ContentTopic = "" }), to(5), 420, "content topic", "", ""},
		"a long meta":                 {id, shardTopic, encode(func(m *message.Message) { m.Meta = text(65) }), to(5), 420, "meta", "", ""},
		"the largest message":         {id, shardTopic, large(message.DefaultMaxSize).Encode(), to(5), 200, "OK", "", ""},
		"one byte more":               {id, shardTopic, large(message.DefaultMaxSize + 1).Encode(), to(5), 413, "153537 bytes", "", ""},
		"far more":                    {id, shardTopic, large(1 << 20).Encode(), to(5), 413, "at most 308096", "N/A", ""},
		"a named topic":               {id, []byte("/waku/2/default-waku/proto"), good, to(5), 421, "static shard", "", ""},
		"a shard beyond":              {id, []byte("/waku/2/rs/16/1024"), good, to(5), 421, "static shard", "", ""},
		"not this shard":              {id, shardTopic, good, failing(lightpush.Refuse(421, "16/32 isn't served")), 421, "16/32 isn't served", "", ""},
		"not valid":                   {id, shardTopic, good, failing(lightpush.Refuse(420, "bad signature")), 420, "bad signature", "", ""},
		"too many":                    {id, shardTopic, good, failing(&lightpush.RefusedError{Code: 429, RetryAfter: 1500e6}), 429, "TOO_MANY_REQUESTS, retry after 1.5s", "N/A", ""},
		"something broke":             {id, shardTopic, good, failing(errors.New("/var/lib/secret")), 500, "INTERNAL_SERVER_ERROR", "", ""},
		"a relayer that is slow":      {id, shardTopic, good, slow, 503, "SERVICE_NOT_AVAILABLE, retry after 1s", "", ""},
		"no proof":                    {id, shardTopic, good, failing(lightpush.Refuse(504, "")), 504, "OUT_OF_RLN_PROOF", "", ""},
		"nobody to relay to":          {id, shardTopic, good, to(0), 505, "not_published_to_any_peer", "", ""},
		"less than nobody":            {id, shardTopic, good, to(-1), 505, "not_published_to_any_peer", "", ""},
		"nobody, and a reason":        {id, shardTopic, good, failing(lightpush.Refuse(505, "none here")), 505, "none here", "", ""},
		"an odd wish":                 {id, shardTopic, good, failing(lightpush.Refuse(200, "fine")), 500, "INTERNAL_SERVER_ERROR", "", ""},
		"an unknown wish":             {id, shardTopic, good, failing(lightpush.Refuse(1<<32-1, "what")), 500, "INTERNAL_SERVER_ERROR", "", ""},
		"a nil wish":                  {id, shardTopic, good, failing((*lightpush.RefusedError)(nil)), 500, "INTERNAL_SERVER_ERROR", "", ""},
		"a wrapped wish":              {id, shardTopic, good, failing(fmt.Errorf("secret: %w", lightpush.Refuse(420, "bad"))), 420, "INVALID_MESSAGE: bad", "", ""},
		"a long wish with odd spaces": {id, shardTopic, good, failing(lightpush.Refuse(420, "a\x00b\n\xffc"+strings.Repeat("x", 1<<20))), 420, "a b cxxx", "", ""},
	}
	both(t, func(t *testing.T, version int) {
		seen := map[uint64]bool{}
		for name, c := range cases {
			pair(t, func(t *testing.T, client, server host.Host) {
				told := 0
				s := serve(t, server, c.relayer, lightpush.ServerConfig{OnFailure: func(_ peer.ID, err error) {
					require.Error(t, err)
					told++
				}})
				r := parse(t, version, ask(t, client, server, version, push(version, c.id, c.topic, c.m)))
				code, words := c.code, c.words
				if version == 2 {
					code = map[bool]uint64{true: 1}[code == 200]
					if c.legacyWords != "" {
						words = c.legacyWords
					}
				}
				require.Equal(t, code, r.code, "%s: %s", name, r.desc)
				require.Contains(t, r.desc, words, name)
				require.NotContains(t, r.desc, "secret")
				if c.answerID == "" {
					c.answerID = string(c.id)
				}
				require.Equal(t, c.answerID, r.id, name)
				if c.code == 200 && version == 3 {
					require.Equal(t, int64(5), r.peers)
				}
				synctest.Wait()
				stats := s.Stats()
				require.Len(t, stats.Answers, 1, name)
				if c.legacyWords == "" || version == 3 {
					require.Equal(t, uint64(1), stats.Answers[lightpush.StatusCode(c.code)], name)
				}
				require.Equal(t, uint64(3-version), stats.Legacy)
				own := map[string]bool{"something broke": true, "a relayer that is slow": true, "far more": true,
					"an odd wish": true, "an unknown wish": true, "a nil wish": true}
				require.Equal(t, own[name], told == 1, "%s: told %d times", name, told)
				seen[c.code] = true
			})
		}
		require.Len(t, seen, 10, "all there are")
	})
}

// What the client makes of each code, whoever says it and in either version.
func TestStatusErrors(t *testing.T) {
	sentinels := []error{
		lightpush.ErrPayloadTooLarge, lightpush.ErrInvalidMessage, lightpush.ErrUnsupportedShard,
		lightpush.ErrTooManyRequests, lightpush.ErrUnavailable, lightpush.ErrNoPeersToRelay,
	}
	both(t, func(t *testing.T, version int) {
		for code, want := range map[lightpush.StatusCode]struct {
			is        error
			temporary bool
		}{
			lightpush.StatusBadRequest:             {nil, false},
			lightpush.StatusPayloadTooLarge:        {lightpush.ErrPayloadTooLarge, false},
			lightpush.StatusInvalidMessage:         {lightpush.ErrInvalidMessage, false},
			lightpush.StatusUnsupportedPubsubTopic: {lightpush.ErrUnsupportedShard, true},
			lightpush.StatusTooManyRequests:        {lightpush.ErrTooManyRequests, true},
			lightpush.StatusInternalServerError:    {nil, true},
			lightpush.StatusServiceNotAvailable:    {lightpush.ErrUnavailable, true},
			lightpush.StatusOutOfRLNProof:          {nil, true},
			lightpush.StatusNoPeersToRelay:         {lightpush.ErrNoPeersToRelay, true},
		} {
			pair(t, func(t *testing.T, client, server host.Host) {
				serve(t, server, failing(&lightpush.RefusedError{Code: code, Desc: "words, words", RetryAfter: 2 * time.Second}),
					lightpush.ServerConfig{})
				only(server, version)
				c := lightpush.NewClient(client, fast)
				_, err := c.Push(t.Context(), server.ID(), shard, hello())
				var status *lightpush.StatusError
				require.ErrorAs(t, err, &status)
				require.Equal(t, &lightpush.StatusError{
					Peer: server.ID(), Code: code, Desc: code.String() + ": words, words, retry after 2s", RetryAfter: 2 * time.Second,
				}, status)
				require.Equal(t, want.temporary, status.Temporary(), code)
				for _, s := range sentinels {
					require.Equal(t, s == want.is, errors.Is(err, s), "%s: %v", code, s)
				}
				require.Contains(t, err.Error(), fmt.Sprint(uint32(code)))
				require.Equal(t, uint64(1), c.Stats().Refused)
				require.Equal(t, uint64(3-version), c.Stats().Legacy)
			})
		}
	})
}

func TestStatusCodeStrings(t *testing.T) {
	require.Equal(t, "SUCCESS", lightpush.StatusSuccess.String())
	require.Equal(t, "NO_PEERS_TO_RELAY", lightpush.StatusNoPeersToRelay.String())
	require.Equal(t, "418", lightpush.StatusCode(418).String())
	require.Equal(t, "lightpush: refused with 420 (bad)", lightpush.Refuse(420, "bad").Error())
}

// What other services say in version 2.
func TestLegacyWords(t *testing.T) {
	for words, code := range map[string]lightpush.StatusCode{
		"exceeds the rate limit":                                          429,
		"TOO_MANY_REQUESTS":                                               429,
		"TOO_MANY_REQUESTS, retry after 3s":                               429,
		"Request rejected due to too many requests":                       429,
		"not_published_to_any_peer":                                       505,
		"Could not publish message: not enough peers":                     505,
		"Message size exceeded maximum of 153600 bytes":                   413,
		"message size exceeds gossipsub max message size":                 413,
		"Could not publish message: cannot publish to unsubscribed topic": 421,
		"could not generate rln proof":                                    504,
		"could not get new message id to generate an rln proof: spent":    504,
		"RLN validation failed":                                           420,
		"signed shard validation failed":                                  420,
		"Could not publish message: validation ignored":                   420,
		"decode_rpc_failure: missing field":                               400,
		"invalid request: missing PubsubTopic field":                      400,
		"empty_request_body_failure":                                      400,
		"no waku relay found":                                             500,
		"SUCCESS":                                                         500,
		"SUCCESS: really":                                                 500,
		"":                                                                500,
		"UNSUPPORTED_PUBSUB_TOPIC: not here":                              421,
	} {
		require.Equal(t, code, lightpush.LegacyCode(words), words)
	}
}

func TestRetryAfter(t *testing.T) {
	for words, want := range map[string]time.Duration{
		"":                                    0,
		"retry after":                         0,
		"retry after ":                        0,
		"retry after soon":                    0,
		"retry after 250ms":                   250 * time.Millisecond,
		"x, retry after 1m":                   time.Minute,
		"retry after 9h":                      time.Minute,
		"retry after -9h":                     0,
		"retry after 1s, no, retry after 2s":  2 * time.Second,
		"retry after 9223372036854775808ns":   0,
		"retry after 1000000000000000000000h": 0,
	} {
		require.Equal(t, want, lightpush.ParseRetryAfter(words), words)
	}
}
