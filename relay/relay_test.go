package relay_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

var (
	shard = sharding.Shard{Cluster: 16, Index: 128}
	other = sharding.Shard{Cluster: 16, Index: 129}
)

const topic = "/chat/1/lobby/proto"

func newRelay(t testing.TB, h host.Host, cfg relay.Config) *relay.Relay {
	t.Helper()
	r, err := relay.New(h, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func relays(t testing.TB, hosts []host.Host, cfg relay.Config) []*relay.Relay {
	t.Helper()
	out := make([]*relay.Relay, len(hosts))
	for i, h := range hosts {
		out[i] = newRelay(t, h, cfg)
	}
	return out
}

func subscribe(t testing.TB, r *relay.Relay, s sharding.Shard, topics ...string) *relay.Subscription {
	t.Helper()
	sub, err := r.Subscribe(s, relay.SubscribeConfig{ContentTopics: topics})
	require.NoError(t, err)
	return sub
}

var sequence int64

// newMessage returns a message unlike any other.
func newMessage(payload string) *message.Message {
	sequence++
	return &message.Message{
		Payload:      []byte(payload),
		ContentTopic: topic,
		Timestamp:    time.Now().UnixNano() + sequence,
	}
}

func publish(t testing.TB, r *relay.Relay, s sharding.Shard, m *message.Message) relay.Receipt {
	t.Helper()
	rc, err := r.Publish(context.Background(), s, m)
	require.NoError(t, err)
	return rc
}

func next(t testing.TB, sub *relay.Subscription) *relay.Envelope {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	env, err := sub.Next(ctx)
	require.NoError(t, err)
	return env
}

// drain returns the payloads that are there now. In a bubble only.
func drain(sub *relay.Subscription) []string {
	synctest.Wait()
	var out []string
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		env, err := sub.Next(ctx)
		cancel()
		if err != nil {
			return out
		}
		out = append(out, string(env.Message.Payload))
	}
}

// settle lets the meshes form.
func settle() { time.Sleep(3 * time.Second) }

func TestMessagesCrossTheMesh(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 5)
		rs := relays(t, hosts, relay.Config{})
		var subs []*relay.Subscription
		for _, r := range rs {
			subs = append(subs, subscribe(t, r, shard))
		}
		p2ptest.Line(t, hosts)
		settle()
		m := newMessage("hello")
		rc := publish(t, rs[0], shard, m)
		require.Equal(t, m.Hash(shard.PubsubTopic()), rc.Hash)
		require.Equal(t, 1, rc.Peers)
		require.True(t, rc.LowMesh)
		for i, sub := range subs {
			env := next(t, sub)
			require.Equal(t, "hello", string(env.Message.Payload))
			require.Equal(t, rc.Hash, env.Hash)
			require.Equal(t, shard, env.Shard)
			if i > 0 {
				require.Equal(t, hosts[i-1].ID(), env.From)
			} else {
				require.Equal(t, hosts[0].ID(), env.From)
			}
			require.Empty(t, drain(sub))
		}
		require.ElementsMatch(t, rs[1].Peers(shard), rs[1].Mesh(shard))
		require.Len(t, rs[1].Mesh(shard), 2)
	})
}

func TestPublishReportsPeers(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 12)
		rs := relays(t, hosts, relay.Config{})
		for _, r := range rs {
			subscribe(t, r, shard)
		}
		p2ptest.Star(t, hosts)
		settle()
		rc := publish(t, rs[0], shard, newMessage("to all of them"))
		require.Equal(t, 11, rc.Peers, "flood publish")
		require.False(t, rc.LowMesh)

		m := newMessage("twice")
		require.False(t, publish(t, rs[0], shard, m).Duplicate)
		rc = publish(t, rs[0], shard, m)
		require.True(t, rc.Duplicate)
		require.Zero(t, rc.Peers)
	})
}

func TestPublishWithoutFlood(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 20)
		p := relay.Classic()
		p.FloodPublish = false
		rs := relays(t, hosts, relay.Config{Profile: p})
		for _, r := range rs {
			subscribe(t, r, shard)
		}
		p2ptest.Star(t, hosts)
		settle()
		rc := publish(t, rs[0], shard, newMessage("to the mesh"))
		require.LessOrEqual(t, rc.Peers, p.DHigh)
		require.GreaterOrEqual(t, rc.Peers, p.DLow)
	})
}

func TestPublishRefuses(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		r := newRelay(t, p2ptest.Hosts(t, 1)[0], relay.Config{MaxMessageSize: 1000})
		ctx := context.Background()
		_, err := r.Publish(ctx, shard, newMessage("x"))
		require.ErrorIs(t, err, relay.ErrNotSubscribed)

		sub := subscribe(t, r, shard)
		_, err = r.Publish(ctx, shard, &message.Message{ContentTopic: topic, Timestamp: 1})
		require.ErrorIs(t, err, message.ErrEmptyPayload)
		var tooLarge *message.TooLargeError
		_, err = r.Publish(ctx, shard, newMessage(strings.Repeat("x", 1000)))
		require.ErrorAs(t, err, &tooLarge)
		require.Equal(t, 1000, tooLarge.Limit)

		r.SetRules(shard, relay.Rules{Screen: func(*message.Received) message.Verdict { return message.Ignore }})
		var refused *relay.RefusedError
		_, err = r.Publish(ctx, shard, newMessage("x"))
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "screen", refused.Stage)
		r.SetRules(shard, relay.Rules{Validator: func(context.Context, *message.Received) message.Verdict { return message.Reject }})
		_, err = r.Publish(ctx, shard, newMessage("x"))
		require.ErrorAs(t, err, &refused)
		require.Equal(t, message.Reject, refused.Verdict)
		require.Empty(t, drain(sub))

		require.NoError(t, sub.Close())
		_, err = r.Publish(ctx, shard, newMessage("x"))
		require.ErrorIs(t, err, relay.ErrNotSubscribed)
		require.NoError(t, r.Close())
		_, err = r.Publish(ctx, shard, newMessage("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = r.Subscribe(shard, relay.SubscribeConfig{})
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestSubscriptionsAreCounted(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		rs := relays(t, hosts, relay.Config{})
		subscribe(t, rs[1], shard)
		a, b := subscribe(t, rs[0], shard), subscribe(t, rs[0], shard, topic)
		p2ptest.Connect(t, hosts[0], hosts[1])
		settle()
		require.NoError(t, a.Close())
		require.NoError(t, a.Close(), "closing twice")
		settle()
		publish(t, rs[1], shard, newMessage("still here"))
		require.Equal(t, []string{"still here"}, drain(b))
		require.NoError(t, b.Close())
		settle()
		require.Empty(t, rs[1].Peers(shard), "the last one left the shard")
		_, err := b.Next(context.Background())
		require.ErrorIs(t, err, net.ErrClosed)
		c := subscribe(t, rs[0], shard)
		time.Sleep(10 * time.Second) // the router's unsubscribe back-off
		publish(t, rs[1], shard, newMessage("again"))
		require.Equal(t, []string{"again"}, drain(c))
	})
}

func TestContentTopics(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		r := newRelay(t, p2ptest.Hosts(t, 1)[0], relay.Config{})
		all, one := subscribe(t, r, shard), subscribe(t, r, shard, "/a/1/one/proto")
		send := func(contentTopic string) {
			m := newMessage(contentTopic)
			m.ContentTopic = contentTopic
			publish(t, r, shard, m)
		}
		send("/a/1/one/proto")
		send("/a/1/two/proto")
		require.Equal(t, []string{"/a/1/one/proto"}, drain(one))
		one.AddTopics("/a/1/two/proto")
		one.RemoveTopics("/a/1/one/proto")
		send("/a/1/one/proto")
		send("/a/1/two/proto")
		require.Equal(t, []string{"/a/1/two/proto"}, drain(one))
		require.Len(t, drain(all), 4)
		send("/nobody/1/asked/proto")
		bytes := r.Stats().Shards[0].TopicBytes
		require.Len(t, bytes, 3, "asked topics and other")
		require.Positive(t, bytes["/a/1/one/proto"])
		require.Positive(t, bytes["other"])
	})
}

func TestSlowReader(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		events := make(chan relay.Event, 100)
		r := newRelay(t, p2ptest.Hosts(t, 1)[0], relay.Config{OnEvent: func(e relay.Event) { events <- e }})
		never, err := r.Subscribe(shard, relay.SubscribeConfig{Buffer: 10})
		require.NoError(t, err)
		elsewhere := subscribe(t, r, other)
		reader := subscribe(t, r, shard)
		for i := range 100 {
			publish(t, r, shard, newMessage(fmt.Sprint(i)))
			publish(t, r, other, newMessage(fmt.Sprint(i)))
		}
		require.Len(t, drain(reader), 100)
		require.Len(t, drain(elsewhere), 100)

		require.EqualValues(t, 90, never.Lost())
		require.Equal(t, relay.ReaderLost, (<-events).Kind)
		require.Empty(t, events, "said once")
		_, err = never.Next(context.Background())
		var loss *relay.LossError
		require.ErrorAs(t, err, &loss)
		require.EqualValues(t, 90, loss.Count)
		require.Equal(t, "90", string(next(t, never).Message.Payload), "the oldest were dropped")

		start := time.Now()
		require.NoError(t, never.Close())
		require.NoError(t, r.Close())
		require.Less(t, time.Since(start), time.Second)
	})
}

func TestAll(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		r := newRelay(t, p2ptest.Hosts(t, 1)[0], relay.Config{})
		sub, err := r.Subscribe(shard, relay.SubscribeConfig{Buffer: 2})
		require.NoError(t, err)
		for i := range 3 {
			publish(t, r, shard, newMessage(fmt.Sprint(i)))
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var got []string
		for env, err := range sub.All(ctx) {
			var loss *relay.LossError
			switch {
			case errors.As(err, &loss):
				got = append(got, err.Error())
			case err != nil:
				got = append(got, err.Error())
			default:
				if got = append(got, string(env.Message.Payload)); len(got) == 3 {
					cancel()
				}
			}
		}
		require.Equal(t, []string{"relay: reader too slow, 1 messages lost", "1", "2", "context canceled"}, got)
	})
}

func TestBatch(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		r := newRelay(t, p2ptest.Hosts(t, 1)[0], relay.Config{})
		sub, err := r.Subscribe(shard, relay.SubscribeConfig{Buffer: 8})
		require.NoError(t, err)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = sub.Batch(ended, 5)
		require.ErrorIs(t, err, context.Canceled)
		for i := range 9 {
			publish(t, r, shard, newMessage(fmt.Sprint(i)))
		}
		_, err = sub.Batch(ended, 5)
		var loss *relay.LossError
		require.ErrorAs(t, err, &loss, "a loss comes before what is left")
		var got []string
		for _, want := range []int{5, 3} {
			batch, err := sub.Batch(ended, 5)
			require.NoError(t, err)
			require.Len(t, batch, want)
			for _, env := range batch {
				got = append(got, string(env.Message.Payload))
			}
		}
		require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8"}, got)
		require.NoError(t, sub.Close())
		_, err = sub.Batch(context.Background(), 5)
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestBadConfig(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		h := p2ptest.Hosts(t, 1)[0]
		_, err := relay.New(nil, relay.Config{})
		require.ErrorContains(t, err, "host")
		_, err = relay.New(h, relay.Config{MaxMessageSize: -1})
		require.ErrorContains(t, err, "MaxMessageSize")
		for name, change := range map[string]func(*relay.Profile){
			"DLow":          func(p *relay.Profile) { p.DLow = 9 },
			"DOut":          func(p *relay.Profile) { p.DOut = 3 },
			"DScore":        func(p *relay.Profile) { p.DScore = 7 },
			"HistoryGossip": func(p *relay.Profile) { p.HistoryGossip = 7 },
			"Heartbeat":     func(p *relay.Profile) { p.Heartbeat = 0 },
			"IDontWantSize": func(p *relay.Profile) { p.IDontWantSize = 0 },
			"GossipFactor":  func(p *relay.Profile) { p.GossipFactor = 2 },
			"D is":          func(p *relay.Profile) { p.D = 0 },
		} {
			p := relay.Classic()
			change(&p)
			_, err := relay.New(h, relay.Config{Profile: p})
			require.ErrorContains(t, err, name)
		}
		r := newRelay(t, h, relay.Config{})
		_, err = r.Subscribe(sharding.Shard{Cluster: 16, Index: 1024}, relay.SubscribeConfig{})
		require.Error(t, err)
		_, err = r.Subscribe(shard, relay.SubscribeConfig{Buffer: -1})
		require.ErrorContains(t, err, "Buffer")
	})
}

func TestFleetProfiles(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		h := p2ptest.Hosts(t, 1)[0]
		for d := 6; d <= 200; d++ {
			r, err := relay.New(h, relay.Config{Profile: relay.Fleet(d)})
			require.NoError(t, err, d)
			require.NoError(t, r.Close())
		}
	})
}

// messageID is the gossip id of encoded bytes.
func messageID(b []byte) string {
	d := sha256.Sum256(b)
	return string(d[:])
}
