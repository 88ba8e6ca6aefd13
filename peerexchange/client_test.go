package peerexchange_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/sharding"
)

// What a record says reaches the caller.
func TestPeers(t *testing.T) {
	full := record(7, func(f *enr.Fields) {
		f.Seq = 1<<64 - 1
		f.IP6 = netip.MustParseAddr("2001:db8::7")
		f.Multiaddrs = []ma.Multiaddr{ma.StringCast("/dns4/node.example.org/tcp/443/wss")}
		f.Capabilities = enr.Relay | enr.Filter | enr.Mix
	})
	bare := forge(8, idPair(), ipPair(), keyPair(8), tcpPair())
	both := forge(9, idPair(), ipPair(), pair("rs", []byte{0, 16, 1, 0, 32}),
		pair("rsv", append([]byte{0, 17, 0xff}, make([]byte, 127)...)), keyPair(9), tcpPair())
	couple(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, from(full, bare, both), peerexchange.ServerConfig{})
		c := peerexchange.NewClient(client, peerexchange.ClientConfig{})
		got, err := c.Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
		require.Equal(t, peerexchange.Answer{Peers: []peerexchange.Peer{{
			Info: peer.AddrInfo{ID: idOf(7), Addrs: []ma.Multiaddr{
				ma.StringCast("/ip4/192.0.0.7/tcp/30303"),
				ma.StringCast("/ip6/2001:db8::7/tcp/30303"),
				ma.StringCast("/dns4/node.example.org/tcp/443/wss"),
			}},
			ENR:          full,
			Seq:          1<<64 - 1,
			Shards:       []sharding.Shard{{Cluster: 16, Index: 7}, {Cluster: 16, Index: 32}},
			Capabilities: peerexchange.Relay | peerexchange.Filter | peerexchange.Mix,
		}, {
			Info: peer.AddrInfo{ID: idOf(8), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/30303")}},
			ENR:  bare,
			Seq:  1,
		}, {
			Info:   peer.AddrInfo{ID: idOf(9), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/30303")}},
			ENR:    both,
			Seq:    1,
			Shards: []sharding.Shard{{Cluster: 16, Index: 32}}, // rs counts alone
		}}}, got)
		require.Equal(t, peerexchange.ClientStats{Answered: 1, Peers: 3}, c.Stats())
	})
	require.Equal(t, "relay+filter+mix", (peerexchange.Relay | peerexchange.Filter | peerexchange.Mix).String())
	require.Equal(t, "none", peerexchange.Capabilities(0).String())
	require.True(t, (peerexchange.Relay | peerexchange.Sync).Has(peerexchange.Sync))
	require.False(t, peerexchange.Lightpush.Has(peerexchange.Lightpush|peerexchange.Store))
	require.EqualValues(t, enr.Relay|enr.Store|enr.Filter|enr.Lightpush|enr.Sync|enr.Mix, peerexchange.Relay|
		peerexchange.Store|peerexchange.Filter|peerexchange.Lightpush|peerexchange.Sync|peerexchange.Mix)
}

// flip spoils a record's signature.
func flip(r []byte) []byte {
	r = slices.Clone(r)
	r[10] ^= 1
	return r
}

// bad are records that nobody should be handed, by what is wrong with them.
func bad() map[string][][]byte {
	both := func(rs ...byte) []byte {
		return append(pair("rs", rs), pair("rsv", append([]byte{0, 16}, make([]byte, 128)...))...)
	}
	good := record(9)
	id, ip, key, tcp := idPair(), ipPair(), keyPair(9), tcpPair()
	return map[string][][]byte{
		peerexchange.RefusedMalformed: {
			nil,
			{0},
			[]byte("enr:-Ku4QMh15cIjmnq"),
			good[:len(good)-1],
			append(slices.Clone(good), 0),
			make([]byte, 300),
			list(nil),
			forge(9, pair("id", []byte("v5")), ip, key, tcp),
			forge(9, ip, key, tcp),
			forge(9, ip, id, key, tcp),     // keys out of order
			forge(9, id, ip, ip, key, tcp), // twice
		},
		peerexchange.RefusedTooLarge: {
			append(slices.Clone(good), make([]byte, 300)...),
			forge(9, id, ip, key, tcp, pair("x", make([]byte, 200))),
		},
		peerexchange.RefusedKey: {
			forge(9, id, ip, tcp),
			forge(9, id, ip, pair("secp256k1", make([]byte, 33)), tcp),
			forge(9, id, ip, pair("secp256k1", []byte{2}), tcp),
		},
		peerexchange.RefusedSignature: {
			flip(good),
			forge(9, id, ip, keyPair(10), tcp), // somebody else's name
		},
		peerexchange.RefusedShards: {
			forge(9, id, ip, both(0, 16, 2, 0, 32), key, tcp), // rs counts alone
			forge(9, id, ip, pair("rs", []byte{0, 16, 9, 0, 32}), key, tcp),
			forge(9, id, ip, pair("rs", []byte{0, 16, 1, 4, 0}), key, tcp), // shard 1024
			forge(9, id, ip, pair("rsv", make([]byte, 12)), key, tcp),
		},
		peerexchange.RefusedNoAddress: {
			forge(9, id, key),
			forge(9, id, ip, key),
			forge(9, id, key, tcp),
			forge(9, id, pair("ip", []byte{0, 0, 0, 0}), key, tcp),
		},
	}
}

// What is of no use is counted, and spoils nothing else.
func TestBadRecords(t *testing.T) {
	for why, all := range bad() {
		for i, raw := range all {
			good := [][]byte{record(100), record(101)}
			r := peerexchange.Response{Records: [][]byte{good[0], raw, good[1]}}
			got := peerexchange.Check(r, 20, "me")
			require.Equal(t, map[string]int{why: 1}, got.Refused, "%s %d: %x", why, i, raw)
			require.Equal(t, good, encoded(got.Peers))
		}
	}
	couple(t, func(t *testing.T, client, server host.Host) {
		want := make(map[string]int)
		sent := [][]byte{record(100)}
		for why, all := range bad() {
			for _, raw := range all {
				want[why]++
				sent = append(sent, raw)
			}
		}
		sent = append(sent, record(101))
		answerBy(server, func([]byte) []byte { return answer(sent...) })
		c := peerexchange.NewClient(client, fast)
		got, err := c.Ask(t.Context(), server.ID(), 60)
		require.NoError(t, err)
		require.Equal(t, want, got.Refused)
		require.Equal(t, [][]byte{record(100), record(101)}, encoded(got.Peers))
		require.Equal(t, peerexchange.ClientStats{Answered: 1, Peers: 2, Discarded: uint64(len(sent) - 2)}, c.Stats())
	})
}

// Each peer is there once, oneself isn't, and there are no more than asked for.
func TestOncePerPeer(t *testing.T) {
	seq := func(n int, seq uint64) []byte { return record(n, func(f *enr.Fields) { f.Seq = seq }) }
	for name, c := range map[string]struct {
		sent, want [][]byte
		n          int
		refused    map[string]int
	}{
		"twice":            {[][]byte{seq(1, 5), seq(2, 5), seq(1, 5)}, [][]byte{seq(1, 5), seq(2, 5)}, 9, map[string]int{"duplicate": 1}},
		"newer, then old":  {[][]byte{seq(1, 6), seq(2, 5), seq(1, 5)}, [][]byte{seq(1, 6), seq(2, 5)}, 9, map[string]int{"duplicate": 1}},
		"old, then newer":  {[][]byte{seq(1, 5), seq(2, 5), seq(1, 6)}, [][]byte{seq(1, 6), seq(2, 5)}, 9, map[string]int{"duplicate": 1}},
		"oneself":          {[][]byte{seq(1, 5), seq(3, 5)}, [][]byte{seq(1, 5)}, 9, map[string]int{"self": 1}},
		"surplus":          {[][]byte{seq(1, 5), seq(2, 5), seq(4, 5)}, [][]byte{seq(1, 5)}, 1, map[string]int{"surplus": 2}},
		"bad ones not one": {[][]byte{flip(seq(1, 5)), seq(2, 5), seq(4, 5)}, [][]byte{seq(2, 5)}, 1, map[string]int{"signature": 1, "surplus": 1}},
		"nothing":          {nil, nil, 9, nil},
	} {
		got := peerexchange.Check(peerexchange.Response{Records: c.sent}, c.n, idOf(3))
		require.Equal(t, c.want, encoded(got.Peers), name)
		require.Equal(t, c.refused, got.Refused, name)
	}
	got := peerexchange.Check(peerexchange.Response{Records: records(100, 2), More: 1 << 40}, 2, "me")
	require.Len(t, got.Peers, 2)
	require.Equal(t, map[string]int{"surplus": 1 << 40}, got.Refused)
}

func TestUnsupported(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		c := peerexchange.NewClient(client, peerexchange.ClientConfig{})
		start := time.Now()
		for range 20 { // which doesn't cost a turn
			_, err := c.Ask(t.Context(), server.ID(), 1)
			require.ErrorIs(t, err, peerexchange.ErrUnsupported)
			var exchange *peerexchange.ExchangeError
			require.ErrorAs(t, err, &exchange)
			require.Equal(t, server.ID(), exchange.Peer)
			require.ErrorContains(t, err, "peerexchange: asking "+server.ID().String()+": the peer offers no peer exchange")
		}
		require.Zero(t, time.Since(start))
		require.Equal(t, peerexchange.ClientStats{Failed: 20}, c.Stats())
	})
}

// There need not be a connection.
func TestDials(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		client, server := hosts[0], hosts[1]
		serve(t, server, from(records(100, 9)...), peerexchange.ServerConfig{})
		client.Peerstore().AddAddrs(server.ID(), server.Addrs(), peerstore.PermanentAddrTTL)
		c := peerexchange.NewClient(client, fast)
		_, err := c.Ask(network.WithNoDial(t.Context(), "test"), server.ID(), 3)
		require.ErrorContains(t, err, "open: ")
		got, err := c.Ask(t.Context(), server.ID(), 3)
		require.NoError(t, err)
		require.Equal(t, records(100, 3), encoded(got.Peers))
	})
}

var errGone = errors.New("gone")

// The context bounds everything.
func TestContext(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		server.SetStreamHandler(peerexchange.ID, func(s network.Stream) {
			io.Copy(io.Discard, s) // no answer
			s.Read(make([]byte, 1))
		})
		c := peerexchange.NewClient(client, fast)
		ctx, stop := context.WithCancelCause(t.Context())
		stop(errGone)
		_, err := c.Ask(ctx, server.ID(), 1)
		require.Equal(t, errGone, err)

		ctx, stop = context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(errGone) })
		start := time.Now()
		_, err = c.Ask(ctx, server.ID(), 1)
		require.ErrorIs(t, err, errGone)
		require.Equal(t, time.Second, time.Since(start))

		silent := make(chan struct{})
		server.SetStreamHandler(peerexchange.ID, func(s network.Stream) { <-silent; s.Reset() })
		defer close(silent)
		start = time.Now()
		_, err = c.Ask(t.Context(), server.ID(), 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, peerexchange.DefaultTimeout, time.Since(start))
	})
}

// A service answers with a million peers, with what is no answer, or with none.
func TestHostileAnswers(t *testing.T) {
	million := make([]byte, 0, 2<<20)
	for range 1_000_000 {
		million = append(million, 0x0a, 0)
	}
	long := make([]byte, 0, 64<<10)
	for len(long) < 60<<10 {
		long = append(long, 0x0a, 0)
	}
	inner := func(b ...byte) []byte { return lengthed(2, b) }
	for name, c := range map[string]struct {
		answer []byte
		err    error
	}{
		"a million peers":                {lengthed(2, million), peerexchange.ErrTooLarge},
		"a million peers, by number":     {answer(slices.Repeat(records(100, 20), 30)...), peerexchange.ErrTooLarge},
		"nothing at all":                 {nil, peerexchange.ErrMalformed},
		"no response":                    {unhex("0a020800"), peerexchange.ErrMalformed},
		"a response that is a number":    {unhex("1005"), peerexchange.ErrMalformed},
		"a response cut short":           {unhex("12050a"), peerexchange.ErrMalformed},
		"a peer that is a number":        {inner(8, 5), peerexchange.ErrMalformed},
		"a peer cut short":               {inner(0x0a, 5, 0), peerexchange.ErrMalformed},
		"a status that is text":          {inner(0x52, 1, '2'), peerexchange.ErrMalformed},
		"a description that is a number": {inner(0x58, 1), peerexchange.ErrMalformed},
		"an empty response":              {inner(), peerexchange.ErrUnavailable},
		"a group without an end":         {inner(0x0b), peerexchange.ErrMalformed},
		"text":                           {[]byte("HTTP/1.1 200 OK"), peerexchange.ErrMalformed},
		"zeros":                          {make([]byte, 1000), peerexchange.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			couple(t, func(t *testing.T, client, server host.Host) {
				answerBy(server, func([]byte) []byte { return c.answer })
				got, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 20)
				require.ErrorIs(t, err, c.err)
				require.Zero(t, got)
			})
		})
	}
	couple(t, func(t *testing.T, client, server host.Host) {
		answerBy(server, func([]byte) []byte { return lengthed(2, long) })
		got, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
		require.Empty(t, got.Peers)
		require.Equal(t, map[string]int{"malformed": 60, "surplus": len(long)/2 - 60}, got.Refused)

		// Records within what may be read, and more than were asked for.
		answerBy(server, func([]byte) []byte { return answer(slices.Repeat(records(100, 20), 8)...) })
		got, err = peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
		require.Equal(t, records(100, 20), encoded(got.Peers))
		require.Equal(t, map[string]int{"surplus": 140}, got.Refused)

		// An endless one isn't read.
		server.SetStreamHandler(peerexchange.ID, func(s network.Stream) {
			s.Write(binary.AppendUvarint(nil, 1<<40))
			for b := make([]byte, 1<<16); ; {
				if _, err := s.Write(b); err != nil {
					return
				}
			}
		})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 20)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, peerexchange.ErrTooLarge)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20)) // the network's buffers are in it
	})
}

// Length prefixes that must not be believed.
func TestAnswerBombs(t *testing.T) {
	for _, bomb := range p2ptest.Bombs() {
		couple(t, func(t *testing.T, client, server host.Host) {
			server.SetStreamHandler(peerexchange.ID, func(s network.Stream) {
				s.Write(bomb)
				io.Copy(io.Discard, s)
			})
			_, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 20)
			if !errors.Is(err, peerexchange.ErrTooLarge) {
				require.ErrorIs(t, err, peerexchange.ErrMalformed)
			}
		})
	}
}

// old is a service like go-waku: one request a second, and whoever asks more often is
// hung up on.
type old struct {
	mu               sync.Mutex
	tokens           float64
	at               time.Time
	answered, resets int
}

func (o *old) handle(s network.Stream) {
	o.mu.Lock()
	now := time.Now()
	o.tokens, o.at = min(1, o.tokens+now.Sub(o.at).Seconds()), now
	ok := o.tokens >= 1
	if ok {
		o.tokens--
		o.answered++
	} else {
		o.resets++
	}
	o.mu.Unlock()
	if !ok {
		s.Reset()
		return
	}
	if _, err := wire.ReadFrame(s, 1<<10); err != nil {
		s.Reset()
		return
	}
	wire.WriteFrame(s, answer(record(100)))
	s.Close()
}

// A client on its own doesn't exceed what a service allows, and asks others
// meanwhile.
func TestPace(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		o := &old{}
		hosts[1].SetStreamHandler(peerexchange.ID, o.handle)
		s := serve(t, hosts[2], from(record(101)), peerexchange.ServerConfig{Burst: 1, Patience: -1})
		c := peerexchange.NewClient(hosts[0], peerexchange.ClientConfig{})
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := c.Ask(t.Context(), hosts[1+i%2].ID(), 1)
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		require.InDelta(t, 11.25, time.Since(start).Seconds(), 0.001)
		require.Equal(t, 10, o.answered)
		require.Zero(t, o.resets)
		require.Equal(t, map[peerexchange.StatusCode]uint64{200: 10}, s.Stats().Answers)

		// Whoever can't wait so long knows at once, and takes nobody's turn.
		_, err := c.Ask(t.Context(), hosts[1].ID(), 1)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = c.Ask(ctx, hosts[1].ID(), 1)
		var turn *peerexchange.TurnError
		require.ErrorAs(t, err, &turn)
		require.Equal(t, &peerexchange.TurnError{Peer: hosts[1].ID(), After: 1250 * time.Millisecond}, turn)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "its turn comes in 1.25s")
		require.Zero(t, time.Since(start))

		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(errGone) })
		_, err = c.Ask(ctx, hosts[1].ID(), 1)
		require.Equal(t, errGone, err)
		_, err = c.Ask(t.Context(), hosts[1].ID(), 1)
		require.NoError(t, err)
		require.Equal(t, 1250*time.Millisecond, time.Since(start).Round(time.Millisecond))
	})
}

// The next question comes when the peer has asked for it, and not before.
func TestRetryAfterIsHonoured(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		var wish []byte
		answerBy(server, func([]byte) []byte { return wish })
		c := peerexchange.NewClient(client, peerexchange.ClientConfig{Rate: 10})
		for words, next := range map[string]time.Duration{
			"retry after 7s":                    7 * time.Second,
			"TOO_MANY_REQUESTS, retry after 1h": time.Minute, // so much and no more is believed
			"":                                  5 * time.Second,
		} {
			wish = lengthed(2, append(varint(10, 429), lengthed(11, []byte(words))...))
			_, err := c.Ask(t.Context(), server.ID(), 1)
			require.ErrorIs(t, err, peerexchange.ErrTooManyRequests)
			wish = answer(record(100))
			start := time.Now()
			_, err = c.Ask(t.Context(), server.ID(), 1)
			require.NoError(t, err)
			require.Equal(t, next, time.Since(start).Round(time.Millisecond), words)
			time.Sleep(time.Second)
		}
	})
}

// Sizes that a configuration allows are read.
func TestLargeAnswers(t *testing.T) {
	var fat [][]byte
	for i := range 30 {
		fat = append(fat, record(i+300, func(f *enr.Fields) {
			for range 8 {
				f.Multiaddrs = append(f.Multiaddrs, ma.StringCast("/dns4/a.long.name.example.org/tcp/443/wss"))
			}
		}))
		require.Greater(t, len(fat[i]), 280)
	}
	couple(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, from(fat...), peerexchange.ServerConfig{MaxPeers: 30, Rate: -1})
		for _, n := range []int{10, 30} {
			c := peerexchange.NewClient(client, peerexchange.ClientConfig{MaxPeers: n, Rate: -1})
			got, err := c.Ask(t.Context(), server.ID(), 5000)
			require.NoError(t, err)
			require.Equal(t, fat[:n], encoded(got.Peers))
			require.Empty(t, got.Refused)
		}
	})
}
