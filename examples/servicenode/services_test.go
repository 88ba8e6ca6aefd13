package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/lightpush"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/waku"
)

// lightMember joins without relaying, and reads content topics.
func lightMember(t *testing.T, key *dosguard.PrivateKey, addr string, topics ...string) (*waku.Node, *waku.Membership, *waku.Reader) {
	t.Helper()
	node, err := waku.New(t.Context(), waku.WithListenAddrs(), waku.WithStaticPeers(addr))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, node.Close()) })
	m, err := node.Join(t.Context(), waku.Community{Shard: shard, PublicKey: key.PublicKey()}, waku.SignWith(key), waku.AsLight())
	require.NoError(t, err)
	r, err := m.Subscribe(topics...)
	require.NoError(t, err)
	return node, m, r
}

func state(node *waku.Node) waku.State { return node.Health().Shards[0].State }

// A light member hears and speaks through the node, within its limits.
func TestServesLightMembers(t *testing.T) {
	key := newKey(t)
	r := keeper(t, key, "--filter", "--filter-subscribers", "1", "--filter-topics", "2", "--lightpush", "--lightpush-rate", "0.5")
	assert.Equal(t, []string{"filter", "lightpush"}, r.line.Services)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	ana, relaying := member(t, key, r)
	anas, err := relaying.Subscribe(topic)
	require.NoError(t, err)
	ben, light, bens := lightMember(t, key, r.line.Addresses[0], topic)
	for _, n := range []*waku.Node{ana, ben} {
		require.Eventually(t, func() bool { return state(n) != waku.Unhealthy }, 2*time.Minute, 20*time.Millisecond, "%+v", n.Health())
	}
	for i, m := range []*waku.Membership{relaying, light} {
		text := fmt.Sprintf("hello %d", i)
		d, err := m.Send(ctx, topic, []byte(text))
		require.NoError(t, err)
		require.NoError(t, d.Wait(ctx, waku.Propagated))
		require.Equal(t, 1, d.Status().Peers)
		for _, reader := range []*waku.Reader{anas, bens} {
			env, err := reader.Next(ctx)
			require.NoError(t, err)
			assert.Equal(t, text, string(env.Message.Payload))
		}
	}

	// There is room for two topics of one member, and no more.
	bens.AddTopics("/test/1/kitchen/plain", "/test/1/garden/plain")
	cleo, _, _ := lightMember(t, key, r.line.Addresses[0], topic)
	for _, n := range []*waku.Node{ben, cleo} {
		require.Eventually(t, func() bool { return n.Health().Shards[0].Light.Failure != "" }, 2*time.Minute, 20*time.Millisecond)
		assert.Contains(t, n.Health().Shards[0].Light.Failure, "503")
	}
	r.end(t)
}

func TestServiceFlags(t *testing.T) {
	for _, c := range []struct {
		args  []string
		want  serviceSettings
		names []string
	}{
		{},
		{[]string{"--filter"}, serviceSettings{filter: true}, []string{"filter"}},
		{[]string{"--lightpush"}, serviceSettings{lightPush: true}, []string{"lightpush"}},
		{[]string{"--lightpush", "--lightpush-rate", "0.25", "--filter-topics", "50", "--filter-subscribers", "1000000", "--filter"},
			serviceSettings{
				filter: true, filterLimits: filter.ServerConfig{MaxSubscribers: 1_000_000, MaxCriteria: 50},
				lightPush: true, pushLimits: lightpush.ServerConfig{Rate: 0.25},
			}, []string{"filter", "lightpush"}},
	} {
		s, err := parse(c.args)
		require.NoError(t, err, c.args)
		assert.Equal(t, c.want, s.services, c.args)
		assert.Equal(t, c.names, s.services.names(), c.args)
		assert.Len(t, s.services.options(), len(c.names), c.args)
	}
}
