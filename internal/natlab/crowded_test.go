//go:build nat && linux

package natlab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// crowdedAt is where the environment says that this program is a relayer whose mesh is
// full, crowdedKey whose community.
const (
	crowdedAt  = "NATLAB_CROWDED_AT"
	crowdedKey = "NATLAB_CROWDED_KEY"
)

// crowd is how many others fill its mesh. A real relayer's degrees leave room for a
// newcomer most of the time; this one's don't.
const crowd = 2

// crowded starts the relayer, and others who fill its mesh.
func (c *community) crowded(t *testing.T, ip string) *relayer {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	r := &relayer{space: c.server(t, "crowded relayer", ip), ip: ip}
	r.program = r.space.programAt(t, self, []string{crowdedAt + "=" + c.over.addr(ip, 30303), crowdedKey + "=" + c.public})
	ready := r.await(t, 0, time.Minute, "ready", func(m moment) bool { return m.Event == "ready" })
	r.addr, r.id = ready.Addresses[0], ready.PeerID
	for i := range crowd {
		ip := fmt.Sprintf("11.0.1.%d", i+1)
		c.relayer(t, c.server(t, "crowd", ip), ip, "--connect", r.addr, "--mesh-degree", "6", "--rendezvous-point", "off", "--circuit-relay", "off")
	}
	r.await(t, 0, time.Minute, "a full mesh", what("full"))
	return r
}

// runCrowded is the program.
func runCrowded() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	key, err := dosguard.ParsePublicKey(os.Getenv(crowdedKey))
	if err != nil {
		return err
	}
	full := relay.Fleet(6)
	full.D, full.DLow, full.DHigh, full.DScore, full.DOut = crowd, 1, crowd, 1, 0
	network := waku.Local
	network.Name, network.Private = "own", false
	node, err := waku.New(ctx, waku.WithNetwork(network), waku.WithListenAddrs(os.Getenv(crowdedAt)), waku.WithRelayProfile(full),
		waku.WithFilterService(filter.ServerConfig{}), waku.WithLightPushService(lightpush.ServerConfig{}))
	if err != nil {
		return err
	}
	defer node.Close()
	if _, err := node.Join(ctx, waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 128}, PublicKey: key}); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]any{"event": "ready", "peer_id": node.PeerID(), "addresses": node.Addrs()}); err != nil {
		return err
	}
	for told := false; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if h := node.Health(); !told && len(h.Shards) == 1 && h.Shards[0].Mesh == crowd {
			told = true
			if err := out.Encode(map[string]any{"what": "full"}); err != nil {
				return err
			}
		}
	}
	return nil
}
