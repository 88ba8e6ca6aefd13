package lightpush_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// The newest version that both speak is spoken, whether the client knows what the
// server speaks, is mistaken about it, or has yet to dial.
func TestVersions(t *testing.T) {
	for name, c := range map[string]struct {
		served []int
		known  []int // nil: nothing
		want   int
	}{
		"both":                       {[]int{2, 3}, []int{2, 3}, 3},
		"both, unknown":              {[]int{2, 3}, nil, 3},
		"the new one":                {[]int{3}, []int{3}, 3},
		"the new one, unknown":       {[]int{3}, nil, 3},
		"the old one":                {[]int{2}, []int{2}, 2},
		"the old one, unknown":       {[]int{2}, nil, 2},
		"the old one, since lately":  {[]int{2}, []int{2, 3}, 2},
		"the new one, since lately":  {[]int{3}, []int{2}, 3},
		"the new one for another id": {[]int{3}, []int{2, 3}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				hosts := p2ptest.Hosts(t, 2)
				client, server := hosts[0], hosts[1]
				serve(t, server, to(4), lightpush.ServerConfig{})
				if len(c.served) == 1 {
					only(server, c.served[0])
				}
				client.Peerstore().AddAddrs(server.ID(), server.Addrs(), peerstore.PermanentAddrTTL)
				if c.known != nil {
					p2ptest.Connect(t, client, server)
					require.NoError(t, client.Peerstore().RemoveProtocols(server.ID(), lightpush.ID, lightpush.LegacyID))
					for _, v := range c.known {
						require.NoError(t, client.Peerstore().AddProtocols(server.ID(), protocolOf(v)))
					}
				}
				for range 2 {
					got, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
					require.NoError(t, err)
					peers := map[int]int{2: -1, 3: 4}[c.want]
					require.Equal(t, lightpush.Receipt{Peer: server.ID(), RelayPeers: peers, Version: c.want}, got)
				}
			})
		})
	}
}

func TestUnsupported(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		c := lightpush.NewClient(client, lightpush.ClientConfig{})
		start := time.Now()
		for range 20 { // which doesn't cost a turn
			_, err := c.Push(t.Context(), server.ID(), shard, hello())
			require.ErrorIs(t, err, lightpush.ErrUnsupported)
			var exchange *lightpush.ExchangeError
			require.ErrorAs(t, err, &exchange)
			require.Equal(t, server.ID(), exchange.Peer)
		}
		require.Zero(t, time.Since(start))
		require.Equal(t, lightpush.ClientStats{Failed: 20}, c.Stats())

		_, err := c.Push(network.WithNoDial(t.Context(), "test"), "nobody", shard, hello())
		require.ErrorContains(t, err, "connection failed")
	})
}

// Nothing goes out that no relay would take.
func TestNotSent(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, to(1), lightpush.ServerConfig{})
		c := lightpush.NewClient(client, lightpush.ClientConfig{MaxMessageSize: 1000})
		push := func(s sharding.Shard, m *message.Message) error {
			_, err := c.Push(t.Context(), server.ID(), s, m)
			return err
		}
		require.ErrorIs(t, push(shard, &message.Message{ContentTopic: "a"}), message.ErrEmptyPayload)
		require.ErrorIs(t, push(shard, &message.Message{Payload: []byte("a")}), message.ErrEmptyContentTopic)
		require.ErrorIs(t, push(sharding.Shard{Index: 1024}, hello()), sharding.ErrShard)
		var tooLarge *message.TooLargeError
		require.ErrorAs(t, push(shard, large(1001)), &tooLarge)
		require.NoError(t, push(shard, large(1000)))
		require.Equal(t, uint64(1), s.Stats().Answers[200])
		require.Equal(t, uint64(1), c.Stats().Accepted)
		require.Equal(t, s.Stats().Bytes, c.Stats().Bytes)
	})
}

// An answer has the request's id, or none, or the one of requests that weren't read.
func TestRequestIDs(t *testing.T) {
	both(t, func(t *testing.T, version int) {
		good := unhex("50c801 6003")
		if version == 2 {
			good = unhex("1a020801")
		}
		for name, c := range map[string]struct {
			id func(request []byte) []byte
			ok bool
		}{
			"equal":              {idOf, true},
			"empty":              {func([]byte) []byte { return []byte{} }, true},
			"none":               {func([]byte) []byte { return nil }, true},
			"not read":           {func([]byte) []byte { return []byte("N/A") }, true},
			"foreign":            {func([]byte) []byte { return []byte("1") }, false},
			"almost":             {func(r []byte) []byte { return append(idOf(r), 'x') }, false},
			"no text":            {func([]byte) []byte { return []byte{0xff} }, false},
			"longer than needed": {func([]byte) []byte { return make([]byte, 257) }, false},
		} {
			pair(t, func(t *testing.T, client, server host.Host) {
				answerBy(server, version, func(request []byte) []byte {
					if id := c.id(request); id != nil {
						return append(lengthed(1, id), good...)
					}
					return good
				})
				got, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
				if c.ok {
					require.NoError(t, err, name)
					require.Equal(t, version, got.Version)
					return
				}
				require.ErrorIs(t, err, lightpush.ErrMalformed, name)
			})
		}
	})
}

func TestOddAnswers(t *testing.T) {
	both(t, func(t *testing.T, version int) {
		cases := map[int]map[string]error{
			3: {
				"":                            lightpush.ErrMalformed,
				"6005":                        lightpush.ErrMalformed, // no code
				"5000":                        lightpush.ErrMalformed,
				"520101":                      lightpush.ErrMalformed,
				"5d01020304":                  lightpush.ErrMalformed, // fixed32
				"50c801 5801":                 lightpush.ErrMalformed,
				"50c801 620101":               lightpush.ErrMalformed,
				"50c8":                        lightpush.ErrMalformed,
				"50ffffffffffffffffffffff":    lightpush.ErrMalformed,
				"0801 50c801":                 lightpush.ErrMalformed,
				"00":                          lightpush.ErrMalformed,
				"ff":                          lightpush.ErrMalformed,
				"a306":                        lightpush.ErrMalformed,
				"50c801 6000":                 lightpush.ErrNoPeersToRelay, // nwaku's client thinks so too
				"50f903":                      lightpush.ErrNoPeersToRelay,
				"50c801":                      nil,
				"5001 50c801 6001":            nil,
				"50c801 60ffffffffffffffff7f": nil,
				"50c801 5a02fffe":             nil,
				"50c801 9a0600 a306a406":      nil,
			},
			2: {
				"":                                  lightpush.ErrMalformed,
				"0a00":                              lightpush.ErrMalformed,
				"1801":                              lightpush.ErrMalformed,
				"1a03080101":                        lightpush.ErrMalformed,
				"1a03 0a0101":                       lightpush.ErrMalformed,
				"1a02 1001":                         lightpush.ErrMalformed,
				"1a05 0801":                         lightpush.ErrMalformed,
				"08011a020801":                      lightpush.ErrMalformed,
				"1a06 0800 12024f4b":                errAny,
				"1a04 12024f4b":                     errAny,
				"1a0b 0800 1207" + "74742d7a7a7a7a": errAny,
				"1a020801":                          nil,
				"1a0208ff01":                        lightpush.ErrMalformed,
				"1a0308ff01":                        nil,
				"1a020800 1a020801":                 nil,
				"1a020801 120100 9a0600":            nil,
			},
		}[version]
		for answer, want := range cases {
			pair(t, func(t *testing.T, client, server host.Host) {
				answerBy(server, version, func([]byte) []byte { return unhex(answer) })
				got, err := lightpush.NewClient(client, fast).Push(t.Context(), server.ID(), shard, hello())
				switch want {
				case nil:
					require.NoError(t, err, answer)
					require.NotZero(t, got.RelayPeers)
				case errAny:
					var status *lightpush.StatusError
					require.ErrorAs(t, err, &status, answer)
				default:
					require.ErrorIs(t, err, want, answer)
				}
			})
		}
	})
}

var errAny = errors.New("some status")

// Peers that misbehave as streams can.
func TestNoAnswer(t *testing.T) {
	both(t, func(t *testing.T, version int) {
		for name, c := range map[string]struct {
			do    func(s network.Stream)
			is    error
			after time.Duration
		}{
			"hangs":             {func(s network.Stream) { io.ReadAll(s); time.Sleep(time.Minute); s.Reset() }, context.DeadlineExceeded, 10 * time.Second},
			"reads nothing":     {func(s network.Stream) { time.Sleep(time.Minute); s.Reset() }, context.DeadlineExceeded, 10 * time.Second},
			"drips":             {func(s network.Stream) { p2ptest.Drip(s, []byte{100}, 3*time.Second); s.Reset() }, context.DeadlineExceeded, 10 * time.Second},
			"closes":            {func(s network.Stream) { io.ReadAll(s); s.Close() }, io.ErrUnexpectedEOF, 0},
			"resets":            {func(s network.Stream) { s.Reset() }, network.ErrReset, 0},
			"ends in mid-frame": {func(s network.Stream) { s.Write([]byte{5, 0x50}); s.Close() }, io.ErrUnexpectedEOF, 0},
			"two gibibytes":     {func(s network.Stream) { s.Write(p2ptest.Bombs()[0]); s.Close() }, lightpush.ErrMalformed, 0},
			"2^63-1":            {func(s network.Stream) { s.Write(p2ptest.Bombs()[1]); s.Close() }, lightpush.ErrMalformed, 0},
			"overlong":          {func(s network.Stream) { s.Write(p2ptest.Bombs()[2]); s.Close() }, lightpush.ErrMalformed, 0},
			"endless":           {func(s network.Stream) { s.Write(p2ptest.Bombs()[3]); s.Close() }, lightpush.ErrMalformed, 0},
			"too long":          {func(s network.Stream) { wire.WriteFrame(s, make([]byte, 17<<10)); s.Close() }, lightpush.ErrMalformed, 0},
		} {
			pair(t, func(t *testing.T, client, server host.Host) {
				server.SetStreamHandler(protocolOf(version), c.do)
				start := time.Now()
				cl := lightpush.NewClient(client, fast)
				_, err := cl.Push(t.Context(), server.ID(), shard, hello())
				var exchange *lightpush.ExchangeError
				require.ErrorAs(t, err, &exchange, name)
				require.Equal(t, server.ID(), exchange.Peer)
				require.ErrorIs(t, err, c.is, name)
				require.Equal(t, c.after, time.Since(start), name)
				require.Equal(t, uint64(1), cl.Stats().Failed)
				time.Sleep(time.Minute)
			})
		}
	})
}
