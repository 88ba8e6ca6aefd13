package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/relay"
)

// Where many are silent, who never offers anything outside a mesh gets no place in one,
// once there was much to offer. Who does is welcome, and so is everybody on a quiet
// shard.
func TestMutePeers(t *testing.T) {
	for _, lenient := range []bool{false, true} {
		t.Run(fmt.Sprintf("lenient %t", lenient), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				const honest, silent = 8, 4
				hosts := p2ptest.Hosts(t, honest+silent)
				p := relay.Default() // small meshes: most peers are outside
				rs := relays(t, hosts[:honest], relay.Config{Profile: p})
				for _, r := range rs {
					r.SetLenient(lenient)
					subscribe(t, r, shard)
				}
				p2ptest.Full(t, hosts)
				topic := shard.PubsubTopic()
				for _, mute := range hosts[honest:] {
					sybil := p2ptest.NewRawPubsub(t, mute)
					for _, h := range hosts[:honest] {
						require.NoError(t, sybil.Send(h.ID(), p2ptest.Subscribe(topic)))
					}
				}
				settle()
				score := func() (scores []float64) {
					for _, r := range rs {
						for _, mute := range hosts[honest:] {
							scores = append(scores, r.Score(mute.ID()))
						}
					}
					return scores
				}
				for range 30 { // too few to judge
					publish(t, rs[0], shard, newMessage("x"))
					time.Sleep(time.Minute)
				}
				for _, s := range score() {
					assert.GreaterOrEqual(t, s, 0.0)
				}
				for i := range 60 {
					publish(t, rs[i%honest], shard, newMessage("x"))
					time.Sleep(time.Second)
				}
				refused := 0
				for _, s := range score() {
					if s < 0 {
						refused++
					}
				}
				for _, r := range rs {
					for _, h := range hosts[:honest] {
						assert.GreaterOrEqual(t, r.Score(h.ID()), 0.0, "an honest one")
					}
				}
				if lenient {
					assert.Zero(t, refused)
				} else {
					assert.Greater(t, refused, honest*silent*3/4)
				}
			})
		})
	}
}
