package waku_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// A thousand messages over a change of keys: none lost, and the old key is dead
// after its end.
func TestRotationLosesNothing(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const members = 3
		rounds := 334
		if testing.Short() {
			rounds = 170 // the old key ends after 150
		}
		old, fresh := newKey(t), newKey(t)
		hosts := p2ptest.Hosts(t, members)
		var ms []*waku.Membership
		var readers []*waku.Reader
		for _, h := range hosts {
			n := start(t, waku.WithHost(h))
			m := join(t, n, waku.Community{Shard: town, PublicKey: old.PublicKey()}, waku.SignWith(old))
			ms = append(ms, m)
			readers = append(readers, subscribe(t, m))
		}
		p2ptest.Ring(t, hosts)
		time.Sleep(5 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := waku.NodeOf(ms[0]).Events(ctx)
		for round := range rounds {
			switch {
			case round == 50: // everybody learns the key before anybody uses it
				for _, m := range ms {
					require.NoError(t, m.AddKey(fresh.PublicKey(), time.Time{}, time.Time{}))
				}
			case round > 50 && round <= 50+members:
				require.NoError(t, ms[round-51].Rotate(fresh, 10*time.Second))
			}
			for i, m := range ms {
				_, err := m.Send(t.Context(), lobby, fmt.Appendf(nil, "%d %d", round, i))
				require.NoError(t, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, r := range readers {
			seen := map[string]bool{}
			for range members * rounds {
				seen[string(next(t, r).Message.Payload)] = true
			}
			require.Len(t, seen, members*rounds)
		}
		var kinds []string
		for e := range events {
			if e.Key != "" {
				kinds = append(kinds, e.Kind.String()+" "+e.Key)
			}
			if len(kinds) == 2 {
				break
			}
		}
		require.Equal(t, []string{"key added " + fresh.PublicKey().Hex(), "key expired " + old.PublicKey().Hex()}, kinds)

		// Who missed it all sends in vain, and is told.
		require.Equal(t, 1, waku.NodeOf(ms[1]).Health().Shards[0].Keys)
		require.NoError(t, ms[1].SetSigner(old))
		_, err := ms[1].Send(t.Context(), lobby, []byte("late"))
		require.ErrorIs(t, err, waku.ErrNoSigningKey)
		require.ErrorContains(t, ms[1].SetSigner(newKey(t)), "AddKey")
		require.NoError(t, ms[2].ExpireKey(fresh.PublicKey(), time.Now().Add(time.Hour)))
		require.NoError(t, ms[2].AddKey(old.PublicKey(), time.Time{}, time.Time{})) // against the others
		require.NoError(t, ms[2].SetSigner(old))
		sent(t, ms[2], lobby, []byte("stubborn"))
		time.Sleep(time.Second)
		for i, m := range ms {
			if i != 2 {
				require.Zero(t, waku.NodeOf(m).Health().Shards[0].Refused["bad_signature"], "a former member is no forger")
				require.EqualValues(t, members*rounds, waku.NodeOf(m).Health().Shards[0].Delivered)
			}
		}
		require.Len(t, waku.NodeOf(ms[2]).Peers(), 2)
	})
}

func TestJoinTerms(t *testing.T) {
	a, b, c := newKey(t), newKey(t), newKey(t)
	configured := sharding.Shard{Cluster: 16, Index: 200}
	type step struct {
		community waku.Community
		opts      []waku.JoinOption
		want      []string // in the error
		leave     bool     // everything, first
	}
	keyed := func(k *dosguard.PrivateKey) waku.Community {
		return waku.Community{Shard: town, PublicKey: k.PublicKey()}
	}
	open := waku.Community{Shard: town}
	for name, steps := range map[string][]step{
		"same key twice": {{community: keyed(a)}, {community: keyed(a), opts: []waku.JoinOption{waku.SignWith(a)}}},
		"another key": {{community: keyed(a)}, {community: keyed(b),
			want: []string{"protection by key " + b.PublicKey().Hex(), "protection by key " + a.PublicKey().Hex()}}},
		"sign with another":     {{community: keyed(a)}, {community: open, opts: []waku.JoinOption{waku.SignWith(b)}, want: []string{b.PublicKey().Hex(), a.PublicKey().Hex()}}},
		"sign, key not named":   {{community: open, opts: []waku.JoinOption{waku.SignWith(a)}}, {community: keyed(a)}},
		"sign, not among keys":  {{community: keyed(a), opts: []waku.JoinOption{waku.SignWith(b)}, want: []string{"SignWith", "isn't among"}}},
		"protected, then open":  {{community: keyed(a)}, {community: open, want: []string{"asks for no protection", a.PublicKey().Hex()}}},
		"open after leaving":    {{community: keyed(a)}, {leave: true, community: open, want: []string{"asks for no protection"}}},
		"open, then protected":  {{community: open}, {community: keyed(a), want: []string{"asks for protection by key", "with no protection"}}},
		"protected later":       {{community: open}, {leave: true, community: keyed(a)}, {leave: true, community: open, want: []string{"no protection"}}},
		"new key after leaving": {{community: keyed(a)}, {leave: true, community: keyed(b)}, {community: keyed(a), want: []string{b.PublicKey().Hex()}}},
		"no key":                {{community: waku.Community{Shard: town, Protected: true}, want: []string{"Community.PublicKey", "AwaitKey"}}},
		"awaited key": {{community: open, opts: []waku.JoinOption{waku.AwaitKey()}},
			{community: open, want: []string{"a key not known yet"}}, {community: keyed(a)}, {community: keyed(b), want: []string{b.PublicKey().Hex()}}},
		"configured": {{community: waku.Community{Shard: configured}}, {community: waku.Community{Shard: configured}, opts: []waku.JoinOption{waku.SignWith(c)}},
			{community: waku.Community{Shard: configured, PublicKey: a.PublicKey()}, want: []string{"WithProtectedShard", c.PublicKey().Hex()}}},
		"configured, left": {{community: waku.Community{Shard: configured}}, {leave: true, community: waku.Community{Shard: configured}}},
		"nil signer":       {{community: open, opts: []waku.JoinOption{waku.SignWith(nil)}, want: []string{"SignWith", "nil"}}},
		"nil option":       {{community: open, opts: []waku.JoinOption{nil}, want: []string{"nil"}}},
		"nil key":          {{community: waku.Community{Shard: town, Keys: []waku.CommunityKey{{}}}, want: []string{"nil key"}}},
		"buffer":           {{community: open, opts: []waku.JoinOption{waku.WithBuffer(0)}, want: []string{"WithBuffer", "positive"}}},
		"cluster":          {{community: waku.Community{Shard: sharding.Shard{Cluster: 1, Index: 1}}, want: []string{"1/1", "cluster 16", "16/0 to 16/1023"}}},
		"index":            {{community: waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 1024}}, want: []string{"1024"}}},
		"period": {{community: waku.Community{Shard: town, Keys: []waku.CommunityKey{{Key: a.PublicKey(), From: time.Unix(2, 0), Until: time.Unix(1, 0)}}},
			want: []string{a.PublicKey().Hex(), "must end after it begins"}}, {community: open}},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, waku.WithHost(p2ptest.Hosts(t, 1)[0]), waku.WithProtectedShard(configured, c.PublicKey()))
			var joined []*waku.Membership
			for i, s := range steps {
				if s.leave {
					for _, m := range joined {
						require.NoError(t, m.Leave())
					}
				}
				m, err := n.Join(t.Context(), s.community, s.opts...)
				if len(s.want) == 0 {
					require.NoError(t, err, "step %d", i)
					joined = append(joined, m)
					continue
				}
				require.Error(t, err, "step %d", i)
				require.NotContains(t, err.Error(), "\n")
				for _, want := range s.want {
					require.ErrorContains(t, err, want)
				}
			}
		})
	}
}

func TestSendRefusals(t *testing.T) {
	key := newKey(t)
	n := start(t, oneSocket(), waku.WithMaxMessageSize(1000))
	signed := join(t, n, waku.Community{Shard: town, PublicKey: key.PublicKey()}, waku.SignWith(key))
	listener := join(t, n, waku.Community{Shard: town, PublicKey: key.PublicKey()})
	open := join(t, n, waku.Community{Shard: village})

	_, err := listener.Send(t.Context(), lobby, []byte("x"))
	require.ErrorIs(t, err, waku.ErrNoSigningKey)
	require.ErrorContains(t, err, "waku.SignWith")
	for _, m := range []*waku.Membership{signed, open} {
		_, err = m.Send(t.Context(), lobby, nil)
		require.ErrorIs(t, err, message.ErrEmptyPayload)
		_, err = m.Send(t.Context(), "", []byte("x"))
		require.ErrorIs(t, err, message.ErrEmptyContentTopic)
		_, err = m.Send(t.Context(), lobby, []byte("x"), waku.PayloadVersion(2))
		require.ErrorIs(t, err, message.ErrVersion)
		_, err = m.Send(t.Context(), lobby, make([]byte, 1000))
		var large *message.TooLargeError
		require.ErrorAs(t, err, &large)
		require.Equal(t, 1000, large.Limit)
	}
	for _, topic := range []string{"lobby", "chat/1/lobby/proto", "/chat/1/lobby", "/0/chat/1/lobby/proto", "/chat/1//proto"} {
		_, err = signed.Send(t.Context(), topic, []byte("x"))
		var wrong *sharding.TopicError
		require.ErrorAs(t, err, &wrong, topic)
		_, err = open.Send(t.Context(), topic, []byte("x"))
		require.NoError(t, err, "an unprotected shard takes any topic")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = signed.Send(ctx, lobby, []byte("x"))
	require.ErrorIs(t, err, context.Canceled)
}

// Equal payloads at one instant are different messages, and say when.
func TestStamps(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := start(t, waku.WithHost(p2ptest.Hosts(t, 1)[0]))
		m := join(t, n, waku.Community{Shard: village})
		seen := map[message.Hash]bool{}
		last := time.Time{}
		for range 100 {
			d, err := m.Send(t.Context(), lobby, []byte("same"), waku.Ephemeral(), waku.PayloadVersion(1))
			require.NoError(t, err)
			require.True(t, d.Timestamp.After(last))
			require.Equal(t, waku.Queued, d.State())
			last = d.Timestamp
			seen[d.Hash] = true
		}
		require.Len(t, seen, 100)
		require.Less(t, time.Until(last), time.Microsecond)
	})
}
