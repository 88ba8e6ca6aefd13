package peerexchange_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/peerexchange"
)

// Every code that a server gives, and why.
func TestStatusCodes(t *testing.T) {
	some := from(records(100, 12)...)
	for name, c := range map[string]struct {
		request []byte
		sample  peerexchange.Sampler
		code    uint64
		peers   int
		words   string
	}{
		"one":                     {unhex("0a020801"), some, 200, 1, ""},
		"thirteen":                {unhex("0a02080d"), some, 200, 12, ""},
		"twelve":                  {unhex("0a02080c"), some, 200, 12, ""},
		"more than there are":     {unhex("0a020814"), from(records(100, 3)...), 200, 3, ""},
		"none":                    {unhex("0a020800"), some, 200, 5, ""},
		"no number":               {unhex("0a00"), some, 200, 5, ""},
		"an empty response":       {unhex("0a02080c 12025000"), some, 200, 12, ""},
		"a full response":         {append(unhex("0a02080c"), answer(records(100, 2)...)...), some, 200, 12, ""},
		"a broken response":       {unhex("0a02080c 1201ff"), some, 200, 12, ""},
		"there is nobody":         {unhex("0a020814"), from(), 503, 0, "SERVICE_UNAVAILABLE: no peers to offer, retry after 5s"},
		"nobody of any use":       {unhex("0a020814"), from(flip(record(100)), nil), 503, 0, "SERVICE_UNAVAILABLE: no peers to offer, retry after 5s"},
		"nothing":                 {nil, some, 400, 0, "BAD_REQUEST: malformed: there is no query"},
		"an answer":               {answer(record(100)), some, 400, 0, "BAD_REQUEST: malformed: there is no query"},
		"a query that's a number": {unhex("0805"), some, 400, 0, "BAD_REQUEST: malformed: query has no length"},
		"a number that's text":    {unhex("0a030a0135"), some, 400, 0, "BAD_REQUEST: malformed: num_peers is no number"},
		"a number of 65 bits":     {unhex("0a0b 08ffffffffffffffffff02"), some, 400, 0, "BAD_REQUEST: malformed"},
		"cut short":               {unhex("0a0208"), some, 400, 0, "BAD_REQUEST: malformed"},
		"too long":                {append(unhex("0a020814"), lengthed(3, make([]byte, 1100))...), some, 400, 0, "BAD_REQUEST: wire: frame of 1107 bytes, at most 1024 allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			couple(t, func(t *testing.T, client, server host.Host) {
				s := serve(t, server, c.sample, peerexchange.ServerConfig{MaxPeers: 12})
				got := parse(t, ask(t, client, server, c.request))
				require.Equal(t, c.code, got.code)
				require.Equal(t, c.peers, len(got.peers))
				if c.words == "" {
					require.Empty(t, got.desc)
				} else {
					require.Contains(t, got.desc, c.words)
				}
				synctest.Wait()
				stats := s.Stats()
				require.Equal(t, map[peerexchange.StatusCode]uint64{peerexchange.StatusCode(c.code): 1}, stats.Answers)
				require.EqualValues(t, c.peers, stats.Peers)
			})
		})
	}
	couple(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, some, peerexchange.ServerConfig{Burst: 1, Patience: -1})
		request := unhex("0a020802")
		require.Equal(t, uint64(200), parse(t, ask(t, client, server, request)).code)
		require.Equal(t, reply{code: 429, desc: "TOO_MANY_REQUESTS, retry after 1s"}, parse(t, ask(t, client, server, request)))
		time.Sleep(700 * time.Millisecond)
		require.Equal(t, reply{code: 429, desc: "TOO_MANY_REQUESTS, retry after 300ms"}, parse(t, ask(t, client, server, request)))
		time.Sleep(300 * time.Millisecond)
		require.Equal(t, uint64(200), parse(t, ask(t, client, server, request)).code)
	})
}

// The same as a client sees them, and those that no server gives.
func TestStatusErrors(t *testing.T) {
	for code, c := range map[uint64]struct {
		name string
		is   error
	}{
		200:                {"SUCCESS", nil},
		400:                {"BAD_REQUEST", nil},
		401:                {"BAD_RESPONSE", nil},
		429:                {"TOO_MANY_REQUESTS", peerexchange.ErrTooManyRequests},
		503:                {"SERVICE_UNAVAILABLE", peerexchange.ErrUnavailable},
		599:                {"DIAL_FAILURE", nil},
		1:                  {"1", nil},
		199:                {"199", nil},
		201:                {"201", nil},
		404:                {"404", nil},
		math.MaxUint32:     {"4294967295", nil},
		math.MaxUint32 + 1: {"4294967295", nil},
		math.MaxUint64:     {"4294967295", nil},
	} {
		require.Equal(t, c.name, peerexchange.StatusCode(min(code, math.MaxUint32)).String())
		couple(t, func(t *testing.T, client, server host.Host) {
			answerBy(server, func([]byte) []byte {
				return lengthed(2, append(varint(10, code), lengthed(11, []byte("so\x00\xff\nit is, retry after 3s"))...))
			})
			_, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 1)
			if code == 200 {
				require.NoError(t, err)
				return
			}
			require.Equal(t, &peerexchange.StatusError{
				Peer: server.ID(), Code: peerexchange.StatusCode(min(code, math.MaxUint32)),
				Desc: "so  it is, retry after 3s", RetryAfter: 3 * time.Second,
			}, err)
			for _, is := range []error{peerexchange.ErrTooManyRequests, peerexchange.ErrUnavailable} {
				require.Equal(t, c.is == is, errors.Is(err, is))
			}
			require.ErrorContains(t, err, fmt.Sprintf("answers %d (so  it is, retry after 3s)", min(code, math.MaxUint32)))
		})
	}
	for words, want := range map[string]time.Duration{
		"":                                  0,
		"retry after":                       0,
		"retry after soon":                  0,
		"retry after -3s":                   0,
		"retry after 250ms":                 250 * time.Millisecond,
		"retry after 3s, retry after 4s ":   4 * time.Second,
		"retry after 9999h":                 time.Minute,
		"retry after 9999999999999999999ns": 0,
	} {
		require.Equal(t, want, peerexchange.ParseRetryAfter(words), words)
	}
}

// What the sampler has is given, except for what's of no use to the one who asks.
func TestSampler(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		sample := slices.Concat(records(100, 2), [][]byte{
			flip(record(3)),
			append(record(4), make([]byte, 1000)...),
			forge(5, idPair(), keyPair(5)), // no address
			forge(6, idPair(), ipPair(), pair("multiaddrs", []byte{0, 2, 0xff, 0xff}), keyPair(6), tcpPair()), // go-waku never returns
			nil,
		}, records(106, 2))
		var asked []int
		s := serve(t, server, func(_ peer.ID, n int) [][]byte {
			asked = append(asked, n)
			return sample
		}, peerexchange.ServerConfig{Rate: -1, MaxPeers: 30})
		c := peerexchange.NewClient(client, fast)
		for range 3 {
			got, err := c.Ask(t.Context(), server.ID(), 60)
			require.NoError(t, err)
			require.Empty(t, got.Refused)
			require.Equal(t, append(records(100, 2), records(106, 2)...), encoded(got.Peers))
		}
		got, err := c.Ask(t.Context(), server.ID(), 1)
		require.NoError(t, err)
		require.Len(t, got.Peers, 1, "a sampler may give too many")
		require.Equal(t, []int{30, 30, 30, 1}, asked)
		require.EqualValues(t, 15, s.Stats().Unfit)
		require.EqualValues(t, 13, s.Stats().Peers)
		require.Equal(t, 8, s.Remembered(), "nothing that is long")
	})
}

// Nobody is told about himself.
func TestOwnRecord(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := p2ptest.New(t, p2ptest.Config{})
		client, server := n.Host(p2ptest.HostConfig{Key: p2ptest.Key(77)}), n.Host(p2ptest.HostConfig{})
		p2ptest.Connect(t, client, server)
		serve(t, server, from(record(77), record(78)), peerexchange.ServerConfig{})
		require.Equal(t, idOf(77), client.ID())
		require.Equal(t, [][]byte{record(78)}, parse(t, ask(t, client, server, unhex("0a020814"))).peers)
	})
}

// A sampler that panics costs the answer and nothing else.
func TestPanic(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		var told []error
		panics := true
		s := serve(t, server, func(peer.ID, int) [][]byte {
			if panics {
				panic("no peers")
			}
			return records(100, 1)
		}, peerexchange.ServerConfig{OnFailure: func(from peer.ID, err error) {
			require.Equal(t, client.ID(), from)
			told = append(told, err)
		}})
		c := peerexchange.NewClient(client, fast)
		_, err := c.Ask(t.Context(), server.ID(), 1)
		var exchange *peerexchange.ExchangeError
		require.ErrorAs(t, err, &exchange)
		synctest.Wait()
		require.Len(t, told, 1)
		require.ErrorContains(t, told[0], "handler panicked: no peers")
		require.EqualValues(t, 1, s.Stats().Failed)
		panics = false
		_, err = c.Ask(t.Context(), server.ID(), 1)
		require.NoError(t, err)
	})
}

// Questions beyond the rate wait for a while, and are then refused; another peer
// isn't affected.
func TestRate(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], from(record(100)), peerexchange.ServerConfig{Rate: 2})
		codes := make(map[uint64]int)
		waits := make(map[time.Duration]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		start := time.Now()
		for range 8 {
			wg.Go(func() {
				r := parse(t, ask(t, hosts[1], hosts[0], unhex("0a020814")))
				mu.Lock()
				defer mu.Unlock()
				codes[r.code]++
				waits[time.Since(start).Round(time.Millisecond)]++
			})
		}
		wg.Wait()
		require.Equal(t, map[uint64]int{200: 6, 429: 2}, codes)
		require.Equal(t, map[time.Duration]int{0: 7, 500 * time.Millisecond: 1}, waits)
		require.Equal(t, uint64(200), parse(t, ask(t, hosts[2], hosts[0], unhex("0a020814"))).code)
		require.Equal(t, map[peerexchange.StatusCode]uint64{200: 7, 429: 2}, s.Stats().Answers)
	})
}

// A closed server answers nobody, and closing waits for those being answered.
func TestClose(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		hold := make(chan struct{})
		sampling := make(chan struct{})
		s := peerexchange.NewServer(server, func(peer.ID, int) [][]byte {
			close(sampling)
			<-hold
			return records(100, 1)
		}, peerexchange.ServerConfig{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 1)
			assert.Error(t, err)
		})
		<-sampling
		closed := make(chan struct{})
		go func() {
			s.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("the sampler is still running")
		default:
		}
		close(hold)
		<-closed
		wg.Wait()
		require.NoError(t, s.Close())
		_, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 1)
		require.ErrorIs(t, err, peerexchange.ErrUnsupported)

		again := serve(t, server, from(record(100)), peerexchange.ServerConfig{})
		_, err = peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 1)
		require.NoError(t, err)
		require.Empty(t, again.Stats().Failed)
	})
}

// One who waits for his turn isn't waited for.
func TestCloseWhileWaiting(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		s := peerexchange.NewServer(server, from(record(100)), peerexchange.ServerConfig{Burst: 1, Rate: 0.1, Patience: time.Hour})
		ask(t, client, server, unhex("0a020814"))
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 1)
			assert.Error(t, err)
		})
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.Close())
		require.Zero(t, time.Since(start))
		wg.Wait()
	})
}

// A server whose memory is short says so instead of hanging up.
func TestNoMemory(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.PartialLimitConfig{
			Service: map[string]rcmgr.ResourceLimits{"waku.peerexchange": {Memory: 1000}},
		}.Build(rcmgr.DefaultLimits.AutoScale())), rcmgr.WithMetricsDisabled())
		require.NoError(t, err)
		n := p2ptest.New(t, p2ptest.Config{})
		client, server := n.Host(p2ptest.HostConfig{}), n.Host(p2ptest.HostConfig{Resources: m})
		p2ptest.Connect(t, client, server)
		serve(t, server, from(records(100, 60)...), peerexchange.ServerConfig{})
		c := peerexchange.NewClient(client, fast)
		_, err = c.Ask(t.Context(), server.ID(), 60)
		require.ErrorIs(t, err, peerexchange.ErrUnavailable)
		require.ErrorContains(t, err, "SERVICE_UNAVAILABLE: no memory, retry after 1s")
		_, err = c.Ask(t.Context(), server.ID(), 2)
		require.NoError(t, err)
		request := append(unhex("0a020814"), lengthed(3, []byte(strings.Repeat("x", 1015)))...)
		require.Equal(t, "SERVICE_UNAVAILABLE: no memory, retry after 1s", parse(t, ask(t, client, server, request)).desc)
	})
}

// Whatever the sampler has over time, little of it is remembered.
func TestRemembersLittle(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		next := uint64(0)
		junk := func(peer.ID, int) [][]byte {
			out := make([][]byte, 0, 1000)
			for range 1000 {
				next++
				out = append(out, varint(1, next))
			}
			return out
		}
		s := serve(t, server, junk, peerexchange.ServerConfig{Rate: -1, MaxPeers: 1000})
		for range 20 {
			require.Equal(t, uint64(503), parse(t, ask(t, client, server, unhex("0a03 08e807"))).code)
			require.LessOrEqual(t, s.Remembered(), peerexchange.MaxFit)
		}
		require.EqualValues(t, 20_000, s.Stats().Unfit)
	})
}
