package filter_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

type vectors struct {
	Requests []struct {
		Name, Hex, Pubsub, ID string
		Ours                  bool
		Kind                  uint64
		Topics                []string
	}
	Responses []struct {
		Name, Hex, ID, Desc string
		Ours                bool
		Code                filter.StatusCode
	}
	Pushes []struct {
		Name, Hex, Message, Pubsub string
		Ours                       bool
	}
}

func loadVectors(t testing.TB) (v vectors) {
	b, err := os.ReadFile("testdata/wire.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Requests)
	require.NotEmpty(t, v.Responses)
	require.NotEmpty(t, v.Pushes)
	return v
}

func TestVectors(t *testing.T) {
	v := loadVectors(t)
	for _, x := range v.Requests {
		if x.ID == "" {
			x.ID = "1"
		}
		r, tooMany, err, wrong := filter.RequestOf(unhex(x.Hex), 100)
		require.NoError(t, err, x.Name)
		require.NoError(t, wrong, x.Name)
		require.False(t, tooMany)
		require.Equal(t, filter.Request{ID: x.ID, Kind: x.Kind, PubsubTopic: x.Pubsub, ContentTopics: x.Topics}, r, x.Name)
		if x.Ours {
			require.Equal(t, unhex(x.Hex), r.Append(), x.Name)
		}
	}
	for _, x := range v.Responses {
		id, code, desc, err := filter.ResponseOf(unhex(x.Hex))
		require.NoError(t, err, x.Name)
		require.Equal(t, x.ID, id, x.Name)
		require.Equal(t, x.Code, code, x.Name)
		require.Equal(t, x.Desc, desc, x.Name)
		if x.Ours {
			require.Equal(t, unhex(x.Hex), filter.AppendResponse(id, code, desc), x.Name)
		}
	}
	for _, x := range v.Pushes {
		encoded, topic, err := filter.PushOf(unhex(x.Hex))
		require.NoError(t, err, x.Name)
		require.Equal(t, unhex(x.Message), encoded, x.Name)
		require.Equal(t, x.Pubsub, topic, x.Name)
		m, err := message.Decode(encoded)
		require.NoError(t, err)
		if x.Ours {
			b := unhex(x.Hex)
			require.Equal(t, append(binary.AppendUvarint(nil, uint64(len(b))), b...), filter.Frame(topic, m), x.Name)
		}
	}
}

// The same bytes, seen from the other end of a stream.
func TestVectorsOnStreams(t *testing.T) {
	v := loadVectors(t)
	bubble(t, 3, func(t *testing.T, hosts []host.Host) {
		server, peer, scribe := hosts[0], hosts[1], hosts[2]
		s := serve(t, server, filter.ServerConfig{Rate: -1})
		var frames [][]byte
		peer.SetStreamHandler(filter.PushID, func(s network.Stream) {
			for {
				b, err := wire.ReadFrame(s, 1<<20)
				if err != nil {
					return
				}
				frames = append(frames, b)
			}
		})
		var requests [][]byte
		answerBy(scribe, func(b []byte) []byte {
			requests = append(requests, b)
			return v.answer(t, requests)
		})
		p2ptest.Full(t, hosts)
		for _, x := range v.Requests {
			want(t, peer, server, "held")
			require.Contains(t, string(ask(t, peer, server, unhex(x.Hex))), "OK", x.Name)
		}
		require.Equal(t, unhex(v.Responses[1].Hex), ask(t, hosts[2], server, unhex("0a0131 1000")))
		want(t, peer, server, topicA)
		require.Equal(t, unhex(v.Responses[0].Hex), ask(t, peer, server, unhex("0a0131 1000")))
		require.Equal(t, 1, s.Push(pubsub, text(topicA, "hello")))
		synctest.Wait()
		require.Equal(t, [][]byte{unhex(v.Pushes[0].Hex)}, frames)

		// The client's requests, but for their ids, and its reading of every answer.
		c, got := client(t, peer)
		for _, x := range v.Requests {
			if !x.Ours {
				continue
			}
			var err error
			switch x.Kind {
			case 0:
				err = c.Ping(t.Context(), scribe.ID())
			case 1:
				err = c.Subscribe(t.Context(), scribe.ID(), shard, x.Topics)
			case 2:
				err = c.Unsubscribe(t.Context(), scribe.ID(), shard, x.Topics)
			case 3:
				err = c.UnsubscribeAll(t.Context(), scribe.ID())
			}
			require.NoError(t, err)
			b := requests[len(requests)-1]
			require.Equal(t, unhex("0a1a"), b[:2], "an id of 26 bytes")
			require.Equal(t, unhex(x.Hex)[3:], b[28:], x.Name)
		}
		require.NoError(t, c.Subscribe(t.Context(), scribe.ID(), shard, []string{topicA}))
		st, err := p2ptest.OpenStream(t.Context(), scribe, peer.ID(), filter.PushID)
		require.NoError(t, err)
		for _, x := range v.Pushes {
			require.NoError(t, wire.WriteFrame(st, unhex(x.Hex)))
			synctest.Wait()
			all := got.all()
			require.NotEmpty(t, all, x.Name)
			p := all[len(all)-1]
			require.Equal(t, unhex(x.Message), p.Data)
			require.Equal(t, unhex(x.Message), p.Message.Encode())
			require.Equal(t, pubsub, p.PubsubTopic)
			require.Equal(t, p.Message.Hash(pubsub), p.Hash)
		}
		require.Equal(t, []string{"hello", "hello", "hello", "hello"}, got.payloads())
		st.Close()
		synctest.Wait()
		require.Empty(t, got.told())
	})
}

// answer is yes, as one or the other says it.
func (v vectors) answer(t testing.TB, requests [][]byte) []byte {
	last := requests[len(requests)-1]
	switch len(requests) % 3 {
	case 0:
		return unhex("50c801") // no id at all
	case 1:
		return unhex("0a034e2f41 50c801")
	}
	return append(last[:28:28], unhex("50c801 5a024f4b")...)
}
