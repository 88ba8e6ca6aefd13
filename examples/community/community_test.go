package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/status-im/shoal/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShow(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out bytes.Buffer
	held, err := show(ctx, newPrinter(&out, false), 0)
	require.NoError(t, err, "%s", &out)
	assert.True(t, held, "%s", &out)
	assert.NotContains(t, out.String(), "FAIL")
	assert.NotContains(t, out.String(), "\x1b", "no colour unless asked for")
	assert.Equal(t, 19, strings.Count(out.String(), "PASS  "), "%s", &out)
}

// Without the key at the fleet node the demo must see that its claims don't hold.
func TestShowFailsWithoutProtection(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	unprotected, err := newTown(ctx, false)
	require.NoError(t, err)
	defer unprotected.close()
	var out bytes.Buffer
	unprotected.p, unprotected.patience = newPrinter(&out, true), 300*time.Millisecond
	held, err := unprotected.play(ctx)
	require.NoError(t, err, "%s", &out)
	assert.False(t, held, "%s", &out)
	assert.Contains(t, out.String(), "of the stranger's 112 messages no member got any", "members judge for themselves")
	failed := strings.Count(out.String(), "FAIL")
	assert.Equal(t, 7, failed, "four kinds, the cut, the witness, the archive: %s", &out)
	for _, m := range unprotected.lights() {
		for _, h := range m.node.Health().Shards {
			if h.Shard != shard {
				continue
			}
			assert.Positive(t, h.Light.Refused)
			assert.Contains(t, h.Light.Failure, unprotected.fleet.PeerID().String(), "they go on by the second node")
			assert.Contains(t, h.Light.Failure, "isn't genuine")
		}
	}
}

// What relaying and light members got is held against each other.
func TestClaimsAboutLightMembersCanFail(t *testing.T) {
	newMember := func(name string, light bool) *member {
		return &member{name: name, light: light, metrics: prometheus.NewRegistry(), got: map[message.Hash]int{}}
	}
	ana, gil := newMember("ana", false), newMember("gil", true)
	played := &town{members: []*member{ana, gil}, present: 2, said: []said{{hash: message.Hash{1}, by: ana, present: 2}}}
	assert.False(t, played.alike(), "gil missed it")
	gil.got[message.Hash{1}] = 1
	assert.True(t, played.alike())
	ana.got[message.Hash{2}] = 1
	assert.False(t, played.alike(), "nobody said that")

	moved := func(m *member, name string, bytes float64) {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, []string{"direction"})
		c.WithLabelValues("in").Add(bytes)
		c.WithLabelValues("out").Add(bytes)
		m.metrics.MustRegister(c)
	}
	moved(ana, "waku_relay_bytes_total", 1000)
	assert.False(t, played.frugal().held, "gil can't have got anything")
	moved(gil, "waku_filter_bytes_total", 600)
	assert.True(t, played.frugal().held)
	moved(gil, "waku_lightpush_bytes_total", 600)
	assert.False(t, played.frugal().held)
}

func TestEndsEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := show(ctx, newPrinter(&bytes.Buffer{}, false), 0)
	require.ErrorIs(t, err, context.Canceled)
}

func TestBadInput(t *testing.T) {
	for _, args := range [][]string{{"--colour"}, {"--pace"}, {"--pace", "slow"}, {"--pace", "-1s"}, {"--pace", "1m"}, {"now"}} {
		_, err := parse(args, true)
		require.Error(t, err, args)
		assert.Contains(t, err.Error(), "--pace")
		assert.NotContains(t, err.Error(), "\n")
	}
}
