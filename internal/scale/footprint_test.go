package scale_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/simnet"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

// footprint is what relays take, hosts and connections of the simulation included.
type footprint struct {
	goroutines   int
	heap, stacks uint64
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %d KiB heap, %d KiB stacks", f.goroutines, f.heap>>10, f.stacks>>10)
}

// footprintOf measures n relays, each with so many peers, and divides by n.
func footprintOf(t *testing.T, n, peers int, load time.Duration) footprint {
	measure := func() footprint {
		synctest.Wait()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return footprint{runtime.NumGoroutine(), m.HeapAlloc, m.StackInuse}
	}
	before := measure()
	shard := sharding.Shard{Cluster: 16, Index: 128}
	net := simnet.New(simnet.Config{Seed: 1})
	var hosts []*simnet.Host
	var rs []*relay.Relay
	for range n {
		h := net.Host(simnet.HostConfig{})
		r, err := relay.New(h, relay.Config{})
		require.NoError(t, err)
		_, err = r.Subscribe(shard, relay.SubscribeConfig{Buffer: 16})
		require.NoError(t, err)
		hosts, rs = append(hosts, h), append(rs, r)
	}
	for i, h := range hosts {
		for k := 1; k <= peers/2; k++ { // a ring in which each knows its next ones
			require.NoError(t, h.Connect(t.Context(), peer.AddrInfo{ID: hosts[(i+k)%n].ID()}))
		}
	}
	time.Sleep(30 * time.Second)
	for i := range int(14 * load.Seconds()) {
		m := &message.Message{ContentTopic: "/toy/1/x/proto", Payload: []byte(fmt.Sprint(i, strings.Repeat("x", 1900))), Timestamp: time.Now().UnixNano()}
		_, err := rs[i%n].Publish(t.Context(), shard, m)
		require.NoError(t, err)
		time.Sleep(time.Second / 14)
	}
	after := measure()
	for i, r := range rs {
		require.NoError(t, r.Close())
		require.NoError(t, hosts[i].Close())
	}
	time.Sleep(time.Minute)
	return footprint{
		(after.goroutines - before.goroutines) / n,
		(max(after.heap, before.heap) - before.heap) / uint64(n),
		(max(after.stacks, before.stacks) - before.stacks) / uint64(n),
	}
}

// What one relay takes. Only goroutines are the same on every machine.
func TestFootprint(t *testing.T) {
	long(t)
	for _, c := range []struct {
		name       string
		peers      int
		load       time.Duration
		goroutines int
	}{
		{"at rest, alone", 0, 0, 12},
		{"at rest, 20 peers", 20, 0, 12 + 3*20},
		{"20 peers, 14 messages a second for 20 s", 20, 20 * time.Second, 12 + 3*20 + 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := footprintOf(t, 24, c.peers, c.load)
			t.Logf("%s: %v", c.name, f)
			require.LessOrEqual(t, f.goroutines, c.goroutines, c.name)
		})
	}
}
