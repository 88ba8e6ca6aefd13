package waku_test

import (
	"testing"
	"time"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// Whatever a state store returns for what an earlier run had, a node starts, reads and
// saves.
func FuzzSavedState(f *testing.F) {
	f.Add([]byte(`{"Key":"AAAAAAAAAAAAAAAAAAAAAA==","Shards":[{"Shard":"16/128","Topics":{"/chat/1/lobby/proto":1},"Gaps":[{"Topics":["/chat/1/lobby/proto"],"From":-9223372036854775808,"To":9223372036854775807,"Done":5}],"Had":"AAAAAAAAAAAAAAAAAAAAAA==","Forgotten":9223372036854775807}]}`))
	f.Add([]byte(`{"Key":"AAAAAAAAAAAAAAAAAAAAAA==","Shards":[{"Shard":"16/128","Topics":{"":9223372036854775807}}]}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p2ptest.Bubble(t, func(t *testing.T) {
			state := newMemoryState()
			_ = state.Save(t.Context(), "complete", b)
			n := start(t, waku.WithHost(p2ptest.Hosts(t, 1)[0]), waku.WithStateStore(state))
			m := join(t, n, waku.Community{Shard: town})
			r := subscribe(t, m, lobby)
			subscribe(t, m)
			time.Sleep(2 * time.Minute)
			_ = m.Complete(lobby)
			_ = n.Health()
			_ = r.Close()
			time.Sleep(time.Minute)
		})
	})
}
