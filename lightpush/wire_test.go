package lightpush_test

import (
	"context"
	"encoding/hex"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

func TestRequestsRead(t *testing.T) {
	v := loadVectors(t)
	pair(t, func(t *testing.T, client, server host.Host) {
		var got *message.Message
		serve(t, server, func(_ context.Context, from peer.ID, s sharding.Shard, m *message.Message) (int, error) {
			require.Equal(t, client.ID(), from)
			require.Equal(t, shard, s)
			got = m
			return 5, nil
		}, lightpush.ServerConfig{})
		for _, r := range v.Requests {
			got = nil
			answer := parse(t, r.Version, ask(t, client, server, r.Version, unhex(r.Hex)))
			require.Equal(t, r.ID, answer.id, r.Name)
			require.Equal(t, "OK", answer.desc, r.Name)
			require.Equal(t, hello().Hash(topic), got.Hash(topic), r.Name)
		}
	})
}

func TestRequestsWritten(t *testing.T) {
	for _, r := range loadVectors(t).Requests {
		if !r.Ours {
			continue
		}
		pair(t, func(t *testing.T, client, server host.Host) {
			var got []byte
			answerBy(server, r.Version, func(b []byte) []byte {
				got = b
				if r.Version == 2 {
					return unhex("0a00 1a020801")
				}
				return unhex("50c801")
			})
			_, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
			require.NoError(t, err)
			require.Equal(t, "0a1a", hex.EncodeToString(got[:2]), "an id")
			require.Equal(t, unhex(r.Hex)[3:], got[28:], r.Name)
		})
	}
}

func TestResponsesWritten(t *testing.T) {
	v := loadVectors(t)
	pair(t, func(t *testing.T, client, server host.Host) {
		var (
			peers int
			err   error
		)
		serve(t, server, func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
			return peers, err
		}, lightpush.ServerConfig{Rate: -1})
		for _, r := range v.Responses {
			if !r.Ours {
				continue
			}
			peers, err = max(r.Peers, 0), nil
			switch r.Code {
			case lightpush.StatusSuccess:
				peers = max(peers, 1)
			case lightpush.StatusTooManyRequests:
				err = &lightpush.RefusedError{Code: r.Code, RetryAfter: 250e6}
			}
			got := ask(t, client, server, r.Version, push(r.Version, []byte("1"), []byte(topic), hello().Encode()))
			require.Equal(t, unhex(r.Hex), got, "%s, version %d", r.Name, r.Version)
		}
	})
}

func TestResponsesRead(t *testing.T) {
	for _, r := range loadVectors(t).Responses {
		pair(t, func(t *testing.T, client, server host.Host) {
			answerBy(server, r.Version, func(request []byte) []byte {
				if r.ID != "" {
					return unhex(r.Hex)
				}
				// The id is what differs from the recorded bytes.
				return append(lengthed(1, idOf(request)), unhex(r.Hex)[3:]...)
			})
			got, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
			if r.Code == lightpush.StatusSuccess {
				require.NoError(t, err, r.Name)
				require.Equal(t, lightpush.Receipt{Peer: server.ID(), RelayPeers: r.Peers, Version: r.Version}, got)
				return
			}
			var status *lightpush.StatusError
			require.ErrorAs(t, err, &status, r.Name)
			require.Equal(t, r.Code, status.Code, r.Name)
			require.Equal(t, r.Desc, status.Desc, r.Name)
			require.Zero(t, got)
		})
	}
}
