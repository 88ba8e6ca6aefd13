package reqresp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// open opens n streams to the server whose handlers are running.
func open(t *testing.T, from, to host.Host, n int) []network.Stream {
	streams := make([]network.Stream, n)
	for i := range streams {
		s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), id)
		require.NoError(t, err)
		streams[i] = s
	}
	return streams
}

// ended tells whether the server has already reset s.
func ended(s network.Stream) bool {
	synctest.Wait()
	s.SetReadDeadline(time.Now().Add(time.Nanosecond))
	defer s.SetReadDeadline(time.Time{})
	_, err := s.Read(make([]byte, 1))
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

func TestSilentAndSlowSenders(t *testing.T) {
	pair(t, func(t *testing.T, attacker, server host.Host) {
		const silent, slow = 1000, 1000
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		cfg.PerPeer, cfg.Concurrency = silent+slow, silent+slow
		s := reqresp.Serve(server, id, cfg, reverse)
		defer s.Close()
		synctest.Wait()
		before := p2ptest.Goroutines()

		start := time.Now()
		streams := open(t, attacker, server, silent+slow)
		for _, s := range streams[silent:] {
			go p2ptest.Drip(s, []byte{100}, 3*time.Second)
		}
		p2ptest.AwaitEnd(streams[:silent]...)
		require.Equal(t, 5*time.Second, time.Since(start))
		p2ptest.AwaitEnd(streams...)
		require.Equal(t, 10*time.Second, time.Since(start))

		time.Sleep(3 * time.Second) // the slow ones notice at their next write
		synctest.Wait()
		require.Equal(t, before, p2ptest.Goroutines())
		counts := map[reqresp.TimeoutError]int{}
		for _, err := range f.all() {
			var e *reqresp.TimeoutError
			require.ErrorAs(t, err, &e)
			counts[*e]++
		}
		require.Equal(t, map[reqresp.TimeoutError]int{
			{Silent: true, After: 5 * time.Second}: silent,
			{After: 10 * time.Second}:              slow,
		}, counts)
	})
}

// A request has less time than the exchange, also one that isn't wanted.
func TestRequestTime(t *testing.T) {
	for request, want := range map[time.Duration]time.Duration{
		0: 10 * time.Second, 7 * time.Second: 7 * time.Second, time.Hour: 30 * time.Second,
	} {
		pair(t, func(t *testing.T, client, server host.Host) {
			var f failures
			cfg := limits
			cfg.OnFailure = f.add
			cfg.Request, cfg.Total = request, 30*time.Second
			cfg.Refuse = func(peer.ID, []byte, error) []byte { return []byte("too long") }
			s := reqresp.Serve(server, id, cfg, func(context.Context, peer.ID, []byte) ([]byte, error) {
				time.Sleep(29 * time.Second)
				return []byte("late"), nil
			})
			defer s.Close()
			for _, length := range [][]byte{{100}, {0xff, 0x7f}} { // 16,383 are refused
				start := time.Now()
				st := open(t, client, server, 1)[0]
				st.Write(length)
				synctest.Wait()
				time.Sleep(want - time.Millisecond)
				st.Write([]byte{1})
				synctest.Wait()
				running := len(f.all())
				time.Sleep(time.Millisecond)
				require.Equal(t, &reqresp.TimeoutError{After: want}, f.last(t))
				require.Len(t, f.all(), running+1)
				require.Equal(t, want, time.Since(start))
				st.Reset()
			}
			cfg.FirstByte = cfg.Total
			b, err := reqresp.Do(t.Context(), client, server.ID(), id, cfg, []byte("x"))
			require.NoError(t, err, "the handler has its time")
			require.Equal(t, "late", string(b))
		})
	}
}

// What Refuse has no words for isn't read.
func TestRefuseUnread(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		var f failures
		var from peer.ID
		cfg := limits
		cfg.OnFailure = f.add
		cfg.Refuse = func(p peer.ID, _ []byte, _ error) []byte { from = p; return nil }
		s := reqresp.Serve(server, id, cfg, reverse)
		defer s.Close()
		st := open(t, client, server, 1)[0]
		st.Write([]byte{0xff, 0xff, 0x03})
		require.True(t, ended(st))
		var tooLarge *wire.FrameTooLargeError
		require.ErrorAs(t, f.last(t), &tooLarge)
		require.Equal(t, client.ID(), from)
	})
}

// A peer who asks and doesn't read the answer is cut off in time as well.
func TestAnswerNotRead(t *testing.T) {
	pair(t, func(t *testing.T, attacker, server host.Host) {
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		cfg.MaxResponse = 4 << 20
		s := reqresp.Serve(server, id, cfg, func(context.Context, peer.ID, []byte) ([]byte, error) {
			return make([]byte, cfg.MaxResponse), nil
		})
		defer s.Close()
		st := open(t, attacker, server, 1)[0]
		defer st.Reset()
		require.NoError(t, wire.WriteFrame(st, nil))
		time.Sleep(10*time.Second + time.Millisecond)
		var e *reqresp.TimeoutError
		require.ErrorAs(t, f.last(t), &e)
	})
}

// Whoever takes nothing of an answer is cut off, long before whoever takes little;
// and nobody else waits for either.
func TestStall(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 4)
		p2ptest.Star(t, hosts)
		var f failures
		var sent atomic.Int64
		cfg := limits
		cfg.OnFailure = f.add
		cfg.MaxResponse, cfg.Total, cfg.Stall = 2<<20, time.Minute, 3*time.Second
		cfg.Sent = func(_ peer.ID, n int) { sent.Add(int64(n)) }
		s := reqresp.Serve(hosts[0], id, cfg, func(context.Context, peer.ID, []byte) ([]byte, error) {
			return make([]byte, cfg.MaxResponse), nil
		})
		defer s.Close()
		start := time.Now()
		stalled, slow := open(t, hosts[1], hosts[0], 1)[0], open(t, hosts[2], hosts[0], 1)[0]
		for _, st := range []network.Stream{stalled, slow} {
			defer st.Reset()
			require.NoError(t, wire.WriteFrame(st, nil))
		}
		got, err := reqresp.Do(t.Context(), hosts[3], hosts[0].ID(), id, cfg, nil)
		require.NoError(t, err)
		require.Len(t, got, cfg.MaxResponse)
		require.Zero(t, time.Since(start))

		read := 0
		for err == nil {
			time.Sleep(time.Second)
			var n int64
			n, err = io.CopyN(io.Discard, slow, 128<<10)
			read += int(n)
			if time.Since(start) == 4*time.Second {
				require.Equal(t, &reqresp.TimeoutError{Stall: true, After: cfg.Stall}, f.last(t))
			}
		}
		require.Equal(t, io.EOF, err)
		require.Equal(t, cfg.MaxResponse+4, read)
		require.Greater(t, time.Since(start), 5*cfg.Stall)
		synctest.Wait()
		require.Len(t, f.all(), 1)
		require.Equal(t, int64(3*cfg.MaxResponse), sent.Load())
	})
}

// A response is held until it is written, or until it is sure that it won't be.
func TestSent(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := p2ptest.New(t, p2ptest.Config{})
		client, server := n.Host(p2ptest.HostConfig{}), n.Host(p2ptest.HostConfig{Resources: manager(t, rcmgr.ResourceLimits{Memory: 2000})})
		var sent []int
		cfg := limits
		cfg.MaxResponse = 3000
		cfg.Sent = func(p peer.ID, n int) {
			require.Equal(t, client.ID(), p)
			sent = append(sent, n)
		}
		s := reqresp.Serve(server, id, cfg, func(_ context.Context, _ peer.ID, b []byte) ([]byte, error) {
			switch string(b) {
			case "fails":
				return make([]byte, 1), errors.New("no")
			case "panics":
				panic("no")
			case "too large":
				return make([]byte, 3001), nil
			case "no memory":
				return make([]byte, 2500), nil
			}
			return make([]byte, 1000), nil
		})
		defer s.Close()
		p2ptest.Connect(t, client, server)
		for request, want := range map[string][]int{
			"good": {1000}, "fails": nil, "panics": nil, "too large": {3001}, "no memory": {2500},
		} {
			sent = nil
			_, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, []byte(request))
			require.Equal(t, request == "good", err == nil)
			synctest.Wait()
			require.Equal(t, want, sent, request)
		}
	})
}

func TestConcurrencyLimits(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 5)
		p2ptest.Star(t, hosts)
		server := hosts[0]
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		cfg.PerPeer, cfg.Concurrency = 3, 10
		s := reqresp.Serve(server, id, cfg, reverse)
		defer s.Close()

		for i, want := range []int{3, 3, 3, 1} { // of 4 each, running
			running := 0
			for range 4 {
				st, err := p2ptest.OpenStream(t.Context(), hosts[i+1], server.ID(), id)
				if err == nil && !ended(st) {
					running++
				}
			}
			require.Equal(t, want, running, "peer %d", i)
		}
		synctest.Wait()
		for _, err := range f.all() {
			require.ErrorIs(t, err, reqresp.ErrBusy)
		}
		require.Len(t, f.all(), 6)

		time.Sleep(6 * time.Second) // the silent ones are gone
		_, err := reqresp.Do(t.Context(), hosts[1], server.ID(), id, limits, []byte("x"))
		require.NoError(t, err)
	})
}

// A thousand streams that announce gigabytes cost next to nothing.
func TestLengthBombs(t *testing.T) {
	pair(t, func(t *testing.T, attacker, server host.Host) {
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		cfg.PerPeer, cfg.Concurrency = 1000, 1000
		s := reqresp.Serve(server, id, cfg, reverse)
		defer s.Close()
		growth := p2ptest.ThrowBombs(t, attacker, server, id, 1000)
		require.Less(t, growth, int64(16<<20))
		synctest.Wait()
		require.Len(t, f.all(), 1000)
		for _, err := range f.all() {
			var tooLarge *wire.FrameTooLargeError
			require.True(t, errors.As(err, &tooLarge) || errors.Is(err, wire.ErrBadVarint), "%v", err)
		}
		_, err := reqresp.Do(t.Context(), attacker, server.ID(), id, limits, []byte("x"))
		require.NoError(t, err)
	})
}

// manager is the default resource manager with a limit on the tests' service.
func manager(t *testing.T, limit rcmgr.ResourceLimits) network.ResourceManager {
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.PartialLimitConfig{
		Service: map[string]rcmgr.ResourceLimits{"test": limit},
	}.Build(rcmgr.DefaultLimits.AutoScale())), rcmgr.WithMetricsDisabled())
	require.NoError(t, err)
	return m
}

func stat(t *testing.T, m network.ResourceManager) (s network.ScopeStat) {
	require.NoError(t, m.ViewService("test", func(scope network.ServiceScope) error {
		s = scope.Stat()
		return nil
	}))
	return s
}

// What a stream is accounted for is its service's, is what was announced, and
// is given back.
func TestResourceManager(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		roomy := manager(t, rcmgr.ResourceLimits{})
		n := p2ptest.New(t, p2ptest.Config{})
		client := n.Host(p2ptest.HostConfig{Resources: roomy})
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		gate := make(chan struct{})
		serve := func(m network.ResourceManager) host.Host {
			h := n.Host(p2ptest.HostConfig{Resources: m})
			s := reqresp.Serve(h, id, cfg, func(_ context.Context, _ peer.ID, b []byte) ([]byte, error) {
				if len(b) == 3 {
					<-gate
				}
				return make([]byte, 2000), nil
			})
			t.Cleanup(func() { s.Close() })
			p2ptest.Connect(t, client, h)
			return h
		}

		m := manager(t, rcmgr.ResourceLimits{})
		good := serve(m)
		st := open(t, client, good, 1)[0]
		memory := func(want int64) {
			synctest.Wait()
			require.Equal(t, 1, stat(t, m).NumStreamsInbound)
			require.Equal(t, want, stat(t, m).Memory)
		}
		memory(0)
		st.Write([]byte{3})
		memory(3)
		st.Write([]byte{1, 2, 3})
		memory(3)
		p2ptest.AwaitEnd(open(t, client, good, 1)...) // a silent one, until it is cut off
		close(gate)
		p2ptest.AwaitEnd(st)
		_, err := reqresp.Do(t.Context(), client, good.ID(), id, limits, []byte("x"))
		require.NoError(t, err)
		synctest.Wait()
		for _, m := range []network.ResourceManager{m, roomy} {
			require.Zero(t, stat(t, m).Memory)
			require.Zero(t, stat(t, m).NumStreamsInbound+stat(t, m).NumStreamsOutbound)
		}

		for _, limit := range []rcmgr.ResourceLimits{
			{Streams: rcmgr.BlockAllLimit, StreamsInbound: rcmgr.BlockAllLimit, StreamsOutbound: rcmgr.BlockAllLimit},
			{Memory: 1000}, // less than the answer
			{Memory: rcmgr.BlockAllLimit64},
		} {
			tight := serve(manager(t, limit))
			_, err = reqresp.Do(t.Context(), client, tight.ID(), id, limits, []byte("x"))
			require.Error(t, err)
			require.ErrorIs(t, f.last(t), network.ErrResourceLimitExceeded)

			poor := n.Host(p2ptest.HostConfig{Resources: manager(t, limit)})
			p2ptest.Connect(t, poor, good)
			_, err = reqresp.Do(t.Context(), poor, good.ID(), id, limits, []byte("x"))
			require.ErrorIs(t, err, network.ErrResourceLimitExceeded)
		}
	})
}

// A message of 16 MiB is what libp2p's limits leave room for.
func TestLargeResponses(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		// On a machine so small that the limits aren't scaled up.
		m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.DefaultLimits.Scale(64<<20, 512)), rcmgr.WithMetricsDisabled())
		require.NoError(t, err)
		n := p2ptest.New(t, p2ptest.Config{})
		client, server := n.Host(p2ptest.HostConfig{Resources: m}), n.Host(p2ptest.HostConfig{})
		cfg := limits
		cfg.MaxResponse = 16 << 20
		s := reqresp.Serve(server, id, cfg, func(context.Context, peer.ID, []byte) ([]byte, error) {
			return make([]byte, cfg.MaxResponse), nil
		})
		defer s.Close()
		p2ptest.Connect(t, client, server)
		for range 2 {
			b, err := reqresp.Do(t.Context(), client, server.ID(), id, cfg, make([]byte, limits.MaxRequest))
			require.NoError(t, err)
			require.Len(t, b, cfg.MaxResponse)
		}
	})
}

// Where the handler has no say, Refuse does.
func TestRefuse(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n := p2ptest.New(t, p2ptest.Config{})
		client := n.Host(p2ptest.HostConfig{})
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		cfg.Refuse = func(_ peer.ID, request []byte, err error) []byte {
			switch {
			case string(request) == "panic":
				panic("no words")
			case errors.Is(err, network.ErrResourceLimitExceeded):
				return []byte("no room")
			}
			return []byte("too long")
		}
		serve := func(memory int64) peer.ID {
			h := n.Host(p2ptest.HostConfig{Resources: manager(t, rcmgr.ResourceLimits{Memory: rcmgr.LimitVal64(memory)})})
			s := reqresp.Serve(h, id, cfg, func(_ context.Context, _ peer.ID, b []byte) ([]byte, error) {
				return make([]byte, 2000), nil
			})
			t.Cleanup(func() { s.Close() })
			p2ptest.Connect(t, client, h)
			return h.ID()
		}
		roomy, tight := serve(1<<20), serve(100)
		do := func(p peer.ID, request []byte) (string, error) {
			start := time.Now()
			got, err := reqresp.Do(t.Context(), client, p, id, limits, request)
			require.Zero(t, time.Since(start))
			return string(got), err
		}
		var tooLarge *wire.FrameTooLargeError
		for _, size := range []int{limits.MaxRequest + 1, 300 << 10, 4 << 20} {
			got, err := do(roomy, make([]byte, size))
			require.NoError(t, err)
			require.Equal(t, "too long", got)
			require.ErrorAs(t, f.last(t), &tooLarge)
		}
		_, err := do(roomy, make([]byte, 4<<20+1))
		require.Error(t, err, "not worth waiting for")
		require.ErrorAs(t, f.last(t), &tooLarge)

		for _, size := range []int{1, 101, 1000} { // neither answer nor request
			got, err := do(tight, make([]byte, size))
			require.NoError(t, err)
			require.Equal(t, "no room", got)
			require.ErrorIs(t, f.last(t), network.ErrResourceLimitExceeded)
		}
		_, err = do(tight, []byte("panic"))
		require.Error(t, err)

		// Who announces much and then stays silent is cut off as ever.
		p, err := p2ptest.OpenStream(t.Context(), client, roomy, id)
		require.NoError(t, err)
		start := time.Now()
		p.Write([]byte{0xff, 0xff, 0x03})
		p2ptest.AwaitEnd(p)
		time.Sleep(11 * time.Second)
		require.ErrorAs(t, f.last(t), &tooLarge)
		require.LessOrEqual(t, time.Since(start), 11*time.Second)
	})
}
