package waku_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/waku"
)

// Who misleads rests for longer and longer, and with time that is forgotten.
func TestMisledRests(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		rests := waku.NewRests("a")
		for _, want := range []time.Duration{
			30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 30 * time.Minute, 30 * time.Minute,
		} {
			require.True(t, rests.Misled("p"))
			time.Sleep(want / 2)
			require.False(t, rests.Misled("p"), "one with the last")
			require.Equal(t, want/2, rests.Rest("p"))
			require.Empty(t, rests.Ready("p"))
			require.Zero(t, rests.On("b").Rest("p"), "another shard")
			time.Sleep(want / 2)
			require.Equal(t, []peer.ID{"q", "p"}, rests.Ready("p", "q"), "others first")
		}
		rests.Answered("p")
		require.Equal(t, []peer.ID{"q", "p"}, rests.Ready("p", "q"))
		time.Sleep(31 * time.Minute)
		require.True(t, rests.Misled("p"))
		require.Equal(t, 30*time.Second, rests.Rest("p"))
		for i := range 2000 {
			require.True(t, rests.Misled(peer.ID(fmt.Sprint(i))))
		}
		require.LessOrEqual(t, rests.Len(), 256)
	})
}

// Who doesn't push isn't first in line for half an hour, whatever it answers.
func TestSilentPeersComeLast(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		rests := waku.NewRests("a")
		rests.Fail("p", waku.ErrSilent)
		rests.Answered("p")
		require.Empty(t, rests.Ready("p"))
		time.Sleep(30 * time.Minute)
		for range 10 {
			require.Equal(t, []peer.ID{"q", "p"}, rests.Ready("p", "q"))
		}
		require.Zero(t, rests.On("b").Rest("p"))
	})
}

// A service peer that doesn't have one shard is asked for another as ever.
func TestRefusalOnOneShard(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 1)
		c2 := w.c
		c2.Shard.Index++
		there := join(t, w.servers[0], c2)
		n := start(t, waku.WithHost(w.net.Hosts(1)[0]))
		connect(t, n, w.servers...) // and learns that it has both
		require.NoError(t, there.Leave())
		m2 := join(t, n, c2, waku.AsLight(), waku.SignWith(w.key))
		subscribe(t, m2, lobby)
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var nobody *waku.SendError
			if _, err := trySend(ctx, m2, lobby, []byte("x")); !errors.As(err, &nobody) {
				t.Errorf("sent on a shard that nobody has: %v", err)
			}
		})
		time.Sleep(30 * time.Second) // virtual: it is asked more and more seldom
		wg.Wait()
		require.Contains(t, n.Health().Shards[0].Light.Failure, "503")
		m := join(t, n, w.c, waku.AsLight(), waku.SignWith(w.key))
		subscribe(t, m, lobby)
		sent(t, m, lobby, []byte("y"))
		time.Sleep(2 * time.Second) // virtual
		require.Equal(t, waku.Minimal, n.Health().Shards[0].State, "%+v", n.Health().Shards)
		require.Equal(t, waku.Unhealthy, n.Health().Shards[1].State)
	})
}

// What a failure says about.
func TestRestsOfShards(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		for i, c := range []struct {
			err error
			all bool
		}{
			{&filter.StatusError{Code: 503}, false},
			{&filter.StatusError{Code: 400}, false},
			{&filter.StatusError{Code: 429}, true},
			{&filter.StatusError{Code: 500}, true},
			{&filter.ExchangeError{Err: filter.ErrUnsupported}, true},
			{&lightpush.StatusError{Code: 421}, false},
			{&lightpush.StatusError{Code: 505}, false},
			{&lightpush.StatusError{Code: 503}, true},
			{&lightpush.StatusError{Code: 429}, true},
			{fmt.Errorf("reset"), true},
		} {
			a := waku.NewRests("a")
			b := a.On("b")
			p := peer.ID(fmt.Sprint(i))
			a.Fail(p, c.err)
			require.Positive(t, a.Rest(p), "%v", c.err)
			require.Equal(t, c.all, b.Rest(p) > 0, "%v", c.err)
			b.Answered(p)
			require.Equal(t, !c.all, a.Rest(p) > 0, "%v", c.err)
			a.Answered(p)
			require.Zero(t, a.Rest(p), "%v", c.err)
		}
	})
}
