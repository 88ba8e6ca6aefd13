package waku_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/waku"
)

// A state store may be damaged in any way.
func FuzzKeptDeliveries(f *testing.F) {
	m := &message.Message{ContentTopic: lobby, Payload: []byte("x"), Timestamp: time.Now().UnixNano()}
	for _, shard := range []string{"16/128", "1/0", "16/70000", ""} {
		b, err := json.Marshal([]map[string]any{{
			"shard": shard, "message": m.Encode(), "first": m.Hash(town.PubsubTopic()), "tried": true, "propagated": true,
			"deadline": time.Now().Unix(), "priority": 9, "push": -1, "accepted": []map[string]any{{"RelayPeers": 1}},
		}})
		require.NoError(f, err)
		f.Add(b)
	}
	n := start(f, waku.WithListenAddrs(), waku.WithoutDiscv5())
	f.Fuzz(func(t *testing.T, state []byte) {
		require.LessOrEqual(t, waku.RestoreDeliveries(n, state), 1024)
		require.Empty(t, n.Deliveries())
	})
}
