package waku_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

var (
	townControl = sharding.Shard{Cluster: 16, Index: 896}
	townMedia   = sharding.Shard{Cluster: 16, Index: 897}
)

const charter = "/town/1/charter/proto"

// bigTown is a community with a control shard: two fleet nodes with archives carry both.
type bigTown struct {
	net   *p2ptest.Network
	key   *dosguard.PrivateKey
	c     waku.Community
	fleet []*waku.Node
}

func newBigTown(t testing.TB, opts ...waku.Option) *bigTown {
	key := newKey(t)
	w := &bigTown{net: p2ptest.New(t, p2ptest.Config{}), key: key, c: waku.Community{
		Shard: town, PublicKey: key.PublicKey(), Control: &townControl, Routing: waku.RoutingRFC57(),
	}}
	for range 2 {
		n := start(t, append(append(services(), opts...),
			waku.WithHost(w.net.Hosts(1)[0]), waku.WithArchive(storetest.NewModel(storetest.Config{})))...)
		join(t, n, w.c, waku.RelayControl())
		connect(t, n, w.fleet...)
		w.fleet = append(w.fleet, n)
	}
	return w
}

func (w *bigTown) member(t testing.TB, c waku.Community, opts ...waku.JoinOption) (*waku.Node, *waku.Membership) {
	n := start(t, waku.WithHost(w.net.Hosts(1)[0]))
	m := join(t, n, c, append([]waku.JoinOption{waku.SignWith(w.key)}, opts...)...)
	connect(t, n, w.fleet...)
	return n, m
}

// delivered is how many messages of a shard a node has let through.
func delivered(n *waku.Node, id sharding.Shard) uint64 {
	for _, s := range waku.RelayOf(n).Stats().Shards {
		if s.Shard == id {
			return s.Delivered
		}
	}
	return 0
}

// Control messages travel on their own shard, by light push, whatever the mode on the
// community's; infrastructure and those who opt in relay them.
func TestControlShard(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newBigTown(t)
		ana, inAna := w.member(t, w.c)
		gil, inGil := w.member(t, w.c, waku.AsLight())
		sam, inSam := w.member(t, w.c, waku.RelayControl())
		meshed(t, 1, append(w.fleet, ana, sam)...)

		assert.Equal(t, waku.ModeLight, inAna.Control().Mode())
		assert.Equal(t, waku.ModeRelay, inSam.Control().Mode())
		assert.Nil(t, inAna.Media())
		assert.Equal(t, []int{0, 0, 1}, []int{waku.HoldsOf(ana, townControl), waku.HoldsOf(gil, townControl), waku.HoldsOf(sam, townControl)})

		readers := map[string]*waku.Reader{
			"gil": subscribe(t, inGil.Control(), charter), "sam": subscribe(t, inSam.Control()), "ana": subscribe(t, inAna.Control(), charter),
		}
		for _, n := range []*waku.Node{ana, gil} {
			p2ptest.Eventually(t, func() bool { return shardHealth(n, townControl).State == waku.Sufficient }, "%+v", n.Health().Shards)
		}
		for _, opts := range [][]waku.SendOption{
			{waku.OfType(waku.TypeCommunityDescription)}, {waku.OfClass(waku.ClassControl)}, {waku.OfType(waku.TypeBackup), waku.OfClass(waku.ClassControl)},
		} {
			d, err := inAna.Send(within(t), charter, []byte("who we are"), opts...)
			require.NoError(t, err)
			for name, r := range readers {
				env := next(t, r)
				assert.Equal(t, d.Hash, env.Hash, name)
				assert.Equal(t, townControl, env.Shard, name)
			}
		}
		_, err := inGil.Send(within(t), lobby, []byte("hello"))
		require.NoError(t, err)
		_, err = inGil.Send(within(t), lobby, []byte("hello"), waku.OfType(1))
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		for _, n := range append(w.fleet, sam) {
			assert.Equal(t, []uint64{2, 3}, []uint64{delivered(n, town), delivered(n, townControl)})
		}
		assert.Equal(t, uint64(2), delivered(ana, town))
	})
}

func shardHealth(n *waku.Node, id sharding.Shard) waku.ShardHealth {
	for _, s := range n.Health().Shards {
		if s.Shard == id {
			return s
		}
	}
	return waku.ShardHealth{}
}

func TestRouting(t *testing.T) {
	id := "0x02" + "aa112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	n := start(t, oneSocket())
	status := waku.RoutingStatus()
	m := join(t, n, waku.Community{Shard: town, Control: &townControl, Media: &townMedia, Routing: status.WithStatusTopics(id)})
	assert.Empty(t, status.Topics, "a copy has them")
	for name, c := range map[string]struct {
		topic string
		opts  []waku.SendOption
		want  sharding.Shard
	}{
		"chat":                    {lobby, nil, town},
		"class":                   {lobby, []waku.SendOption{waku.OfClass(waku.ClassMedia)}, townMedia},
		"class before type":       {lobby, []waku.SendOption{waku.OfClass(waku.ClassChat), waku.OfType(waku.TypeCommunityDescription)}, town},
		"type":                    {lobby, []waku.SendOption{waku.OfType(waku.TypeCommunityDescription)}, townControl},
		"content topic":           {sharding.StatusContentTopic(id), nil, townControl},
		"member updates":          {sharding.StatusContentTopic(id + "-memberUpdate"), nil, townControl},
		"pings are chat":          {sharding.StatusContentTopic(id + "-ping"), nil, town},
		"an unknown type":         {lobby, []waku.SendOption{waku.OfType(999)}, town},
		"type before the topic's": {sharding.StatusContentTopic(id), []waku.SendOption{waku.OfType(waku.TypeBackup)}, sharding.Shard{Cluster: 16, Index: 32}},
	} {
		got, err := waku.CarrierOf(m, c.topic, c.opts...)
		if c.want.Index == 32 {
			var wrong *waku.RouteError
			require.ErrorAs(t, err, &wrong, name)
			assert.Equal(t, c.want, wrong.Shard, name)
			assert.Contains(t, err.Error(), "status")
			continue
		}
		require.NoError(t, err, name)
		assert.Equal(t, c.want, got.Shard(), name)
	}
	_, err := waku.CarrierOf(m, lobby, waku.OfClass(17))
	require.ErrorContains(t, err, "class 17")

	rfc := waku.RoutingRFC57()
	assert.Len(t, rfc.Types, 5)
	for _, r := range rfc.Types {
		assert.Equal(t, waku.Route{Class: waku.ClassControl}, r)
	}
}

func TestControlShardJoins(t *testing.T) {
	key, other := newKey(t), newKey(t)
	n := start(t, oneSocket())
	for _, c := range []waku.Community{
		{Shard: town, Control: &town},
		{Shard: town, Control: &townControl, Media: &townControl},
		{Shard: town, Media: &sharding.Shard{Cluster: 16, Index: 5000}},
		{Shard: town, Control: &sharding.Shard{Cluster: 17, Index: 1}},
		{Shard: town, Routing: waku.Routing{Types: map[waku.MessageType]waku.Route{1: {Class: 9}}}},
		{Shard: town, Routing: waku.Routing{Topics: map[string]waku.Route{"/a/1/b/c": {Class: 9}}}},
	} {
		_, err := n.Join(t.Context(), c)
		require.Error(t, err, "%+v", c)
		assert.Empty(t, n.Health().Shards, "nothing is half joined")
	}
	c := waku.Community{Shard: town, PublicKey: key.PublicKey(), Control: &townControl, Media: &townMedia}
	m := join(t, n, c, waku.SignWith(key))
	assert.Len(t, n.Health().Shards, 3)
	_, err := n.Join(t.Context(), waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 5}, PublicKey: other.PublicKey(), Control: &townControl})
	var conflict *waku.ConflictError
	require.ErrorAs(t, err, &conflict)
	assert.Equal(t, townControl, conflict.Shard)
	assert.Len(t, n.Health().Shards, 3)

	require.NoError(t, m.Rotate(other, time.Hour))
	assert.Len(t, m.Keys(), 2)
	assert.Len(t, m.Control().Keys(), 2)
	assert.Len(t, m.Media().Keys(), 2)
	control := m.Control()
	require.NoError(t, m.Leave())
	assert.Empty(t, n.Health().Shards)
	_, err = control.Subscribe(charter)
	require.Error(t, err)
}
