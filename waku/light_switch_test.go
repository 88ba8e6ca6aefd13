package waku_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/waku"
)

// talk sends until ctx ends and returns what it sent.
func (w *lightTown) talk(t testing.TB, ctx context.Context, pause time.Duration) <-chan []message.Hash {
	out := make(chan []message.Hash, 1)
	go func() {
		var sent []message.Hash
		for ctx.Err() == nil {
			sent = append(sent, w.say(t))
			time.Sleep(pause) // virtual
		}
		out <- sent
	}()
	return out
}

// hear reads until ctx ends and returns what came.
func hear(ctx context.Context, r *waku.Reader) <-chan []message.Hash {
	out := make(chan []message.Hash, 1)
	go func() {
		var got []message.Hash
		for {
			env, err := r.Next(ctx)
			if err != nil {
				out <- got
				return
			}
			got = append(got, env.Hash)
		}
	}()
	return out
}

// same fails if not all of sent was got, once.
func same(t testing.TB, sent, got []message.Hash) {
	t.Helper()
	times := map[message.Hash]int{}
	for _, h := range got {
		times[h]++
	}
	var missing, doubled []int
	for i, h := range sent {
		switch times[h] {
		case 0:
			missing = append(missing, i)
		case 1:
		default:
			doubled = append(doubled, i)
		}
	}
	require.Empty(t, missing, "missing of %d", len(sent))
	require.Empty(t, doubled, "doubled of %d", len(sent))
	require.Equal(t, len(sent), len(got), "more than was sent")
}

// Switching under traffic loses nothing and doubles nothing.
func TestSwitch(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 3)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 150*time.Millisecond)
		for i := range rounds {
			mode := waku.ModeRelay
			if i%2 == 1 {
				mode = waku.ModeLight
			}
			require.NoError(t, w.light.Switch(within(t), mode))
			require.Equal(t, mode, w.light.Mode())
			require.Equal(t, mode, w.member.Health().Shards[0].Mode)
		}
		hush()
		sent := <-said
		time.Sleep(20 * time.Second) // virtual
		deafen()
		got := <-heard
		same(t, sent, got)
		require.NoError(t, w.light.Leave())
		require.Error(t, w.light.Switch(within(t), waku.ModeRelay))
	})
}

// A switch that can't be done leaves everything as it was.
func TestSwitchFails(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1)
		r := subscribe(t, w.author, lobby)
		short := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		all := subscribe(t, w.author)
		require.ErrorIs(t, w.author.Switch(short(), waku.ModeLight), waku.ErrTopicsNeeded)
		require.NoError(t, all.Close())
		require.ErrorContains(t, w.author.Switch(short(), waku.Mode(7)), "mode 7")
		lone := start(t, waku.WithHost(w.net.Hosts(1)[0]))
		m := join(t, lone, w.c)
		require.NoError(t, m.Switch(short(), waku.ModeLight), "nobody reads")
		err := m.Switch(short(), waku.ModeRelay)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "no mesh")
		require.Equal(t, waku.ModeLight, m.Mode())
		subscribe(t, m, lobby)
		require.Equal(t, waku.Unhealthy, lone.Health().Shards[0].State)

		// The service node goes: nobody serves, and the mesh is kept.
		require.NoError(t, w.servers[0].Close())
		err = w.author.Switch(short(), waku.ModeLight)
		require.ErrorIs(t, err, waku.ErrNoServicePeer)
		require.Equal(t, waku.ModeRelay, w.author.Mode())
		require.NoError(t, r.Close())
	})
}
