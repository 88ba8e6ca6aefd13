package waku_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/waku"
)

// services lets a node serve light members.
func services() []waku.Option {
	return []waku.Option{waku.WithFilterService(filter.ServerConfig{}), waku.WithLightPushService(lightpush.ServerConfig{})}
}

// lightTown is a community with service nodes, a relaying member and a light one.
type lightTown struct {
	net     *p2ptest.Network
	key     *dosguard.PrivateKey
	c       waku.Community
	servers []*waku.Node
	author  *waku.Membership
	member  *waku.Node
	host    host.Host // the light member's
	light   *waku.Membership
	sent    int
}

func newLightTown(t *testing.T, servers int, opts ...waku.Option) *lightTown {
	return newLightTownOf(t, servers, nil, opts...)
}

// newLightTownOf is newLightTown with options for all nodes, and for the first
// service node.
func newLightTownOf(t *testing.T, servers int, all []waku.Option, opts ...waku.Option) *lightTown {
	key := newKey(t)
	w := &lightTown{net: p2ptest.New(t, p2ptest.Config{}), key: key, c: waku.Community{Shard: town, PublicKey: key.PublicKey()}}
	for i := range servers {
		with := append(slices.Concat(services(), all), waku.WithHost(w.net.Hosts(1)[0]))
		if i == 0 {
			with = append(with, opts...)
		}
		n := start(t, with...)
		join(t, n, w.c)
		connect(t, n, w.servers...)
		w.servers = append(w.servers, n)
	}
	a := start(t, append(slices.Clone(all), waku.WithHost(w.net.Hosts(1)[0]), unconfirmed())...)
	w.author = join(t, a, w.c, waku.SignWith(key))
	connect(t, a, w.servers...)
	meshed(t, 1, append(w.servers, a)...)
	w.host = w.net.Hosts(1)[0]
	w.member = start(t, append(slices.Clone(all), waku.WithHost(w.host))...)
	w.light = join(t, w.member, w.c, waku.SignWith(key), waku.AsLight())
	connect(t, w.member, w.servers...)
	return w
}

// say has the relaying member send a message.
func (w *lightTown) say(t testing.TB) message.Hash {
	t.Helper()
	w.sent++
	d, err := w.author.Send(within(t), lobby, fmt.Appendf(nil, "message %d", w.sent))
	require.NoError(t, err)
	return d.Hash
}

// served waits until so many service peers push.
func (w *lightTown) served(t testing.TB, state waku.State) {
	t.Helper()
	p2ptest.Eventually(t, func() bool { return w.member.Health().Shards[0].State == state }, "%+v", w.member.Health().Shards)
}

func TestLightMember(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newLightTown(t, 2)
		_, err := w.light.Subscribe()
		require.ErrorIs(t, err, waku.ErrTopicsNeeded)
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		h := w.member.Health().Shards[0]
		require.Equal(t, waku.ModeLight, h.Mode)
		require.Empty(t, h.Reason)
		require.Len(t, h.Light.ServicePeers, 2)

		for range 20 {
			want := w.say(t)
			require.Equal(t, want, next(t, r).Hash)
		}
		back := subscribe(t, w.author, lobby)
		d := sent(t, w.light, lobby, []byte("from afar"))
		time.Sleep(time.Second) // virtual
		require.Len(t, d.Status().Accepted, 2)
		own := next(t, r)
		require.Equal(t, d.Hash, own.Hash)
		require.Equal(t, w.member.PeerID(), own.From, "whoever was quicker in pushing it back")
		require.Equal(t, d.Hash, next(t, back).Hash)

		time.Sleep(20 * time.Second) // virtual: copies and probes come to their end
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		env, err := r.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "%v", env)
		h = w.member.Health().Shards[0]
		require.Equal(t, waku.Sufficient, h.State, "%+v", h)
		for _, p := range h.Light.ServicePeers {
			require.Equal(t, uint64(21), p.Pushed)
		}
		require.NoError(t, w.light.Leave())
	})
}
