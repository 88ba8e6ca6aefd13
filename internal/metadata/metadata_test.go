package metadata_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

func own(i metadata.Info) metadata.Config {
	return metadata.Config{Own: func() metadata.Info { return i }}
}

// pair runs f in a bubble with two connected hosts.
func pair(t *testing.T, f func(t *testing.T, client, server host.Host)) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Line(t, hosts)
		f(t, hosts[0], hosts[1])
	})
}

func TestAsk(t *testing.T) {
	ask := func(t *testing.T, a, b host.Host) {
		here, there := info(16, 32, 64), info(17, 1, 1023)
		for _, s := range []*metadata.Server{metadata.Serve(a, own(here)), metadata.Serve(b, own(there))} {
			defer s.Close()
		}
		got, err := metadata.NewClient(a, own(here)).Ask(t.Context(), b.ID())
		require.NoError(t, err)
		require.Equal(t, there, got)
		got, err = metadata.NewClient(b, own(there)).Ask(t.Context(), a.ID())
		require.NoError(t, err)
		require.Equal(t, here, got)
	}
	t.Run("memory", func(t *testing.T) { pair(t, ask) })
	t.Run("TCP", func(t *testing.T) {
		hosts := p2ptest.TCPHosts(t, 2)
		p2ptest.Line(t, hosts)
		ask(t, hosts[0], hosts[1])
	})
}

func TestOnAsked(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		heard := map[peer.ID]metadata.Info{}
		cfg := own(info(16))
		cfg.OnAsked = func(from peer.ID, theirs metadata.Info) { heard[from] = theirs }
		defer metadata.Serve(server, cfg).Close()
		_, err := metadata.NewClient(client, own(info(17, 5))).Ask(t.Context(), server.ID())
		require.NoError(t, err)
		require.Equal(t, map[peer.ID]metadata.Info{client.ID(): info(17, 5)}, heard)
	})
}

func TestAnswerFollowsTheNode(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		now := info(16)
		s := metadata.Serve(server, metadata.Config{Own: func() metadata.Info { return now }})
		defer s.Close()
		c := metadata.NewClient(client, own(info(16)))
		for _, shards := range [][]uint16{nil, {128}, {128, 129}, nil} {
			now = info(16, shards...)
			got, err := c.Ask(t.Context(), server.ID())
			require.NoError(t, err)
			require.Equal(t, now, got)
		}
	})
}

// answer lets h treat requests by hand.
func answer(h host.Host, f func(s network.Stream)) {
	h.SetStreamHandler(metadata.ID, func(s network.Stream) {
		f(s)
		s.Close()
	})
}

func TestWhatImplementationsAnswer(t *testing.T) {
	say := func(message string) func(network.Stream) {
		return func(s network.Stream) {
			wire.ReadFrame(s, 1024)
			wire.WriteFrame(s, unhex(message))
		}
	}
	for name, c := range map[string]struct {
		answer func(network.Stream)
		want   metadata.Info
	}{
		"nwaku":        {say("08 10 10 20 10 40 1a 02 20 40"), info(16, 32, 64)},
		"go-waku 0.10": {say("08 10 1a 02 20 40"), info(16, 32, 64)},
		"go-waku 0.9":  {say("08 10 12 02 20 40"), info(16, 32, 64)},
		"js-waku answers first": {func(s network.Stream) {
			wire.WriteFrame(s, unhex("08 10"))
			s.CloseWrite()
			io.ReadAll(s)
		}, info(16)},
		"js-waku answers and is gone": {func(s network.Stream) { wire.WriteFrame(s, unhex("08 10")) }, info(16)},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				answer(server, c.answer)
				got, err := metadata.NewClient(client, own(info(16, 1))).Ask(t.Context(), server.ID())
				require.NoError(t, err)
				require.Equal(t, c.want, got)
			})
		})
	}
}

// The request, byte for byte, and that the write side is closed after it.
func TestRequestOnTheWire(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		got := make(chan []byte, 1)
		answer(server, func(s network.Stream) {
			b, _ := io.ReadAll(s)
			got <- b
			wire.WriteFrame(s, nil)
		})
		there, err := metadata.NewClient(client, own(info(16, 32, 64))).Ask(t.Context(), server.ID())
		require.NoError(t, err)
		require.Equal(t, metadata.Info{}, there)
		require.Equal(t, unhex("0a | 08 10 | 10 20 10 40 | 1a 02 20 40"), <-got)
	})
}

// The answer, byte for byte; it ends, without which js-waku wouldn't read it.
func TestAnswerOnTheWire(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		defer metadata.Serve(server, own(info(16, 32, 64))).Close()
		for _, request := range []string{"00", "02 08 10", "05 08 01 1a 01 01"} {
			s, err := p2ptest.OpenStream(t.Context(), client, server.ID(), metadata.ID)
			require.NoError(t, err)
			_, err = s.Write(unhex(request))
			require.NoError(t, err)
			got, err := io.ReadAll(s) // our side stays open
			require.NoError(t, err)
			require.Equal(t, unhex("0a | 08 10 | 10 20 10 40 | 1a 02 20 40"), got)
			s.Reset()
		}
	})
}

func TestAskErrors(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		c := metadata.NewClient(client, own(info(16)))
		ask := func() error {
			got, err := c.Ask(t.Context(), server.ID())
			require.Error(t, err)
			require.Zero(t, got)
			return err
		}
		require.ErrorIs(t, ask(), reqresp.ErrUnsupported)

		answer(server, func(s network.Stream) { wire.WriteFrame(s, []byte("garbage")) })
		require.ErrorIs(t, ask(), metadata.ErrMalformed)

		answer(server, func(s network.Stream) { wire.WriteFrame(s, unhex("08 80 80 04")) })
		var cluster *metadata.ClusterError
		require.ErrorAs(t, ask(), &cluster)

		answer(server, func(s network.Stream) { wire.WriteFrame(s, make([]byte, metadata.MaxRead+1)) })
		var tooLarge *wire.FrameTooLargeError
		require.ErrorAs(t, ask(), &tooLarge)

		answer(server, func(s network.Stream) { io.ReadAll(s); time.Sleep(time.Minute) })
		start := time.Now()
		var timeout *reqresp.TimeoutError
		require.ErrorAs(t, ask(), &timeout)
		require.Equal(t, 5*time.Second, time.Since(start))
		time.Sleep(time.Minute)
	})
}

type failures struct {
	mu   sync.Mutex
	errs []error
}

func (f *failures) add(_ peer.ID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func (f *failures) take() []error {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := f.errs
	f.errs = nil
	return errs
}

func TestAttacks(t *testing.T) {
	pair(t, func(t *testing.T, attacker, server host.Host) {
		var f failures
		cfg := own(info(16, 128))
		cfg.OnFailure = f.add
		defer metadata.Serve(server, cfg).Close()
		honest := func() {
			got, err := metadata.NewClient(attacker, cfg).Ask(t.Context(), server.ID())
			require.NoError(t, err)
			require.Equal(t, info(16, 128), got)
			require.Empty(t, f.take())
		}
		honest()

		s, err := p2ptest.OpenStream(t.Context(), attacker, server.ID(), metadata.ID)
		require.NoError(t, err)
		require.NoError(t, wire.WriteFrame(s, []byte("garbage")))
		p2ptest.AwaitEnd(s)
		errs := f.take()
		require.Len(t, errs, 1)
		require.ErrorIs(t, errs[0], metadata.ErrMalformed)
		honest()

		growth := p2ptest.ThrowBombs(t, attacker, server, metadata.ID, 1000)
		require.Less(t, growth, int64(16<<20))
		require.Len(t, f.take(), 1000)
		honest()

		start := time.Now()
		var streams []network.Stream
		for range 4 {
			s, err := p2ptest.OpenStream(t.Context(), attacker, server.ID(), metadata.ID)
			require.NoError(t, err)
			streams = append(streams, s)
			go p2ptest.Drip(s, []byte{100}, 3*time.Second)
		}
		p2ptest.AwaitEnd(streams...)
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Len(t, f.take(), 4)
		time.Sleep(3 * time.Second)
		honest()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := metadata.Serve(server, own(info(16)))
		st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), metadata.ID)
		require.NoError(t, err)
		start := time.Now()
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		p2ptest.AwaitEnd(st)
		require.Zero(t, time.Since(start))
		_, err = metadata.NewClient(client, own(info(16))).Ask(context.Background(), server.ID())
		require.ErrorIs(t, err, reqresp.ErrUnsupported)
	})
}
