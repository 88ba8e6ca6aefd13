package waku_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// placed is a host that says where it listens, whatever it announces.
type placed struct {
	host.Host
	addrs []ma.Multiaddr
}

func (p placed) Addrs() []ma.Multiaddr { return p.addrs }

// What it costs a private node to stay within others' reach while nothing happens, beside
// what every node costs: AutoNAT isn't among it.
func TestNATIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("two hours with an execution trace")
	}
	o := newOutside(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		static := waku.WithStaticPeers(append(w.relayer().Addrs(), w.relayer().Addrs()...)...)
		hosts := []p2ptest.HostConfig{{}, {}}
		with, without := w.host(hosts[0]), w.host(hosts[1])
		addrs := with.Addrs()
		n, _, _ := w.member(with, network.ReachabilityPrivate, static)
		w.relayerOn(without, static, waku.WithoutRendezvousPoint(), waku.WithoutCircuitRelay())
		private := placed{with, addrs}
		time.Sleep(3 * time.Hour) // all that hopes for more peers has become slow
		synctest.Wait()
		require.Len(t, n.Health().NAT.Circuits, 2)
		before, beforeWithout := w.net.Traffic(private), w.net.Traffic(without)
		wakes, _ := wakeups(t, o, func() { time.Sleep(time.Hour) })
		after, afterWithout := w.net.Traffic(private), w.net.Traffic(without)
		t.Logf("in an hour: with WithNAT %+v to %+v, without %+v to %+v", before, after, beforeWithout, afterWithout)
		ours := 0
		for who, count := range wakes {
			for _, part := range []string{"circuitKeeper", "natKeeper", "punchTable", "rendezvous", "watchMeshes", "askPoints", "registr"} {
				if strings.Contains(who, part) {
					ours += count
					t.Log(who, count)
					break
				}
			}
		}
		t.Logf("%d wake-ups in an hour", ours)
		require.LessOrEqual(t, ours, 120)
	})
}
