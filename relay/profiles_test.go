package relay_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/relay"
)

// Every profile is one that the router takes, and all of them speak to each other.
func TestProfilesMix(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		profiles := []relay.Profile{
			relay.Classic(), relay.Default(), relay.LowBandwidth(), relay.FleetAssisted(), relay.Fleet(6), relay.FleetServing(800),
		}
		hosts := p2ptest.Hosts(t, 2*len(profiles))
		var subs []*relay.Subscription
		var rs []*relay.Relay
		names := map[string]bool{}
		for i, h := range hosts {
			p := profiles[i%len(profiles)]
			names[p.Name] = true
			r := newRelay(t, h, relay.Config{Profile: p})
			rs, subs = append(rs, r), append(subs, subscribe(t, r, shard))
		}
		require.Len(t, names, len(profiles))
		p2ptest.Degree(t, hosts, 6)
		settle()
		for i, r := range rs {
			m := newMessage(string(make([]byte, 100+1000*(i%3))))
			publish(t, r, shard, m)
			for _, sub := range subs {
				require.Equal(t, m.Payload, next(t, sub).Message.Payload)
			}
		}
	})
}
