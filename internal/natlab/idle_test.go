//go:build nat && linux

package natlab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// idleAt is where the environment says that this program is a member that only listens,
// idlePeers whom it knows, and idleNAT that it has WithNAT.
const (
	idleAt    = "NATLAB_IDLE_AT"
	idlePeers = "NATLAB_IDLE_PEERS"
	idleNAT   = "NATLAB_IDLE_NAT"
)

// runIdle is the program.
func runIdle() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	key, err := dosguard.ParsePublicKey(os.Getenv(crowdedKey))
	if err != nil {
		return err
	}
	network := waku.Local
	network.Name, network.Private = "own", false
	opts := []waku.Option{
		waku.WithNetwork(network), waku.WithListenAddrs(os.Getenv(idleAt)),
		waku.WithStaticPeers(strings.Split(os.Getenv(idlePeers), ",")...),
	}
	if os.Getenv(idleNAT) != "" {
		opts = append(opts, waku.WithNAT())
	}
	node, err := waku.New(ctx, opts...)
	if err != nil {
		return err
	}
	defer node.Close()
	if _, err := node.Join(ctx, waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 128}, PublicKey: key}); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "ready", "peer_id": node.PeerID()}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// traffic is what has gone through the machine's interface, in bytes and packets of
// both directions.
func (h *home) traffic(t *testing.T) (bytes, packets int) {
	t.Helper()
	fields := strings.Fields(h.machine.Run(t, "", "sh", "-c", "grep eth0: /proc/thread-self/net/dev"))
	for i, into := range map[int]*int{1: &bytes, 2: &packets, 9: &bytes, 10: &packets} {
		n, err := strconv.Atoi(fields[i])
		require.NoError(t, err)
		*into += n
	}
	return bytes, packets
}

// What it costs to stay within reach while nobody says anything, AutoNAT's probes
// included: beside each member with WithNAT is one without. The relayers' probes, which
// the router drops, don't reach the machine.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	settling, lasts := 20*time.Second, 30*time.Second
	if *long {
		settling, lasts = 5*time.Minute, 20*time.Minute
	}
	self, err := os.Executable()
	require.NoError(t, err)
	for _, over := range transports {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			c := newCommunity(t, over)
			var addrs []string
			for i := range 4 {
				ip := fmt.Sprintf("11.0.0.%d", i+2)
				addrs = append(addrs, c.relayer(t, c.server(t, "relayer", ip), ip).addr)
			}
			type meter struct {
				*home
				bytes, packets int
			}
			var homes [2]meter
			for i, nat := range []string{"", "yes"} {
				h := c.home(t, []string{"without", "with"}[i], portRestricted, fmt.Sprintf("11.%d.0.1", i+1), fmt.Sprintf("192.168.%d.2", i+1))
				p := h.machine.programAt(t, self, []string{
					idleAt + "=" + over.addr("0.0.0.0", port), idlePeers + "=" + strings.Join(addrs, ","),
					idleNAT + "=" + nat, crowdedKey + "=" + c.public,
				})
				p.await(t, 0, time.Minute, "ready", func(m moment) bool { return m.Event == "ready" })
				homes[i].home = h
			}
			time.Sleep(settling)
			for i := range homes {
				homes[i].bytes, homes[i].packets = homes[i].traffic(t)
			}
			time.Sleep(lasts)
			hour := float64(time.Hour) / float64(lasts)
			for i := range homes {
				bytes, packets := homes[i].traffic(t)
				homes[i].bytes, homes[i].packets = bytes-homes[i].bytes, packets-homes[i].packets
				t.Logf("%s, %s WithNAT: %.0f KiB and %.0f packets an hour", over, homes[i].machine.Name(),
					float64(homes[i].bytes)*hour/1024, float64(homes[i].packets)*hour)
			}
			more := float64(homes[1].bytes-homes[0].bytes) * hour
			t.Logf("%s: WithNAT takes %.0f KiB an hour more", over, more/1024)
			if *long {
				assert.Less(t, more, 1024.0*1024, "an hour")
			}
		})
	}
}
