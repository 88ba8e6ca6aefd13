package waku_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

var village = sharding.Shard{Cluster: 16, Index: 64}

// pair returns two connected nodes of a network in memory, both on town (signed)
// and village (not), the first with further options.
func pair(t *testing.T, opts ...waku.Option) (n *waku.Node, theirs map[sharding.Shard]*waku.Membership, ours map[sharding.Shard]*waku.Reader) {
	key := newKey(t)
	hosts := p2ptest.Hosts(t, 2)
	n, err := waku.New(t.Context(), append(opts, waku.WithHost(hosts[0]))...)
	require.NoError(t, err)
	t.Cleanup(func() { n.Close() })
	other := start(t, waku.WithHost(hosts[1]))
	theirs, ours = map[sharding.Shard]*waku.Membership{}, map[sharding.Shard]*waku.Reader{}
	for _, c := range []waku.Community{{Shard: town, PublicKey: key.PublicKey()}, {Shard: village}} {
		ours[c.Shard] = subscribe(t, join(t, n, c))
		if c.PublicKey == nil {
			theirs[c.Shard] = join(t, other, c)
			continue
		}
		theirs[c.Shard] = join(t, other, c, waku.SignWith(key))
	}
	connect(t, other, n)
	time.Sleep(5 * time.Second)
	return n, theirs, ours
}

func sendMany(t *testing.T, m *waku.Membership, count int) {
	t.Helper()
	for i := range count {
		_, err := m.Send(t.Context(), lobby, fmt.Appendf(nil, "message %d", i))
		require.NoError(t, err)
	}
}

// A validator that never comes back is left behind, sixteen times; other shards
// don't notice, Health and Close name it.
func TestValidatorThatHangs(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		defer func() { close(release); time.Sleep(time.Second) }()
		var calls atomic.Int64
		hang := func(context.Context, *message.Received) message.Verdict {
			calls.Add(1)
			<-release
			return message.Accept
		}
		n, theirs, ours := pair(t, waku.WithValidator(town, hang, waku.ValidatorName("sleeper")))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := n.Events(ctx)
		for range 3 {
			sendMany(t, theirs[town], 20)
			sendMany(t, theirs[village], 1)
			next(t, ours[village])
			time.Sleep(5 * time.Second)
		}
		require.EqualValues(t, 16, calls.Load())
		h := n.Health()
		require.Equal(t, waku.ValidatorHealth{Name: "sleeper", Stuck: 16, TimedOut: 16, NotAsked: 44}, h.Shards[1].Validators[0])
		require.Contains(t, h.Shards[1].Reason, `"sleeper"`)
		for e := range events {
			if e.Kind == waku.ValidatorTrouble {
				require.Equal(t, town, e.Shard)
				require.Contains(t, e.Reason, `"sleeper"`)
				break
			}
		}
		require.Len(t, n.Peers(), 1)

		began := time.Now()
		err := n.Close()
		require.ErrorContains(t, err, "sleeper")
		var stuck *dosguard.StuckError
		require.ErrorAs(t, err, &stuck)
		require.Equal(t, 16, stuck.Calls)
		require.Less(t, time.Since(began), 5*time.Second)
		require.Equal(t, err, n.Close())
	})
}

// What goes wrong in a validator costs the forwarder nothing, and nobody else.
func TestValidatorsInTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		v    message.Validator
		want waku.ValidatorHealth
	}{
		"panics":    {func(context.Context, *message.Received) message.Verdict { panic("boo") }, waku.ValidatorHealth{Panicked: 3}},
		"no answer": {func(context.Context, *message.Received) message.Verdict { return 77 }, waku.ValidatorHealth{NoVerdict: 3}},
		"slow": {func(ctx context.Context, _ *message.Received) message.Verdict { <-ctx.Done(); return message.Accept },
			waku.ValidatorHealth{TimedOut: 3}},
		"allocates": {func(ctx context.Context, _ *message.Received) message.Verdict {
			var hoard [][]byte
			for ctx.Err() == nil && len(hoard) < 16 {
				hoard = append(hoard, bytes.Repeat([]byte{1}, 1<<20))
			}
			return message.Ignore
		}, waku.ValidatorHealth{}},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				n, theirs, ours := pair(t, waku.WithValidator(town, c.v, waku.ValidatorName(name)))
				sendMany(t, theirs[town], 3)
				time.Sleep(5 * time.Second)
				sendMany(t, theirs[village], 3)
				for range 3 {
					next(t, ours[village])
				}
				if (c.want != waku.ValidatorHealth{}) {
					c.want.Name = name
					require.Equal(t, []waku.ValidatorHealth{c.want}, n.Health().Shards[1].Validators)
				}
				require.Zero(t, n.Health().Shards[1].Delivered)
				require.Len(t, n.Peers(), 1, "the forwarder is innocent")
				require.NoError(t, n.Close())
			})
		})
	}
}

// Ignore costs the forwarder nothing, Reject the connection.
func TestVerdictsOfValidators(t *testing.T) {
	for v, peers := range map[message.Verdict]int{message.Accept: 1, message.Ignore: 1, message.Reject: 0} {
		t.Run(v.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				var seen atomic.Int64
				judge := func(_ context.Context, in *message.Received) message.Verdict {
					if len(in.Message.Meta) == 0 {
						t.Error("the validator was asked before the signature was checked")
					}
					seen.Add(1)
					return v
				}
				n, theirs, _ := pair(t, waku.WithValidator(town, judge))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				events := n.Events(ctx)
				sender := waku.NodeOf(theirs[town]).PeerID()
				sendMany(t, theirs[town], 3)
				time.Sleep(6 * time.Second) // the router tells its scores each five
				require.Len(t, n.Peers(), 1)
				require.Equal(t, v == message.Reject, waku.RelayOf(n).Score(sender) < 0)
				sendMany(t, theirs[town], 17)
				time.Sleep(time.Second)
				require.Len(t, n.Peers(), peers)
				require.GreaterOrEqual(t, seen.Load(), int64(10))
				if v != message.Reject {
					return
				}
				require.Contains(t, n.Health().Disconnects[0].Reason, "cut: ", "%+v", n.Health().Disconnects)
				for e := range events {
					if e.Kind == waku.PeerCut {
						require.Equal(t, "invalid messages", e.Reason)
						break
					}
				}
				_, err := n.Connect(t.Context(), theirAddr(theirs[town]))
				require.ErrorContains(t, err, "cut")
			})
		})
	}
}

// Own messages meet the same validators; the sender learns who refused.
func TestValidatorRefusesOwnMessage(t *testing.T) {
	spam := func(_ context.Context, in *message.Received) message.Verdict {
		if strings.Contains(string(in.Message.Payload), "spam") {
			return message.Reject
		}
		return message.Accept
	}
	n := start(t, oneSocket(), waku.WithValidator(village, spam, waku.ValidatorName("spam filter")))
	m := join(t, n, waku.Community{Shard: village})
	other := start(t, oneSocket())
	join(t, other, waku.Community{Shard: village})
	connect(t, n, other)
	meshed(t, 1, n)
	sent(t, m, lobby, []byte("ham"))
	d, err := trySend(within(t), m, lobby, []byte("spam"))
	var refused *waku.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, message.Reject, refused.Verdict)
	require.EqualError(t, refused, `waku: shard 16/64: message refused (reject) by validator "spam filter"`)
	require.Equal(t, waku.Failed, d.State())
}

// panicHandler is a logger's handler that fails.
type panicHandler struct{ slog.Handler }

func (panicHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (panicHandler) Handle(context.Context, slog.Record) error { panic("logger") }

// A panic in anything the application gave is contained.
func TestPanicsInCallbacks(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		broken := false
		clock := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				panic("clock")
			}
			return time.Now()
		}
		n, theirs, ours := pair(t,
			waku.WithClock(clock),
			waku.WithLogger(slog.New(panicHandler{slog.DiscardHandler})),
			waku.WithValidator(town, func(context.Context, *message.Received) message.Verdict { panic("validator") }),
		)
		mu.Lock()
		broken = true
		mu.Unlock()
		sendMany(t, theirs[town], 1)
		sendMany(t, theirs[village], 1)
		next(t, ours[village])
		time.Sleep(time.Second)
		require.EqualValues(t, 1, n.Health().Shards[1].Refused["panic"])
		require.Len(t, n.Peers(), 1)
		func() {
			defer func() { require.Equal(t, "reader", recover()) }()
			messages := join(t, n, waku.Community{Shard: village}).Messages(t.Context())
			sendMany(t, theirs[village], 1)
			for range messages {
				panic("reader")
			}
		}()
		require.NoError(t, n.Close())
	})
}

func reject(context.Context, *message.Received) message.Verdict { return message.Reject }
