//go:build soak && linux

package scorecard

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// spam has everybody enter the node's mesh and send it n messages without a signature.
func (cs *callers) spam(n int) (sent int) {
	topic := shard.PubsubTopic()
	for i, c := range cs.all {
		c.host.SetStreamHandler(relay.ID, func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
		s, err := c.host.NewStream(context.Background(), nodeInfo.ID, relay.ID)
		if err != nil {
			continue
		}
		for _, rpc := range []*pb.RPC{p2ptest.Subscribe(topic), p2ptest.Graft(topic)} {
			b, err := proto.Marshal(rpc)
			check(err)
			_ = wire.WriteFrame(s, b)
		}
		for j := range n {
			m := &message.Message{Payload: fmt.Appendf(nil, "%d %d", i, j), ContentTopic: contentTopic, Timestamp: time.Now().UnixNano()}
			rpc, err := proto.Marshal(p2ptest.Publish(topic, m.Encode()))
			check(err)
			if wire.WriteFrame(s, rpc) == nil {
				sent++
			}
		}
	}
	return sent
}

// Row B14: thirty identities of one address send junk, and newcomers from everywhere
// want in. Who has lived behind one address with nineteen others stays.
func TestSoakVillage(t *testing.T) {
	const members, bad, newcomers = 20, 30, 250
	s := newStreet(t)
	node := s.node(nodeParams{})
	village := s.begin("caller", loadCPU, callerParams{IDs: members, Addrs: addresses(20, 1)}, addresses(20, 1)...)
	var r connected
	village.ask("connect", nil, &r)
	require.Equal(t, members, r.Connected, "%v", r)
	village.ask("relay", nil, new(string))
	left := func(a *actor) (n int) {
		a.ask("left", nil, &n)
		return n
	}
	time.Sleep(30 * time.Second)
	require.Equal(t, members, left(village))

	attackers := s.begin("caller", loadCPU, callerParams{IDs: bad, Addrs: addresses(66, 1)}, addresses(66, 1)...)
	attackers.ask("connect", nil, &r)
	t.Logf("%d of %d attackers from one address: %v", r.Connected, bad, r)
	var sent int
	attackers.ask("spam", 20, &sent)
	time.Sleep(5 * time.Second)
	var c cost
	node.ask("cost", nil, &c)
	t.Logf("%d unsigned messages sent: %d attackers left, %s", sent, left(attackers), c.only("waku_relay_peers_cut"))
	parted := map[string]int{}
	node.ask("parted", nil, &parted)
	t.Log("the last were parted from because:", parted)
	require.Zero(t, left(attackers))
	attackers.ask("connect", nil, &r)
	t.Logf("they come again: %v", r)
	time.Sleep(time.Second)
	require.Zero(t, left(attackers))
	require.Equal(t, members, left(village))

	places := addresses(77, newcomers)
	crowd := s.begin("caller", loadCPU, callerParams{IDs: newcomers, Addrs: places}, places...)
	for range 5 {
		crowd.ask("connect", nil, &r)
		t.Logf("newcomers: %d left; members: %d", left(crowd), left(village))
		require.Equal(t, members, left(village))
		time.Sleep(10 * time.Second)
	}
	var peers []struct{ Addr string }
	node.ask("peers", nil, &peers)
	t.Logf("%d peers in the end", len(peers))
}
