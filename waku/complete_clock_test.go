package waku_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// What was last known to be complete by a clock that was ahead, and has been set right
// since, isn't taken for later than it was, be it that the machine then sleeps and the
// node ends before it has noticed.
func TestClockAheadThenSleep(t *testing.T) {
	const ahead, slept = time.Hour, 8 * time.Hour
	p2ptest.Bubble(t, func(t *testing.T) {
		net, state := p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond}), newMemoryState()
		var world, own settable
		archive := storetest.NewModel(storetest.Config{Now: world.now})
		serving := start(t, append(services(), waku.WithHost(net.Hosts(1)[0]), waku.WithClock(world.now), waku.WithArchive(archive))...)
		join(t, serving, waku.Community{Shard: town})
		live := func() (*waku.Node, *waku.Reader) {
			n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithStateStore(state), waku.WithClock(own.now))
			connect(t, n, serving)
			return n, subscribe(t, join(t, n, waku.Community{Shard: town}, waku.AsLight()), lobby)
		}
		n, _ := live()
		proof := func() time.Time {
			if peers := n.Health().Shards[0].Light.ServicePeers; len(peers) > 0 {
				return peers[0].Proof
			}
			return time.Time{}
		}
		time.Sleep(10 * time.Second)
		own.set(ahead)
		for proof().Before(time.Now().Add(ahead / 2)) { // it was proven by the wrong clock
			time.Sleep(time.Second)
		}
		own.set(0)
		time.Sleep(20 * time.Second)
		require.True(t, proof().After(time.Now().Add(ahead/2)), "the test asks for nothing else")
		asleep := world.now()
		world.set(slept)
		var want []message.Hash
		for at := time.Duration(0); at < slept; at += 10 * time.Minute {
			e := store.NewEntry(town, &message.Message{ContentTopic: lobby, Payload: fmt.Append(nil, at), Timestamp: asleep.Add(at).UnixNano()})
			require.NoError(t, archive.Put(within(t), []store.Entry{e}))
			want = append(want, e.Hash)
		}
		own.set(slept)
		require.NoError(t, n.Close())
		_, r := live()
		time.Sleep(30 * time.Second)
		once(t, want, came(r, func(err error) { require.NoError(t, err) }))
	})
}
