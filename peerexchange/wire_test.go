package peerexchange_test

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/peerexchange"
)

func TestRequestsRead(t *testing.T) {
	v := loadVectors(t)
	couple(t, func(t *testing.T, client, server host.Host) {
		got := -1
		serve(t, server, func(from peer.ID, n int) [][]byte {
			require.Equal(t, client.ID(), from)
			got = n
			return records(100, 3)
		}, peerexchange.ServerConfig{Rate: -1})
		for _, r := range v.Requests {
			got = -1
			answer := parse(t, ask(t, client, server, unhex(r.Hex)))
			require.Equal(t, r.Peers, got, r.Name)
			require.Equal(t, reply{code: 200, peers: records(100, 3)[:min(3, r.Peers)]}, answer, r.Name)
		}
	})
}

func TestRequestsWritten(t *testing.T) {
	v := loadVectors(t)
	couple(t, func(t *testing.T, client, server host.Host) {
		var got []byte
		answerBy(server, func(b []byte) []byte {
			got = b
			return answer(record(100))
		})
		c := peerexchange.NewClient(client, fast)
		for _, r := range v.Requests {
			if !r.Ours {
				continue
			}
			_, err := c.Ask(t.Context(), server.ID(), r.Peers)
			require.NoError(t, err)
			require.Equal(t, unhex(r.Hex), got, r.Name)
		}
		for n, want := range map[int]string{-1: "0a020801", 0: "0a020801", 61: "0a02083c", 1 << 40: "0a02083c"} {
			_, err := c.Ask(t.Context(), server.ID(), n)
			require.NoError(t, err)
			require.Equal(t, unhex(want), got, "%d peers", n)
		}
	})
}

func TestResponsesWritten(t *testing.T) {
	for _, r := range loadVectors(t).Responses {
		if !r.Ours {
			continue
		}
		couple(t, func(t *testing.T, client, server host.Host) {
			var sample [][]byte
			for _, p := range r.Peers {
				sample = append(sample, unhex(p))
			}
			serve(t, server, from(sample...), peerexchange.ServerConfig{Rate: 2, Burst: 1, Patience: -1})
			request := unhex("0a020814 12025000")
			switch r.Code {
			case peerexchange.StatusBadRequest:
				request = unhex("12025000")
			case peerexchange.StatusTooManyRequests:
				ask(t, client, server, request)
			}
			require.Equal(t, unhex(r.Hex), ask(t, client, server, request), r.Name)
		})
	}
}

func TestResponsesRead(t *testing.T) {
	for _, r := range loadVectors(t).Responses {
		couple(t, func(t *testing.T, client, server host.Host) {
			answerBy(server, func([]byte) []byte { return unhex(r.Hex) })
			got, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 20)
			if r.Code == peerexchange.StatusSuccess {
				require.NoError(t, err, r.Name)
				require.Len(t, got.Peers, len(r.Peers), r.Name)
				for i, p := range got.Peers {
					require.Equal(t, unhex(r.Peers[i]), p.ENR, r.Name)
				}
				require.Empty(t, got.Refused, r.Name)
				return
			}
			require.Equal(t, &peerexchange.StatusError{
				Peer: server.ID(), Code: r.Code, Desc: r.Desc,
				RetryAfter: time.Duration(r.RetryMillis) * time.Millisecond,
			}, err, r.Name)
			require.Zero(t, got)
		})
	}
}
