package waku_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/waku"
)

// gather returns every sample as name{label="value",…}.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[f.GetName()+labels(m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func labels(m *dto.Metric) string {
	var parts []string
	for _, l := range m.GetLabel() {
		parts = append(parts, l.GetName()+"="+l.GetValue())
	}
	if len(parts) == 0 {
		return ""
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestMetrics(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		ours, theirs := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
		key := newKey(t)
		net := p2ptest.New(t, p2ptest.Config{})
		n := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})), waku.WithMetrics(ours),
			waku.WithValidator(village, accept, waku.ValidatorName("any")))
		other := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})), waku.WithMetrics(theirs))
		c := waku.Community{Shard: town, PublicKey: key.PublicKey()}
		subscribe(t, join(t, n, c), lobby)
		join(t, n, waku.Community{Shard: village})
		sender := join(t, other, c, waku.SignWith(key))
		connect(t, other, n)
		time.Sleep(5 * time.Second)
		for _, topic := range []string{lobby, "/a/stranger/s/topic", "/and/another/o/ne"} {
			_, err := sender.Send(t.Context(), topic, []byte("x"))
			require.NoError(t, err)
		}
		raw := p2ptest.NewRawPubsub(t, net.Host(p2ptest.HostConfig{}))
		answerMetadata(raw.Host)
		require.NoError(t, raw.Host.Connect(within(t), addrInfo(t, n)))
		forged := message.Message{Payload: []byte("x"), ContentTopic: lobby, Timestamp: time.Now().UnixNano()}
		require.NoError(t, raw.Send(n.PeerID(), p2ptest.Publish(town.PubsubTopic(), forged.Encode())))
		time.Sleep(time.Second)

		got := gather(t, ours)
		for name, want := range map[string]float64{
			"waku_peers": 2,
			"waku_relay_delivered_total{shard=16/128}":                                                  3,
			"waku_relay_mesh_peers{shard=16/128}":                                                       1,
			"waku_msg_validator_signed_outcome{result=Accept}":                                          3,
			"waku_msg_validator_signed_outcome{result=Reject}":                                          1,
			"waku_msg_validator_signed_outcome{result=Ignore}":                                          0,
			"waku_msg_validator_signed_outcome_reasons{reason=no_signature,result=Reject,shard=16/128}": 1,
			"waku_msg_validator_signed_outcome_reasons{reason=accepted,result=Accept,shard=16/128}":     3,
			"waku_validator_stuck_calls{shard=16/64,validator=any}":                                     0,
			"waku_clock_suspect":                                   0,
			"waku_shard_valid_keys{shard=16/128}":                  1,
			"waku_relay_messages_total{direction=in,shard=16/128}": 4,
		} {
			require.Contains(t, got, name)
			require.Equal(t, want, got[name], name)
		}
		topics := map[string]bool{}
		for name := range got {
			if _, labels, ok := strings.Cut(name, "waku_relay_content_topic_bytes_total"); ok {
				topics[labels] = true
			}
		}
		require.Equal(t, map[string]bool{
			"{content_topic=" + lobby + ",shard=16/128}": true,
			"{content_topic=other,shard=16/128}":         true,
			"{content_topic=other,shard=16/64}":          true,
		}, topics)
		require.Zero(t, gather(t, theirs)["waku_msg_validator_signed_outcome{result=Reject}"])

		require.NoError(t, n.Close())
		require.Empty(t, gather(t, ours))
		again := start(t, waku.WithHost(net.Host(p2ptest.HostConfig{})), waku.WithMetrics(ours))
		require.NoError(t, again.Close())
	})
}

// What goes in at one end comes out at the other.
func TestMetricsOfLightMembers(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const filterBytes, pushBytes = "waku_filter_bytes_total", "waku_lightpush_bytes_total"
		service, light := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
		w := newLightTown(t, 1, waku.WithMetrics(service))
		require.NoError(t, w.member.Close())
		require.Zero(t, gather(t, service)[filterBytes+"{direction=out}"])
		n := start(t, waku.WithHost(w.net.Hosts(1)[0]), waku.WithMetrics(light))
		m := join(t, n, w.c, waku.SignWith(w.key), waku.AsLight())
		r := subscribe(t, m, lobby)
		connect(t, n, w.servers...)
		p2ptest.Eventually(t, func() bool { return n.Health().State == waku.Minimal }, "%+v", n.Health())
		_, err := m.Send(within(t), lobby, make([]byte, 1000))
		require.NoError(t, err)
		next(t, r)
		w.say(t)
		next(t, r)
		time.Sleep(time.Second)
		theirs, ours := gather(t, service), gather(t, light)
		require.Greater(t, ours[pushBytes+"{direction=out}"], 1000.0)
		require.Equal(t, ours[pushBytes+"{direction=out}"], theirs[pushBytes+"{direction=in}"])
		require.Greater(t, ours[filterBytes+"{direction=in}"], 1000.0)
		require.InDelta(t, ours[filterBytes+"{direction=in}"], theirs[filterBytes+"{direction=out}"], 10, "length prefixes")
		require.NotContains(t, ours, filterBytes+"{direction=out}")
		require.NotContains(t, ours, pushBytes+"{direction=in}")
	})
}
