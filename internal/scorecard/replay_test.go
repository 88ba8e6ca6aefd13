package scorecard

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// minted is how many variants are made of one captured message.
const minted = 10_000

func sendVariants(l *line, captured *message.Message, n int) {
	sent := 0
	for v := range variants(captured, n) {
		l.send(v)
		if sent++; sent%50 == 0 {
			time.Sleep(time.Second) // within what one peer may ask of the gate
		}
	}
	require.Equal(l.t, n, sent)
	time.Sleep(5 * time.Second)
}

func TestMintedVariants(t *testing.T) {
	n := minted
	if testing.Short() {
		n = 2000
	}
	p2ptest.Bubble(t, func(t *testing.T) {
		l := newLine(t, 5, guarded)
		captured := signed(t, "a payload with /slashes/in/it/ to move the border to", time.Now())
		l.send(captured.Encode())
		require.Equal(t, []int{1, 1, 1, 1, 1}, l.delivered())
		sendVariants(l, captured, n)
		require.Equal(t, []int{0, 0, 0, 0, 0}, l.delivered())
		require.Equal(t, 1, l.ear.Tally().Messages, "at the far end")
		require.Zero(t, l.relays[1].Stats().Shards[0].Ignored, "beyond the first hop")
		for _, r := range l.relays {
			require.GreaterOrEqual(t, r.Score(l.attacker.Host.ID()), 0.0, "a forwarder would be innocent")
		}
	})
}

// With the signature check alone, the same variants pass.
func TestMintedVariantsPassWithoutStrictness(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		l := newLine(t, 2, signatureOnly)
		captured := signed(t, "a payload", time.Now())
		l.send(captured.Encode())
		sendVariants(l, captured, 300)
		require.Greater(t, l.ear.Tally().Messages, 200)
	})
}

func TestReplays(t *testing.T) {
	// How often the far end hears one message that is sent again and again.
	replay := func(t *testing.T, rules func() relay.Rules) int {
		l := newLine(t, 3, rules)
		captured := signed(t, "once", time.Now().Add(4*time.Minute)) // a clock that is ahead
		start := time.Now()
		l.send(captured.Encode())
		require.Equal(t, []int{1, 1, 1}, l.delivered())
		for _, after := range []time.Duration{time.Second, time.Minute, 3 * time.Minute, 9*time.Minute - time.Second, 11 * time.Minute} {
			time.Sleep(time.Until(start.Add(after)))
			l.send(captured.Encode())
			time.Sleep(2 * time.Second)
			require.Equal(t, []int{0, 0, 0}, l.delivered(), "readers get a message once, whatever is forwarded")
		}
		return l.ear.Tally().Messages
	}
	p2ptest.Bubble(t, func(t *testing.T) { require.Equal(t, 1, replay(t, guarded)) })
	p2ptest.Bubble(t, func(t *testing.T) { require.Greater(t, replay(t, strictOnly), 1, "without memory") })
}

// What nobody signed, in every shape, stops at the first hop.
func TestForgeries(t *testing.T) {
	stranger := mustKey("32ad0cc8edeb9f8a3e8635c5fe5bd200b9247a33da5e7171bd012691805151f3")
	resign := func(t *testing.T, m *message.Message) *message.Message {
		require.NoError(t, key.Sign(shard.PubsubTopic(), m))
		return m
	}
	for name, make := range map[string]func(*testing.T, *message.Message) *message.Message{
		"no signature": func(_ *testing.T, m *message.Message) *message.Message { m.Meta = nil; return m },
		"wrong key": func(t *testing.T, m *message.Message) *message.Message {
			require.NoError(t, stranger.Sign(shard.PubsubTopic(), m))
			return m
		},
		"another shard's signature": func(t *testing.T, m *message.Message) *message.Message {
			require.NoError(t, key.Sign("/waku/2/rs/16/129", m))
			return m
		},
		"high s":         func(_ *testing.T, m *message.Message) *message.Message { m.Meta = highS(m.Meta); return m },
		"63 bytes":       func(_ *testing.T, m *message.Message) *message.Message { m.Meta = m.Meta[:63]; return m },
		"65 bytes":       func(_ *testing.T, m *message.Message) *message.Message { m.Meta = append(m.Meta, 0); return m },
		"other payload":  func(_ *testing.T, m *message.Message) *message.Message { m.Payload = []byte("else"); return m },
		"other topic":    func(_ *testing.T, m *message.Message) *message.Message { m.ContentTopic = "/a/1/b/c"; return m },
		"made ephemeral": func(_ *testing.T, m *message.Message) *message.Message { m.Ephemeral = true; return m },
		"no timestamp":   func(_ *testing.T, m *message.Message) *message.Message { m.Timestamp = 0; return m },
		"stale": func(t *testing.T, m *message.Message) *message.Message {
			m.Timestamp = time.Now().Add(-6 * time.Minute).UnixNano()
			return resign(t, m)
		},
		"from the future": func(t *testing.T, m *message.Message) *message.Message {
			m.Timestamp = time.Now().Add(6 * time.Minute).UnixNano()
			return resign(t, m)
		},
		"end of time": func(t *testing.T, m *message.Message) *message.Message {
			m.Timestamp = math.MaxInt64
			return resign(t, m)
		},
		"start of time": func(t *testing.T, m *message.Message) *message.Message {
			m.Timestamp = math.MinInt64
			return resign(t, m)
		},
		"three parts": func(t *testing.T, m *message.Message) *message.Message {
			m.ContentTopic = "/1/b/c"
			return resign(t, m)
		},
		"version 2": func(t *testing.T, m *message.Message) *message.Message { m.Version = 2; return resign(t, m) },
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				l := newLine(t, 2, guarded)
				l.send(make(t, signed(t, "hello", time.Now())).Encode())
				time.Sleep(2 * time.Second)
				require.Equal(t, []int{0, 0}, l.delivered())
				require.Zero(t, l.ear.Tally().Messages)
				require.Zero(t, l.relays[1].Stats().Shards[0].In, "sent on by the first hop")
				l.send(signed(t, "hello", time.Now()).Encode())
				require.Equal(t, []int{1, 1}, l.delivered(), "an honest message")
			})
		})
	}
}
