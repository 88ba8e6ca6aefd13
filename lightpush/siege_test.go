package lightpush_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
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
		const each = 16
		attackers := 125
		if testing.Short() || raceEnabled {
			attackers = 16
		}
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
				"60,000 payloads":                    {wrap(append(many("0a0131", 60_000), good...)), "OK"},
				"60,000 content topics":              {wrap(append(many("120131", 60_000), good...)), "OK"},
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
