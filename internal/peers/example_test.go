package peers_test

import (
	"fmt"
	"time"

	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

// What drives a Manager asks for a plan after every event, does what it says, and
// asks again when it is due.
func Example() {
	m := peers.New(peers.Config{Self: id(0), Cluster: cluster})
	now := time.Now()
	m.Want(now, []peers.Need{{
		Shard: sharding.Shard{Cluster: cluster, Index: 1}, Service: peers.Relay, Min: 1, Target: 1, Outbound: 1,
	}})
	fmt.Println("lacking:", len(m.Plan(now).Missing))

	m.Found(now, told(7, peers.DNS, maddr("/ip4/66.1.1.1/tcp/60000")))
	for _, d := range m.Plan(now).Dial {
		fmt.Println("dial", d.Addrs[0])
		m.Connected(now, d.ID, d.Addrs[0], false)
		m.Proven(now, d.ID, carries(1), peers.Relay) // once it has said so
	}
	p := m.Plan(now)
	fmt.Println("lacking:", len(p.Missing), "- to do later:", !p.Next.IsZero())
	// Output:
	// lacking: 1
	// dial /ip4/66.1.1.1/tcp/60000
	// lacking: 0 - to do later: false
}
