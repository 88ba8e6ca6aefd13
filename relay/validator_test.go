package relay_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

// A validator's trouble stays on its shard.
func TestValidatorTrouble(t *testing.T) {
	for name, validator := range map[string]message.Validator{
		"slow": func(ctx context.Context, _ *message.Received) message.Verdict {
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
			}
			return message.Ignore
		},
		"never ends": func(ctx context.Context, _ *message.Received) message.Verdict {
			<-ctx.Done()
			return message.Accept
		},
		"panics":  func(context.Context, *message.Received) message.Verdict { panic("at the disco") },
		"garbage": func(context.Context, *message.Received) message.Verdict { return 99 },
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				var mu sync.Mutex
				seen := map[relay.EventKind]int{}
				hosts := p2ptest.Hosts(t, 3)
				r := newRelay(t, hosts[0], relay.Config{OnEvent: func(e relay.Event) {
					mu.Lock()
					defer mu.Unlock()
					seen[e.Kind]++
				}})
				r.SetRules(shard, relay.Rules{Validator: validator, MaxPending: 50})
				bad, good := subscribe(t, r, shard), subscribe(t, r, other)
				from := p2ptest.NewRawPubsub(t, hosts[1])
				ear := p2ptest.NewRawPubsub(t, hosts[2])
				both := []string{shard.PubsubTopic(), other.PubsubTopic()}
				for _, x := range []*p2ptest.RawPubsub{from, ear} {
					p2ptest.Connect(t, x.Host, hosts[0])
					require.NoError(t, x.Send(hosts[0].ID(), p2ptest.Subscribe(both...), p2ptest.Graft(both...)))
				}
				settle()
				var want []string
				for i := range 100 {
					require.NoError(t, from.Send(hosts[0].ID(), p2ptest.Publish(both[0], newMessage("bad").Encode())))
					want = append(want, fmt.Sprint(i))
					require.NoError(t, from.Send(hosts[0].ID(), p2ptest.Publish(both[1], newMessage(want[i]).Encode())))
				}
				synctest.Wait()
				require.ElementsMatch(t, want, drain(good))
				require.Empty(t, drain(bad))
				require.Len(t, ear.Messages(), 100)
				require.GreaterOrEqual(t, r.Score(hosts[1].ID()), 0.0, "not the sender's fault")
				require.Contains(t, r.Mesh(shard), hosts[1].ID())
				mu.Lock()
				defer mu.Unlock()
				switch name {
				case "panics":
					require.Positive(t, seen[relay.ValidatorPanic])
					require.EqualValues(t, 100, stats(r, shard).Panics)
				case "slow", "never ends":
					require.Positive(t, seen[relay.Overload])
					// At three quarters the inspector begins to refuse, at the full the gate.
					require.GreaterOrEqual(t, stats(r, shard).Overload, uint64(50))
					require.LessOrEqual(t, stats(r, shard).Overload, uint64(62))
				}
			})
		})
	}
}

func TestCloseEndsValidators(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		r := newRelay(t, p2ptest.Hosts(t, 1)[0], relay.Config{})
		r.SetRules(shard, relay.Rules{Validator: func(ctx context.Context, _ *message.Received) message.Verdict {
			<-ctx.Done()
			return message.Accept
		}})
		subscribe(t, r, shard)
		published := make(chan error, 1)
		go func() {
			_, err := r.Publish(context.Background(), shard, newMessage("x"))
			published <- err
		}()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, r.Close())
		require.ErrorIs(t, <-published, net.ErrClosed)
		require.Less(t, time.Since(start), time.Second)
	})
}

func TestPanicsAreContained(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		r := newRelay(t, hosts[0], relay.Config{OnEvent: func(relay.Event) { panic("event") }})
		r.SetRules(shard, relay.Rules{Screen: func(in *message.Received) message.Verdict {
			if string(in.Message.Payload) == "screen" {
				panic("screen")
			}
			return message.Accept
		}})
		sub := subscribe(t, r, shard)
		from := p2ptest.NewRawPubsub(t, hosts[1])
		p2ptest.Connect(t, hosts[1], hosts[0])
		for _, payload := range []string{"screen", "fine"} {
			require.NoError(t, from.Send(hosts[0].ID(), p2ptest.Publish(shard.PubsubTopic(), newMessage(payload).Encode())))
		}
		require.Equal(t, []string{"fine"}, drain(sub))
		require.EqualValues(t, 1, stats(r, shard).Panics)
		_, err := r.Publish(context.Background(), shard, newMessage("screen"))
		var refused *relay.RefusedError
		require.ErrorAs(t, err, &refused)
	})
}

func stats(r *relay.Relay, s sharding.Shard) relay.ShardStats {
	for _, st := range r.Stats().Shards {
		if st.Shard == s {
			return st
		}
	}
	return relay.ShardStats{}
}

// A verdict of Ignore costs the forwarder nothing, however often; Reject does.
func TestWhatVerdictsCost(t *testing.T) {
	for verdict, cut := range map[message.Verdict]bool{message.Ignore: false, message.Reject: true} {
		t.Run(verdict.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				s := newScene(t)
				rules := signedOnly()
				rules.Validator = func(context.Context, *message.Received) message.Verdict { return verdict }
				s.victim.SetRules(shard, rules)
				id := s.attacker.Host.ID()
				require.NoError(t, s.publish(withMeta("first", "x")))
				time.Sleep(6 * time.Second)
				if cut {
					require.Less(t, s.victim.Score(id), 0.0, "seen to fall")
					require.NotContains(t, s.victim.Mesh(shard), id)
				}
				for i := range 1000 {
					if s.publish(withMeta(fmt.Sprint(i), "x")) != nil {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
				require.Equal(t, cut, !s.connected(s.attacker))
				if !cut {
					require.GreaterOrEqual(t, s.victim.Score(id), 0.0)
					require.EqualValues(t, 1001, stats(s.victim, shard).Ignored, "each was asked about")
				}
			})
		})
	}
}

func TestCloseNamesValidatorsThatStay(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		r := newRelay(t, hosts[0], relay.Config{})
		release := make(chan struct{})
		r.SetRules(shard, relay.Rules{Validator: func(context.Context, *message.Received) message.Verdict {
			<-release
			return message.Accept
		}})
		subscribe(t, r, shard)
		from := p2ptest.NewRawPubsub(t, hosts[1])
		p2ptest.Connect(t, hosts[1], hosts[0])
		require.NoError(t, from.Send(hosts[0].ID(), p2ptest.Publish(shard.PubsubTopic(), newMessage("x").Encode())))
		settle()
		start := time.Now()
		require.ErrorContains(t, r.Close(), "16/128")
		require.Less(t, time.Since(start), 5*time.Second)
		close(release)
	})
}

// A hundred readers that never read cost nobody anything but themselves.
func TestReadersThatNeverRead(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		a, b := newRelay(t, hosts[0], relay.Config{}), newRelay(t, hosts[1], relay.Config{})
		subscribe(t, a, shard)
		var idle []*relay.Subscription
		for range 100 {
			idle = append(idle, subscribe(t, b, shard))
		}
		reader := subscribe(t, b, shard)
		elsewhere := subscribe(t, b, other)
		subscribe(t, a, other)
		p2ptest.Connect(t, hosts[0], hosts[1])
		settle()
		const n = 1500
		for i := range n {
			publish(t, a, shard, newMessage(fmt.Sprint(i)))
			publish(t, a, other, newMessage(fmt.Sprint(i)))
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
			require.Equal(t, fmt.Sprint(i), string(next(t, reader).Message.Payload))
			require.Equal(t, fmt.Sprint(i), string(next(t, elsewhere).Message.Payload))
		}
		for _, sub := range idle {
			require.EqualValues(t, n-1024, sub.Lost())
		}
		start := time.Now()
		require.NoError(t, idle[0].Close())
		require.NoError(t, b.Close())
		require.Less(t, time.Since(start), time.Second)
	})
}

// A host outlives its relay, and nothing of the relay stays behind.
func TestCloseLeavesTheHostClean(t *testing.T) {
	hosts := p2ptest.Hosts(t, 2)
	subscribe(t, newRelay(t, hosts[1], relay.Config{}), shard)
	var before int
	for i := range 30 {
		r := newRelay(t, hosts[0], relay.Config{})
		subscribe(t, r, shard)
		p2ptest.Connect(t, hosts[0], hosts[1])
		p2ptest.Eventually(t, func() bool {
			// The other side may still be ending the connection of the last round,
			// and then ends this one with it.
			_ = hosts[0].Connect(context.Background(), p2ptest.AddrInfo(hosts[1]))
			return len(r.Peers(shard)) == 1
		}, "round %d: no peer", i)
		require.NoError(t, r.Close())
		require.NoError(t, r.Close(), "twice")
		p2ptest.Disconnect(t, hosts[0], hosts[1])
		if i == 0 {
			before = runtime.NumGoroutine()
		}
	}
	p2ptest.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+5 }, "goroutines stay")
}
