package waku_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/waku"
)

// settable is a clock that can be set wrong.
type settable struct{ off atomic.Int64 }

func (c *settable) now() time.Time       { return time.Now().Add(time.Duration(c.off.Load())) }
func (c *settable) set(by time.Duration) { c.off.Store(int64(by)) }

// clockTown is a crowd of members, of whom the first has a clock of its own.
func clockTown(t *testing.T, crowd int, clock *settable) ([]*waku.Node, []*waku.Membership) {
	key := newKey(t)
	hosts := p2ptest.Hosts(t, crowd)
	var nodes []*waku.Node
	var members []*waku.Membership
	for i, h := range hosts {
		opts := []waku.Option{waku.WithHost(h)}
		if i == 0 {
			opts = append(opts, waku.WithClock(clock.now))
		}
		n := start(t, opts...)
		nodes = append(nodes, n)
		members = append(members, join(t, n, waku.Community{Shard: town, PublicKey: key.PublicKey()}, waku.SignWith(key)))
	}
	p2ptest.Degree(t, hosts, 6)
	time.Sleep(5 * time.Second)
	return nodes, members
}

// talk lets everybody but the first say something, one message a second.
func talk(t *testing.T, members []*waku.Membership, d time.Duration) {
	for end, i := time.Now().Add(d), 0; time.Now().Before(end); i++ {
		_, err := members[1+i%(len(members)-1)].Send(t.Context(), lobby, []byte("x"))
		require.NoError(t, err)
		time.Sleep(time.Second)
	}
}

// requireStanding asks that a node keeps its mesh, and what it thinks of others.
func requireStanding(t *testing.T, n *waku.Node) {
	t.Helper()
	h := n.Health()
	require.GreaterOrEqual(t, h.Shards[0].Mesh, relay.Default().DLow)
	require.Empty(t, h.Disconnects)
	for _, p := range n.Peers() {
		require.GreaterOrEqual(t, waku.RelayOf(n).Score(p.ID), 0.0)
	}
}

// A wrong clock is told within a minute, and costs nobody his good name.
func TestWrongClock(t *testing.T) {
	for _, off := range []time.Duration{6 * time.Minute, -6 * time.Minute, 24 * time.Hour, -24 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				clock := new(settable)
				clock.set(off)
				nodes, members := clockTown(t, 6, clock)
				n, m := nodes[0], members[0]
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				events := n.Events(ctx)
				require.False(t, n.Health().Clock.Suspect)
				talk(t, members, 12*time.Second)

				h := n.Health()
				require.True(t, h.Clock.Suspect)
				require.InDelta(t, -off.Seconds(), h.Clock.Offset.Seconds(), 1)
				require.Contains(t, h.Summary, "the clock seems to be")
				_, err := m.Send(t.Context(), lobby, []byte("x"))
				var wrong *waku.ClockError
				require.ErrorAs(t, err, &wrong)
				require.InDelta(t, -off.Seconds(), wrong.Offset.Seconds(), 1)
				for e := range events {
					if e.Kind == waku.ClockSuspect {
						require.InDelta(t, -off.Seconds(), e.Offset.Seconds(), 1)
						break
					}
				}
				requireStanding(t, n)
				for _, other := range nodes[1:] {
					requireStanding(t, other)
					require.False(t, other.Health().Clock.Suspect)
				}

				// Set right, all is well at once.
				clock.set(0)
				talk(t, members, 10*time.Second)
				require.False(t, n.Health().Clock.Suspect)
				_, err = m.Send(t.Context(), lobby, []byte("x"))
				require.NoError(t, err)
			})
		})
	}
}

// A clock that jumps while the node runs, and back.
func TestClockJumps(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		clock := new(settable)
		nodes, members := clockTown(t, 20, clock)
		n := nodes[0]
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := n.Events(ctx)
		talk(t, members, 12*time.Second)
		clock.set(24 * time.Hour)
		talk(t, members, 12*time.Second)
		require.True(t, n.Health().Clock.Suspect)
		requireStanding(t, n)
		clock.set(0)
		talk(t, members, 10*time.Second)
		require.False(t, n.Health().Clock.Suspect)
		requireStanding(t, n)
		var kinds []waku.EventKind
		for e := range events {
			if e.Kind == waku.ClockJumped || e.Kind == waku.ClockSuspect {
				kinds = append(kinds, e.Kind)
			}
			if len(kinds) == 3 {
				break
			}
		}
		require.Equal(t, []waku.EventKind{waku.ClockJumped, waku.ClockSuspect, waku.ClockJumped}, kinds)
	})
}

// Old messages played again say nothing against a clock that works: not while
// current ones arrive, nor when the shard has fallen silent.
func TestReplaysDoNotAccuseTheClock(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		nodes, members := clockTown(t, 6, new(settable))
		talk(t, members, 10*time.Second)
		w := waku.ClockOf(nodes[0])
		for i := range 60 {
			w.Outside(-20*time.Minute, string(rune(i)))
			time.Sleep(time.Second)
		}
		require.False(t, nodes[0].Health().Clock.Suspect)
	})
}
