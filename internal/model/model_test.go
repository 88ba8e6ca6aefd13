package model_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/model"
)

// The table as printed in the analysis, megabytes an hour for 100, 10,000 and 1,000,000
// nodes; where it prints fewer, the rest is the formula's own.
func TestPublishedTable(t *testing.T) {
	want := map[string][3]string{
		"case 1: unique":                   {"1.0", "100.0", "10000.0"},
		"case 2: once per link":            {"3.0", "300.0", "30000.0"},
		"case 3: flood (2023)":             {"5.0", "500.0", "50000.0"},
		"case 4: with gossip (2023)":       {"8.2", "817.2", "81725.0"},
		"sharding case 1 (2023)":           {"8.2", "817.3", "2451.8"},
		"sharding case 2: and chat (2023)": {"16.3", "1634.5", "3269.0"},
		"sharding case 3: light":           {"1.0", "100.0", "300.0"},
		"case 3: flood (2025)":             {"5.0", "500.0", "50000.0"},
		"case 4: with gossip (2025)":       {"5.6", "563.0", "56300.0"},
		"case 5: called off (2025)":        {"4.0", "400.4", "40041.7"},
		"latency case 1":                   {"0.257", "0.514", "0.771"},
	}
	rows := model.Published().Table()
	require.Len(t, rows, len(want))
	for _, row := range rows {
		assert.Equal(t, want[row.Name], row.Cells, row.Name)
	}
}

// What the analysis comes to for a member of one shard of 10,000, in and out.
func TestPublishedRates(t *testing.T) {
	p := model.Published()
	for _, c := range []struct {
		name string
		load model.Load
		want float64
	}{
		{"without gossip", p.Flood, 2.22},
		{"with gossip, corrected", p.Gossip, 2.50},
		{"with gossip, first published", p.Gossip2023, 3.63},
		{"with IDONTWANT", p.CalledOff, 1.78},
	} {
		assert.InDelta(t, c.want, model.Mbit(c.load(10_000)), 0.005, c.name)
	}
	assert.InDelta(t, 2*model.Mbit(p.Gossip2023(10_000)), model.Mbit(p.Chat2023(10_000)), 0.001, "chat is one more shard")
}

func TestShard(t *testing.T) {
	s := model.Shard{Rate: 13.9, Size: 2050, Degree: 5.7, DLazy: 6, HistoryGossip: 3, CallOff: true}
	assert.InDelta(t, 4.7, s.Copies(), 0.001)
	all := s.Member().Sum()
	s.Stopped, s.Degree, s.HistoryGossip = 0.5, 3.8, 2
	assert.Less(t, s.Member().Sum(), all)
	s.FleetShare = 1
	assert.Greater(t, s.Member().Payload, s.Floor(false))
	assert.Zero(t, model.Shard{Degree: 6, HistoryGossip: 3, DLazy: 6}.Member().Sum(), "nothing said, nothing paid")
}

// Light members pay for what they ask for, twice, and the service nodes for all of it.
func TestLight(t *testing.T) {
	l := model.Light{Rate: 13.9, Size: 2050, Share: 1}
	assert.InDelta(t, 2*13.9*model.TCPCost(2110)*8/1e6, l.Member(), 0.001)
	all := l.Member()
	l.Share = 0.01
	assert.Less(t, l.Member(), 0.02*all)
	assert.InDelta(t, 5000*l.Member()/2, l.Service(5000), 1e-9)
	l.Share, l.Rate = 0, 0
	assert.Less(t, l.Member(), 0.001, "pings")
}
