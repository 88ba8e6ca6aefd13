package waku_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// cost adds up what a class cost a node on a shard.
func cost(n *waku.Node, id sharding.Shard, class waku.Class) (sum waku.Traffic) {
	for _, x := range n.Telemetry().Total {
		if x.Shard == id && x.Class == class {
			sum.BytesIn += x.BytesIn
			sum.BytesOut += x.BytesOut
			sum.MessagesIn += x.MessagesIn
			sum.MessagesOut += x.MessagesOut
		}
	}
	return sum
}

func TestTelemetry(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newBigTown(t)
		c := w.c
		c.Routing.Topics = map[string]waku.Route{"/town/1/avatars/proto": {Class: waku.ClassMedia}}
		registry := prometheus.NewRegistry()
		ana := start(t, waku.WithHost(w.net.Hosts(1)[0]), waku.WithMetrics(registry))
		inAna := join(t, ana, c, waku.SignWith(w.key))
		connect(t, ana, w.fleet...)
		gil, inGil := w.member(t, c, waku.AsLight())
		meshed(t, 1, append(w.fleet, ana)...)
		r := subscribe(t, inGil, lobby)
		p2ptest.Eventually(t, func() bool {
			return shardHealth(gil, town).State == waku.Sufficient && shardHealth(ana, townControl).State == waku.Sufficient
		}, "no service peers")

		send := func(topic string, size int, opts ...waku.SendOption) int {
			d, err := inAna.Send(within(t), topic, make([]byte, size), opts...)
			require.NoError(t, err)
			require.NoError(t, d.Wait(within(t), waku.Stored))
			return d.Size
		}
		chat := send(lobby, 1000)
		next(t, r)
		media := send("/town/1/avatars/proto", 2000)
		control := send(charter, 3000, waku.OfClass(waku.ClassControl))
		later := send(lobby, 1000)
		next(t, r)

		assert.Equal(t, uint64(2*control), cost(ana, townControl, waku.ClassControl).BytesOut, "light push to two")
		assert.Zero(t, cost(ana, town, waku.ClassControl), "there is no media shard, but a control shard")
		assert.Equal(t, uint64(2*media), cost(ana, town, waku.ClassMedia).BytesOut, "two fleet nodes")
		assert.Equal(t, uint64(2*(chat+later)), cost(ana, town, waku.ClassChat).BytesOut)
		assert.InDelta(t, 2*(chat+later), cost(gil, town, waku.ClassChat).BytesIn, 100, "two service peers; perhaps a hash from a store")
		for _, n := range w.fleet {
			assert.GreaterOrEqual(t, cost(n, townControl, waku.ClassControl).BytesIn, uint64(control))
		}

		report := ana.Telemetry().Report()
		for _, want := range []string{"16/128", "16/896", "chat", "media", "control", "relay", "lightpush", "all"} {
			assert.Contains(t, report, want)
		}
		assert.NotContains(t, report, "16/897")
		families, err := registry.Gather()
		require.NoError(t, err)
		found := 0.0
		for _, f := range families {
			if f.GetName() != "waku_class_bytes_total" {
				continue
			}
			for _, x := range f.GetMetric() {
				if strings.Contains(x.String(), "lightpush") {
					found += x.GetCounter().GetValue()
				}
			}
		}
		assert.InDelta(t, float64(2*control), found, 0)
	})
}

// Two days of hours are told apart, and no more; the clock may be set back.
func TestTelemetryForgets(t *testing.T) {
	now := time.Unix(1700000000, 0)
	c := waku.NewTelemetry(func() time.Time { return now })
	m := &message.Message{Payload: []byte("x"), ContentTopic: lobby}
	size := uint64(m.Size())
	for range 100 {
		c.Count(town, m)
		now = now.Add(time.Hour)
	}
	got := c.Snapshot()
	require.Len(t, got.Hours, 48)
	assert.Equal(t, 47*time.Hour, got.Hours[0].Hour.Sub(got.Hours[47].Hour))
	assert.Equal(t, []waku.Traffic{{Shard: town, Way: waku.WayStore, MessagesIn: 100, BytesIn: 100 * size}}, got.Total)
	now = now.Add(-200 * time.Hour)
	c.Count(town, m)
	got = c.Snapshot()
	assert.Len(t, got.Hours, 1)
	assert.Equal(t, uint64(101), got.Total[0].MessagesIn)
}

func TestContentTopicOf(t *testing.T) {
	m := &message.Message{Payload: []byte("x"), ContentTopic: lobby, Timestamp: 5}
	assert.Equal(t, lobby, waku.ContentTopicOf(m.Encode()))
	for _, b := range [][]byte{nil, {0x0a}, {0x12, 9, 'x'}, {0x0b, 0x0c}, {0x0a, 1, 'x'}, {0xff}} {
		assert.Empty(t, waku.ContentTopicOf(b))
	}
}
