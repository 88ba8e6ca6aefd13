package scale_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/scale"
	"github.com/status-im/shoal/relay"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

func run(t *testing.T, cfg scale.Config) (r *scale.Result) {
	t.Helper()
	p2ptest.Bubble(t, func(t *testing.T) {
		var err error
		r, err = scale.Run(context.Background(), cfg)
		require.NoError(t, err)
	})
	require.Zero(t, r.Twice, "delivered twice")
	return r
}

// long leaves a test out where the race detector makes a minute of it.
func long(t *testing.T) {
	if testing.Short() {
		t.Skip("simulation")
	}
}

// short is a run of a few seconds under load.
func short(members int, rate float64, p relay.Profile) scale.Config {
	return scale.Config{
		Members: members, Rate: rate, Profile: p, Seed: 1,
		Settle: 15 * time.Second, Warm: 2 * time.Second, Load: 10 * time.Second, Drain: 10 * time.Second,
	}
}

// Two hundred members, as many messages as they would say, nothing missing.
func TestTwoHundred(t *testing.T) {
	members, cfg := 200, short(200, 0, relay.Default())
	cfg.Load = 20 * time.Second
	if testing.Short() {
		members, cfg = 25, short(25, 1, relay.Default())
	}
	r := run(t, cfg)
	m := r.Roles[scale.Member]
	require.Zero(t, r.Missing)
	require.Equal(t, r.Messages*(members-1), r.Delivered)
	require.Equal(t, members, m.Nodes)
	assert.InDelta(t, m.In, m.Out, 0.02*m.Sum(), "what one sends another receives")
	assert.Greater(t, m.Copies, 1.0)
	assert.Less(t, r.Latency.P99, 1.5)
	sum := 0.0
	for _, v := range m.Classes {
		sum += v
	}
	assert.InDelta(t, m.Sum(), sum, 1e-9, "classes are all there is")
}

// The default profile is there to be cheaper, and the fleet's help to be cheaper still.
func TestProfilesCost(t *testing.T) {
	long(t)
	classic := run(t, short(60, 3, relay.Classic())).Roles[scale.Member].Sum()
	byDefault := run(t, short(60, 3, relay.Default())).Roles[scale.Member].Sum()
	cfg := short(60, 3, relay.FleetAssisted())
	cfg.Fleet, cfg.FleetLinks, cfg.FleetProfile = 5, 3, relay.FleetServing(40)
	r := run(t, cfg)
	assisted := r.Roles[scale.Member].Sum()
	t.Logf("classic %.3f, default %.3f, fleet-assisted %.3f Mbit/s", classic, byDefault, assisted)
	assert.Less(t, byDefault, 0.7*classic)
	assert.Less(t, assisted, 0.5*byDefault)
	assert.Zero(t, r.Missing)
	assert.Equal(t, 5, r.Roles[scale.Fleet].Nodes)
}

func TestTrouble(t *testing.T) {
	long(t)
	cfg := short(50, 2, relay.Default())
	cfg.OtherProfile, cfg.Other = relay.Classic(), 0.3
	cfg.Net.Loss, cfg.Slow = 0.01, 0.1
	cfg.Trouble.Vanish = 0.1
	r := run(t, cfg)
	assert.Zero(t, r.Missing)
	assert.Equal(t, 45, r.Roles[scale.Member].Nodes)
	assert.Equal(t, "10 % of members vanish, 1 % of packets lost, 10 % of members slow", r.Trouble)
}

func TestSplitAndHealed(t *testing.T) {
	long(t)
	cfg := short(30, 1, relay.Default())
	cfg.Load, cfg.Trouble.Split = 15*time.Second, 8*time.Second
	r := run(t, cfg)
	assert.Zero(t, r.Missing, "the connections outlast it")
	assert.Greater(t, r.Latency.Max, 5.0)
}

// Nobody delivers what nobody of the community signed, nobody passes it on.
func TestSpam(t *testing.T) {
	cfg := short(20, 1, relay.Default())
	cfg.Load, cfg.Settle = 3*time.Second, 12*time.Second
	cfg.Attack = scale.Attack{Kind: "spam", Attackers: 4}
	r := run(t, cfg)
	assert.Zero(t, r.Missing)
	assert.Zero(t, r.Attack.ForgedDelivered)
	assert.Zero(t, r.Attack.ForgedPassedOn)
	assert.Greater(t, r.Attack.Sent, int64(100))
	assert.NotZero(t, r.Cut)
}

func TestFloodsAndSilence(t *testing.T) {
	long(t)
	for kind := range scale.Attacks {
		if kind == "spam" {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			cfg := short(20, 1, relay.Default())
			cfg.Load, cfg.Settle = 3*time.Second, 12*time.Second
			cfg.Attack = scale.Attack{Kind: kind, Attackers: 3}
			r := run(t, cfg)
			assert.Zero(t, r.Missing)
			assert.NotEmpty(t, r.Attack.Held)
		})
	}
}

// Three silent ones for each member, there from the start, lose their places; where
// silence isn't judged they keep them.
func TestSilentCrowd(t *testing.T) {
	long(t)
	held := func(p relay.Profile) float64 {
		cfg := short(20, 5, p)
		cfg.Load = 35 * time.Second
		cfg.Attack = scale.Attack{Kind: "silent", Attackers: 40, At: -1}
		r := run(t, cfg)
		return r.Attack.Held[len(r.Attack.Held)-1]
	}
	assert.Less(t, held(relay.Default()), 0.2)
	unjudged := relay.Default()
	unjudged.KeepSilent = true
	assert.Greater(t, held(unjudged), 0.6)
}

// One seed is one topology and one load.
func TestSameSeed(t *testing.T) {
	lots := func(seed uint64) (all []string) {
		p2ptest.Bubble(t, func(t *testing.T) {
			cfg := short(20, 2, relay.Default())
			cfg.Seed = seed
			got, end, err := scale.Lots(cfg)
			require.NoError(t, err)
			all = slices.Clone(got)
			end()
		})
		return all
	}
	require.Equal(t, lots(1), lots(1))
	require.NotEqual(t, lots(1), lots(2))
}

func TestConfig(t *testing.T) {
	for want, cfg := range map[string]scale.Config{
		"want at least 2":     {Members: 1},
		"can't connect to 10": {Members: 10, Dials: 10},
		"to a fleet of 2":     {Members: 10, Fleet: 2, FleetLinks: 3},
		"messages of 20":      {Members: 10, Dials: 2, Size: 20},
		"shares are":          {Members: 10, Dials: 2, Slow: 2},
		`attack "noise"`:      {Members: 10, Dials: 2, Attack: scale.Attack{Kind: "noise", Attackers: 1}},
		"nothing to do":       {Members: 10, Dials: 2, Attack: scale.Attack{Attackers: 1}},
	} {
		_, err := scale.Run(context.Background(), cfg)
		require.ErrorContains(t, err, want)
	}
}
