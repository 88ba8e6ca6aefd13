package relay_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

func delayed() relay.Profile {
	p := relay.Classic()
	p.ForwardDelay, p.EagerShare = 100*time.Millisecond, 0.3
	return p
}

// aged is a message of size bytes or so, written a while ago.
func aged(size int, age time.Duration) *message.Message {
	m := newMessage(strings.Repeat("x", size))
	m.Timestamp -= int64(age)
	return m
}

// A forward delay is for the next hop. Who reads here never waits.
func TestForwardDelay(t *testing.T) {
	for name, c := range map[string]struct {
		size       int
		age, delay time.Duration
	}{
		"old":   {2000, time.Second, 100 * time.Millisecond},
		"young": {2000, 100 * time.Millisecond, 0},
		"small": {50, time.Second, 0},
		"ahead": {2000, -time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				hosts := p2ptest.Hosts(t, 3)
				rs := relays(t, hosts, relay.Config{Profile: delayed()})
				p2ptest.Line(t, hosts)
				var subs []*relay.Subscription
				for _, r := range rs {
					subs = append(subs, subscribe(t, r, shard))
				}
				settle()
				start := time.Now()
				publish(t, rs[0], shard, aged(c.size, c.age))
				for i, want := range []time.Duration{0, 0, c.delay} {
					env := next(t, subs[i])
					assert.Equal(t, want, env.ReceivedAt.Sub(start), "hop %d", i)
				}
			})
		})
	}
}

// What a peer calls off meanwhile isn't sent to it.
func TestForwardDelayLetsPeersCallOff(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		rs := relays(t, hosts[:2], relay.Config{Profile: delayed()})
		ear := p2ptest.NewRawPubsub(t, hosts[2])
		p2ptest.Line(t, hosts)
		for _, r := range rs {
			subscribe(t, r, shard)
		}
		topic := shard.PubsubTopic()
		require.NoError(t, ear.Send(hosts[1].ID(), p2ptest.Subscribe(topic), p2ptest.Graft(topic)))
		settle()
		ear.Forget()
		for i, callOff := range []bool{true, false} {
			m := aged(2000+i, time.Second)
			publish(t, rs[0], shard, m)
			synctest.Wait()
			if callOff {
				id := sha256.Sum256(m.Encode())
				require.NoError(t, ear.Send(hosts[1].ID(), p2ptest.IDontWant(string(id[:]))))
			}
			time.Sleep(time.Second)
			got := 0
			for _, pm := range ear.Messages() {
				if bytes.Equal(pm.GetData(), m.Encode()) {
					got++
				}
			}
			assert.Equal(t, !callOff, got == 1)
		}
	})
}

// Closing doesn't wait for what is kept.
func TestForwardDelayEndsWithTheRelay(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		rs := relays(t, hosts, relay.Config{Profile: delayed()})
		p2ptest.Full(t, hosts)
		subscribe(t, rs[0], shard)
		sub := subscribe(t, rs[1], shard)
		settle()
		m := aged(2000, time.Second)
		publish(t, rs[0], shard, m)
		next(t, sub)
		start := time.Now()
		require.NoError(t, rs[1].Close())
		synctest.Wait()
		assert.Zero(t, time.Since(start))
	})
}
