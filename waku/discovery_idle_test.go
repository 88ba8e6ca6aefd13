package waku_test

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/waku"
)

// discoveryWakes sums what wakes up in functions of discovery.
func discoveryWakes(t *testing.T, o outside, d time.Duration) (perMinute float64, by map[string]int) {
	sdk, _ := wakeups(t, o, func() { time.Sleep(d) })
	by = map[string]int{}
	sum := 0
	for who, n := range sdk {
		if isDiscovery(who) {
			by[who] += n
			sum += n
		}
	}
	return float64(sum) / d.Minutes(), by
}

func isDiscovery(who string) bool {
	for _, part := range []string{"discovery", "exchangeService", "dnsdisc", "discv5", "stateKeeper", "peerexchange", "internal/peers"} {
		if strings.Contains(who, part) {
			return true
		}
	}
	return false
}

// A node that has what it needs finds peers without waking up; one that can't find some
// wakes up now and then.
func TestIdleDiscovery(t *testing.T) {
	for name, c := range map[string]struct {
		stores bool
		alone  bool
		most   float64 // wake-ups a minute
	}{
		"nothing is missing":    {stores: true, most: 0.1},
		"no store, for an hour": {most: 3},
		"nobody, for an hour":   {alone: true, most: 6},
	} {
		if testing.Short() && !c.stores {
			continue
		}
		t.Run(name, func(t *testing.T) {
			o := newOutside(t)
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				var listed []*enr.Record
				var others []host.Host
				for i := range 12 {
					o, r := extra(t, net, 500+i, at(i))
					if c.stores {
						o.SetStreamHandler(store.ID, func(s network.Stream) { s.Reset() })
					}
					others, listed = append(others, o), append(listed, r)
				}
				list := treeOf(t, 1, listed)
				h := apart(net)
				n := start(t, waku.WithHost(h), waku.WithDNSTrees(list.URL), waku.WithResolvers(dnstest.NewZone(list)),
					waku.WithBootnodes(listed[0].String(), listed[1].String()), waku.WithoutDiscv5(), waku.WithStateStore(newMemoryState()))
				if c.alone {
					for _, o := range others {
						net.Vanish(o)
					}
				}
				join(t, n, waku.Community{Shard: town})
				time.Sleep(time.Hour) // virtual
				before := net.Traffic(h)
				perMinute, by := discoveryWakes(t, o, 20*time.Minute)
				after := net.Traffic(h)
				t.Logf("%.2f wake-ups a minute: %v; %d connections made in 20 min; %d peers, missing %v", perMinute, by, after.Conns-before.Conns, len(n.Peers()), n.Health().Discovery.Missing)
				require.LessOrEqual(t, perMinute, c.most, "%v", by)
				n.Pause()
				time.Sleep(5 * time.Second) // virtual
				perMinute, by = discoveryWakes(t, o, time.Hour)
				require.Zero(t, perMinute, "%v", by)
			})
		})
	}
}
