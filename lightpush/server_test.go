package lightpush_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// The two versions draw on one bucket for each peer.
func TestRateLimit(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], to(1), lightpush.ServerConfig{Rate: 4, Burst: 4, Patience: -1})
		good := func(h host.Host, version int) bool {
			return parse(t, version, ask(t, h, hosts[0], version, push(version, []byte("1"), []byte(topic), hello().Encode()))).desc == "OK"
		}
		for i, version := range []int{3, 2, 2, 3, 2, 3} {
			require.Equal(t, i < 4, good(hosts[1], version))
		}
		require.True(t, good(hosts[2], 2), "each peer has its own")
		for version, code := range map[int]uint64{3: 429, 2: 0} {
			for _, request := range [][]byte{push(version, []byte("1"), nil, nil), unhex("ff"), nil} {
				r := parse(t, version, ask(t, hosts[1], hosts[0], version, request))
				require.Equal(t, reply{id: "N/A", code: code, desc: "TOO_MANY_REQUESTS, retry after 250ms", peers: -1}, r)
			}
		}
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 5, 429: 8}, s.Stats().Answers)

		c := lightpush.NewClient(hosts[1], fast)
		_, err := c.Push(t.Context(), hosts[0].ID(), shard, hello())
		var status *lightpush.StatusError
		require.ErrorAs(t, err, &status)
		require.Equal(t, 250*time.Millisecond, status.RetryAfter)
		start := time.Now()
		_, err = c.Push(t.Context(), hosts[0].ID(), shard, hello())
		require.NoError(t, err)
		require.Equal(t, 250*time.Millisecond, time.Since(start))
	})
}

// Who pushes one thing after the other is slowed down and never refused.
func TestPatience(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{Rate: 4, Burst: 3})
		began := time.Now()
		c := lightpush.NewClient(client, fast)
		for range 23 {
			_, err := c.Push(t.Context(), server.ID(), shard, hello())
			require.NoError(t, err)
		}
		require.InDelta(t, 5, time.Since(began).Seconds(), 0.01)
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 23}, s.Stats().Answers)
	})
}

// A relayer may do what it likes; the peer gets an answer and no secrets.
func TestRelayerMisbehaves(t *testing.T) {
	secret := errors.New("open /var/lib/secret: the disk is on fire")
	both(t, func(t *testing.T, version int) {
		for name, c := range map[string]struct {
			relay lightpush.Relayer
			code  lightpush.StatusCode
			after time.Duration
			told  string
		}{
			"fails":            {failing(secret), 500, 0, "secret"},
			"wraps":            {failing(fmt.Errorf("relay: %w", secret)), 500, 0, "secret"},
			"panics":           {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { panic(secret) }, 500, 0, "secret"},
			"panics with nil":  {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { panic(nil) }, 500, 0, "panic"},
			"is none":          {nil, 500, 0, "nil pointer"},
			"hangs, but obeys": {slow, 503, 5 * time.Second, "too long"},
			"hangs": {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
				time.Sleep(time.Hour)
				return 1, nil
			}, 503, 5 * time.Second, "too long"},
			"says too much":   {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { return math.MaxInt, nil }, 200, 0, ""},
			"is of two minds": {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { return 5, secret }, 500, 0, "secret"},
			"ends at the limit": {func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
				time.Sleep(5*time.Second - 1)
				return 1, nil
			}, 200, 5*time.Second - 1, ""},
		} {
			pair(t, func(t *testing.T, client, server host.Host) {
				told := ""
				s := serve(t, server, c.relay, lightpush.ServerConfig{OnFailure: func(from peer.ID, err error) {
					require.Equal(t, client.ID(), from)
					told += err.Error()
				}})
				only(server, version)
				start := time.Now()
				r, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
				require.Equal(t, c.after, time.Since(start), name)
				if c.code == 200 {
					require.NoError(t, err, name)
					require.NotZero(t, r.RelayPeers)
				} else {
					var status *lightpush.StatusError
					require.ErrorAs(t, err, &status, name)
					require.Equal(t, c.code, status.Code, name)
					want := "INTERNAL_SERVER_ERROR"
					if c.code == 503 {
						want = "SERVICE_NOT_AVAILABLE, retry after 1s"
					}
					require.Equal(t, want, status.Desc, name)
				}
				require.Contains(t, told, c.told, name)
				require.Equal(t, c.told == "", told == "", name)
				require.Equal(t, uint64(1), s.Stats().Answers[c.code])
			})
		}
	})
}

// Relayers that never return take up their turns and nobody's answer.
func TestBusyRelayer(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 6)
		p2ptest.Star(t, hosts)
		free := make(chan struct{})
		var running atomic.Int64
		s := serve(t, hosts[0], func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
			require.LessOrEqual(t, running.Add(1), int64(2))
			defer running.Add(-1)
			<-free
			return 1, nil
		}, lightpush.ServerConfig{Concurrency: 2})
		var wg sync.WaitGroup
		for i, h := range hosts[1:] {
			want := 5 * time.Second // its own time
			if i >= 2 {
				want = 2 * time.Second // waiting for a turn
			}
			wg.Go(func() {
				start := time.Now()
				_, err := lightpush.NewClient(h, fast).Push(t.Context(), hosts[0].ID(), shard, hello())
				assert.ErrorIs(t, err, lightpush.ErrUnavailable)
				assert.Equal(t, want, time.Since(start))
			})
			synctest.Wait()
		}
		wg.Wait()
		close(free)
		synctest.Wait()
		_, err := lightpush.NewClient(hosts[1], fast).Push(t.Context(), hosts[0].ID(), shard, hello())
		require.NoError(t, err)
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 1, 503: 5}, s.Stats().Answers)
	})
}

func TestClose(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		returned := false
		s := lightpush.NewServer(server, func(ctx context.Context, _ peer.ID, _ sharding.Shard, _ *message.Message) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			returned = true
			return 0, ctx.Err()
		}, lightpush.ServerConfig{})
		c := lightpush.NewClient(client, fast)
		result := make(chan error)
		go func() {
			_, err := c.Push(t.Context(), server.ID(), shard, hello())
			result <- err
		}()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.Close())
		require.True(t, returned, "Close waits for the relayer")
		require.NoError(t, s.Close())
		require.Equal(t, time.Second, time.Since(start))
		var exchange *lightpush.ExchangeError
		require.ErrorAs(t, <-result, &exchange)
		_, err := c.Push(t.Context(), server.ID(), shard, hello())
		require.ErrorIs(t, err, lightpush.ErrUnsupported)
	})
}

func TestLengthBombs(t *testing.T) {
	both(t, func(t *testing.T, version int) {
		pair(t, func(t *testing.T, attacker, server host.Host) {
			s := serve(t, server, to(1), lightpush.ServerConfig{})
			require.Less(t, p2ptest.ThrowBombs(t, attacker, server, protocolOf(version), 1000), int64(16<<20))
			synctest.Wait()
			require.NotZero(t, s.Stats().Failed)
			_, err := lightpush.NewClient(attacker, fast).Push(t.Context(), server.ID(), shard, hello())
			require.NoError(t, err)
		})
	})
}

// Slow senders and silent ones are gone in time, and keep nobody out.
func TestSlowSenders(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const attackers, each = 64, 16
		hosts := p2ptest.Hosts(t, attackers+2)
		p2ptest.Star(t, hosts)
		server, honest := hosts[0], hosts[1]
		s := serve(t, server, to(1), lightpush.ServerConfig{})
		synctest.Wait()
		before := p2ptest.Goroutines()
		request := append([]byte{100}, push(3, []byte("1"), []byte(topic), hello().Encode())...)
		var wg sync.WaitGroup
		began := time.Now()
		for _, a := range hosts[2:] {
			for i := range each {
				st, err := p2ptest.OpenStream(t.Context(), a, server.ID(), protocolOf(2+i%2))
				if err != nil {
					continue
				}
				wg.Go(func() {
					defer st.Reset()
					if i < 4 {
						_, err := st.Read(make([]byte, 1))
						assert.Error(t, err)
						return
					}
					p2ptest.Drip(st, request, 3*time.Second)
				})
			}
		}
		synctest.Wait()
		_, err := lightpush.NewClient(honest, fast).Push(t.Context(), server.ID(), shard, hello())
		require.NoError(t, err)
		wg.Wait()
		require.LessOrEqual(t, time.Since(began), 12*time.Second)
		synctest.Wait()
		require.Equal(t, uint64(attackers*each), s.Stats().Failed)
		require.InDelta(t, before, p2ptest.Goroutines(), float64(before)/20)
	})
}

// Beyond what one peer may have at once, streams are refused unread.
func TestPerPeer(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{PerPeer: 3})
		var streams []network.Stream
		for range 10 {
			st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), lightpush.ID)
			if err == nil {
				streams = append(streams, st)
			}
		}
		synctest.Wait()
		require.Equal(t, uint64(7), s.Stats().Failed)
		for _, st := range streams {
			st.Reset()
		}
		synctest.Wait()
		require.Equal(t, uint64(10), s.Stats().Failed)
		_, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
		require.NoError(t, err)
	})
}

// Any number anywhere is answered.
func TestNumbersAtTheirEnds(t *testing.T) {
	numbers := []uint64{
		0, 1, 2, 127, 128, 1 << 31, 1<<31 - 1, 1 << 32, 1<<32 - 1,
		1 << 62, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1,
	}
	varint := func(b []byte, f protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, f, protowire.VarintType), v)
	}
	both(t, func(t *testing.T, version int) {
		pair(t, func(t *testing.T, client, server host.Host) {
			var got *message.Message
			serve(t, server, func(_ context.Context, _ peer.ID, _ sharding.Shard, m *message.Message) (int, error) {
				got = m
				return 1, nil
			}, lightpush.ServerConfig{Rate: -1})
			send := func(request []byte) reply { return parse(t, version, ask(t, client, server, version, request)) }
			cases := 0
			for _, v := range numbers {
				// In the message: a field's value, known or not.
				for _, f := range []protowire.Number{3, 10, 31, 4, 50, protowire.MaxValidNumber} {
					for _, w := range numbers[:2] {
						m := varint(varint(hello().Encode(), f, v), f^1, w)
						r := send(push(version, []byte("1"), []byte(topic), m))
						require.Equal(t, "OK", r.desc)
						require.NotNil(t, got)
						if f == 10 {
							require.Equal(t, protowire.DecodeZigZag(v), got.Timestamp)
						}
						cases++
					}
				}
				// In the request: fields of others' making, and known ones of the wrong kind.
				for _, f := range []protowire.Number{1, 2, 3, 10, 11, 12, 19, 20, 21, 22, 100, protowire.MaxValidNumber} {
					r := send(varint(push(version, []byte("1"), []byte(topic), hello().Encode()), f, v))
					known := map[int][]protowire.Number{2: {1, 2}, 3: {1, 20, 21}}[version]
					if slices.Contains(known, f) {
						require.Contains(t, r.desc, "BAD_REQUEST: malformed", "%d", f)
					} else {
						require.Equal(t, "OK", r.desc, "%d", f)
					}
					cases++
				}
				// In the topic.
				r := send(push(version, []byte("1"), fmt.Appendf(nil, "/waku/2/rs/%d/%d", v, v), hello().Encode()))
				require.Equal(t, v < 1024, r.desc == "OK", "%d", v)
				cases++
			}
			require.GreaterOrEqual(t, cases, 300)
		})
	})
}

// What is oddly built is read as message.Decode reads it, or refused in words.
func TestHostileStructure(t *testing.T) {
	good := hello().Encode()
	groups := bytes.Repeat(unhex("a306"), 50_000)
	closed := append(bytes.Repeat(unhex("a306"), 5000), bytes.Repeat(unhex("a406"), 5000)...)
	many := func(field string, n int) []byte { return bytes.Repeat(unhex(field), n) }
	both(t, func(t *testing.T, version int) {
		wrap := func(m []byte) []byte { return push(version, []byte("1"), []byte(topic), m) }
		pair(t, func(t *testing.T, client, server host.Host) {
			var told []error
			s := serve(t, server, to(1), lightpush.ServerConfig{Rate: -1, OnFailure: func(_ peer.ID, err error) { told = append(told, err) }})
			for name, c := range map[string]struct {
				request []byte
				words   string
			}{
				"100,000 ids":                        {append(many("0a0131", 100_000), wrap(good)...), "OK"},
				"100,000 empty ids":                  {append(wrap(good), many("0a00", 100_000)...), "OK"},
				"100,000 numbers for ids":            {append(wrap(good), many("0801", 100_000)...), "BAD_REQUEST: malformed: request_id"},
				"100,000 unknown fields":             {append(wrap(good), many("c83e01", 100_000)...), "OK"},
				"nested groups":                      {append(wrap(good), closed...), "OK"},
				"groups without an end":              {append(wrap(good), groups...), "BAD_REQUEST: malformed"},
				"an end without a beginning":         {append(wrap(good), 0x0c), "BAD_REQUEST: malformed"},
				"field 0":                            {append(wrap(good), 0, 0), "BAD_REQUEST: malformed"},
				"a length beyond the end":            {append(wrap(good), 0xb2, 1, 0x7f), "BAD_REQUEST: malformed"},
				"nothing":                            {nil, "BAD_REQUEST"},
				"text":                               {[]byte("GET / HTTP/1.1\r\n\r\n"), "BAD_REQUEST: malformed"},
				"zeros":                              {make([]byte, 300_000), "BAD_REQUEST: malformed"},
				"a message of groups":                {wrap(append(closed, good...)), "OK"},
				"a message of groups that don't end": {wrap(append(good, groups...)), "BAD_REQUEST: message: malformed"},
				"100,000 payloads":                   {wrap(append(many("0a0131", 60_000), good...)), "OK"},
				"100,000 content topics":             {wrap(append(many("120131", 60_000), good...)), "OK"},
				"a content topic that is no text":    {wrap(append(good, unhex("1201ff")...)), "BAD_REQUEST: message: malformed"},
				"an empty payload at last":           {wrap(append(good, unhex("0a00")...)), "INVALID_MESSAGE"},
				"a long topic":                       {push(version, []byte("1"), bytes.Repeat([]byte("/waku/2/rs/16/32"), 10_000), good), "UNSUPPORTED_PUBSUB_TOPIC"},
			} {
				r := parse(t, version, ask(t, client, server, version, c.request))
				require.Contains(t, r.desc, c.words, name)
				require.Less(t, len(r.desc), 200)
			}
			require.Empty(t, told, "a stranger's mistakes are his own")
			require.Zero(t, s.Stats().Failed)
		})
	})
}

// Requests that are too long cost as much as others.
func TestLongRequestsAreCounted(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{})
		const n = 50
		answered := 0
		for i := range n {
			st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), protocolOf(2+i%2))
			require.NoError(t, err)
			if wire.WriteFrame(st, make([]byte, 500_000)) == nil && st.CloseWrite() == nil {
				if b, err := wire.ReadFrame(st, 1000); err == nil {
					require.Contains(t, parse(t, 2+i%2, b).desc, "PAYLOAD_TOO_LARGE: a request of 500000 bytes")
					answered++
				}
			}
			st.Reset()
			synctest.Wait()
		}
		require.Equal(t, lightpush.DefaultServerBurst, answered)
		require.Equal(t, uint64(answered), s.Stats().Answers[413])
		require.Equal(t, uint64(n), s.Stats().Failed)
	})
}

// A server whose memory is short says so instead of hanging up.
func TestNoMemory(t *testing.T) {
	both(t, func(t *testing.T, version int) {
		p2ptest.Bubble(t, func(t *testing.T) {
			m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.PartialLimitConfig{
				Service: map[string]rcmgr.ResourceLimits{"waku.lightpush": {Memory: 1000}},
			}.Build(rcmgr.DefaultLimits.AutoScale())), rcmgr.WithMetricsDisabled())
			require.NoError(t, err)
			n := p2ptest.New(t, p2ptest.Config{})
			client, server := n.Host(p2ptest.HostConfig{}), n.Host(p2ptest.HostConfig{Resources: m})
			p2ptest.Connect(t, client, server)
			serve(t, server, to(1), lightpush.ServerConfig{})
			only(server, version)
			c := lightpush.NewClient(client, fast)
			_, err = c.Push(t.Context(), server.ID(), shard, large(2000))
			require.ErrorIs(t, err, lightpush.ErrUnavailable)
			_, err = c.Push(t.Context(), server.ID(), shard, hello())
			require.NoError(t, err)
			got := ask(t, client, server, version, push(version, []byte(strings.Repeat("x", 200)), []byte(topic), large(750).Encode()))
			require.Contains(t, parse(t, version, got).desc, "no memory")
		})
	})
}

// An answer isn't held up by who doesn't read it.
func TestAnswerNotRead(t *testing.T) {
	pair(t, func(t *testing.T, attacker, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{})
		for range 8 {
			st, err := p2ptest.OpenStream(t.Context(), attacker, server.ID(), lightpush.ID)
			require.NoError(t, err)
			defer st.Reset()
			require.NoError(t, wire.WriteFrame(st, push(3, []byte("1"), []byte(topic), hello().Encode())))
		}
		synctest.Wait()
		require.Equal(t, map[lightpush.StatusCode]uint64{200: 8}, s.Stats().Answers)
		_, err := lightpush.NewClient(attacker, fast).Push(t.Context(), server.ID(), shard, hello())
		require.NoError(t, err)
	})
}

// A stream may end in the middle of anything.
func TestHalfRequests(t *testing.T) {
	request := push(3, []byte("1"), []byte(topic), hello().Encode())
	frame := wire.AppendFrame(nil, request)
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{Rate: -1})
		for n := range len(frame) {
			st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), lightpush.ID)
			require.NoError(t, err)
			st.Write(frame[:n])
			require.NoError(t, st.CloseWrite())
			b, _ := io.ReadAll(st)
			require.Empty(t, b)
			st.Reset()
		}
		synctest.Wait()
		require.Equal(t, uint64(len(frame)), s.Stats().Failed)
		require.Empty(t, s.Stats().Answers)
	})
}

// Fifty clients push in both versions; every message arrives once.
func TestManyClients(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const clients, each = 50, 30
		hosts := p2ptest.Hosts(t, clients+1)
		p2ptest.Star(t, hosts)
		var (
			mu  sync.Mutex
			got = map[string]int{}
		)
		s := serve(t, hosts[0], func(_ context.Context, from peer.ID, _ sharding.Shard, m *message.Message) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			got[string(from)+string(m.Payload)]++
			return 3, nil
		}, lightpush.ServerConfig{})
		synctest.Wait() // all know what the server speaks
		var wg sync.WaitGroup
		for i, h := range hosts[1:] {
			if i%2 == 0 {
				require.NoError(t, h.Peerstore().RemoveProtocols(hosts[0].ID(), lightpush.ID))
			}
			wg.Go(func() {
				c := lightpush.NewClient(h, lightpush.ClientConfig{})
				for j := range each {
					m := hello()
					m.Payload = fmt.Appendf(nil, "%d", j)
					r, err := c.Push(t.Context(), hosts[0].ID(), shard, m)
					if err != nil || r.Version != 3-(i+1)%2 {
						t.Errorf("%v %v", r, err)
						return
					}
				}
			})
		}
		wg.Wait()
		require.Len(t, got, clients*each)
		for k, n := range got {
			require.Equal(t, 1, n, k)
		}
		require.Equal(t, map[lightpush.StatusCode]uint64{200: clients * each}, s.Stats().Answers)
		require.Equal(t, uint64(clients*each/2), s.Stats().Legacy)
	})
}
