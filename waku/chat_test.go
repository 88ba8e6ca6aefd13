package waku_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/waku"
)

func TestSignedGroupChat(t *testing.T) {
	key := newKey(t)
	community := waku.Community{Shard: town, PublicKey: key.PublicKey()}
	var nodes []*waku.Node
	var members []*waku.Membership
	var readers []*waku.Reader
	for range 3 {
		n := start(t)
		m := join(t, n, community, waku.SignWith(key))
		nodes = append(nodes, n)
		members = append(members, m)
		readers = append(readers, subscribe(t, m, lobby))
	}
	connect(t, nodes[0], nodes[1])
	connect(t, nodes[1], nodes[2])
	meshed(t, 1, nodes...)

	seen := map[string]bool{}
	for i, m := range members {
		d := sent(t, m, lobby, []byte{byte(i)})
		require.Positive(t, d.Status().Peers)
		for _, r := range readers {
			env := next(t, r)
			require.Equal(t, []byte{byte(i)}, env.Message.Payload)
			require.Equal(t, d.Hash, env.Hash)
			require.Equal(t, town, env.Shard)
		}
		require.False(t, seen[d.Hash.String()])
		seen[d.Hash.String()] = true
	}
}
