package waku_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

func TestEventsOfPeersAndShards(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 5) // no more than a mesh has room for: nobody is pruned
		n := start(t, waku.WithHost(hosts[0]))
		join(t, n, waku.Community{Shard: village})
		ctx, cancel := context.WithCancel(t.Context())
		events := n.Events(ctx)
		var others []*waku.Node
		for _, h := range hosts[1:] {
			o := start(t, waku.WithHost(h))
			join(t, o, waku.Community{Shard: village})
			others = append(others, o)
		}
		connect(t, n, others...)
		time.Sleep(5 * time.Second)
		require.Equal(t, waku.Sufficient, n.Health().State)
		require.Equal(t, "all is well", n.Health().Summary)
		require.Equal(t, 4, n.Health().Shards[0].Peers)
		for _, o := range others[1:] {
			require.NoError(t, o.Close())
		}
		for _, h := range hosts[2:] {
			require.NoError(t, h.Close())
		}
		time.Sleep(5 * time.Second)
		require.Equal(t, waku.Minimal, n.Health().State)
		require.Equal(t, "shard 16/64: 1 of at least 2 mesh peers", n.Health().Summary)
		require.NoError(t, n.Disconnect(others[0].PeerID()))
		time.Sleep(time.Second)
		require.Equal(t, waku.Unhealthy, n.Health().State)
		require.Contains(t, n.Health().Summary, "disconnected by the application")

		counts := map[waku.EventKind]int{}
		var states []waku.State
		time.AfterFunc(time.Second, cancel)
		for e := range events {
			require.NotEmpty(t, e.String())
			require.False(t, e.At.IsZero())
			counts[e.Kind]++
			if e.Kind == waku.ShardHealthChanged {
				states = append(states, e.State)
			}
		}
		require.Equal(t, 4, counts[waku.PeerConnected])
		require.Equal(t, 4, counts[waku.PeerDisconnected])
		require.Equal(t, []waku.State{waku.Minimal, waku.Sufficient, waku.Minimal, waku.Unhealthy}, states)
		for range events {
			t.Error("ranged over twice")
		}
	})
}

// Whoever doesn't read events loses the oldest, and is told how many.
func TestSlowReaderOfEvents(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := start(t, waku.WithHost(p2ptest.Hosts(t, 1)[0]))
		m := join(t, n, waku.Community{Shard: town}, waku.AwaitKey())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		slow := n.Events(ctx)
		_ = n.Events(ctx) // never read
		key := newKey(t).PublicKey()
		for range 200 {
			require.NoError(t, m.AddKey(key, time.Time{}, time.Time{}))
			require.NoError(t, m.RemoveKey(key))
		}
		read := 0
		for e := range slow {
			if read == 0 {
				require.Equal(t, waku.EventsLost, e.Kind)
				require.Equal(t, 400-256, e.Count)
			}
			if read++; read == 257 {
				require.Equal(t, waku.KeyExpired, e.Kind)
				break
			}
		}
	})
}
