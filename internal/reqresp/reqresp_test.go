package reqresp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

const id protocol.ID = "/shoal/test/1"

// failures collects what OnFailure is told.
type failures struct {
	mu   sync.Mutex
	errs []error
}

func (f *failures) add(_ peer.ID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func (f *failures) all() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]error(nil), f.errs...)
}

// last belongs into a bubble: it waits until all that happened was told.
func (f *failures) last(t *testing.T) error {
	synctest.Wait()
	errs := f.all()
	require.NotEmpty(t, errs)
	return errs[len(errs)-1]
}

var limits = reqresp.Config{Service: "test", MaxRequest: 1 << 10, MaxResponse: 1 << 20}

// pair is a client and a server host in a bubble, connected.
func pair(t *testing.T, f func(t *testing.T, client, server host.Host)) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Line(t, hosts)
		f(t, hosts[0], hosts[1])
	})
}

func reverse(_ context.Context, _ peer.ID, b []byte) ([]byte, error) {
	out := make([]byte, 0, len(b))
	for i := range b {
		out = append(out, b[len(b)-1-i])
	}
	return out, nil
}

func TestExchange(t *testing.T) {
	exchange := func(t *testing.T, client, server host.Host) {
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		var from peer.ID
		s := reqresp.Serve(server, id, cfg, func(ctx context.Context, p peer.ID, b []byte) ([]byte, error) {
			from = p
			if string(b) == "much" {
				return bytes.Repeat([]byte("x"), limits.MaxResponse), nil
			}
			return reverse(ctx, p, b)
		})
		for request, want := range map[string]string{
			"":     "",
			"abc":  "cba",
			"much": string(bytes.Repeat([]byte("x"), limits.MaxResponse)),
		} {
			got, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, []byte(request))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
		require.Equal(t, client.ID(), from)
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		require.Empty(t, f.all())
		_, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, nil)
		require.ErrorIs(t, err, reqresp.ErrUnsupported)
		var e *reqresp.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, server.ID(), e.Peer)
		require.Equal(t, id, e.Protocol)
	}
	t.Run("memory", func(t *testing.T) { pair(t, exchange) })
	t.Run("TCP", func(t *testing.T) {
		hosts := p2ptest.TCPHosts(t, 2)
		p2ptest.Line(t, hosts)
		exchange(t, hosts[0], hosts[1])
	})
}

func TestDoDialsAndReportsDialErrors(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		s := reqresp.Serve(hosts[1], id, limits, reverse)
		defer s.Close()
		hosts[0].Peerstore().AddAddrs(hosts[1].ID(), hosts[1].Addrs(), time.Hour)
		_, err := reqresp.Do(t.Context(), hosts[0], hosts[1].ID(), id, limits, []byte("x"))
		require.NoError(t, err)

		_, err = reqresp.Do(t.Context(), hosts[0], hosts[2].ID(), id, limits, []byte("x"))
		var e *reqresp.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "open", e.Op)
	})
}

// The client's limits, over this package's network and over one whose streams
// know no deadlines.
func TestClientTimeouts(t *testing.T) {
	test := func(t *testing.T, client, server host.Host) {
		var handlers sync.WaitGroup
		defer handlers.Wait()
		answer := func(handle func(network.Stream)) {
			server.SetStreamHandler(id, func(s network.Stream) {
				handlers.Add(1)
				defer handlers.Done()
				io.ReadAll(s) // the request, to its end
				handle(s)
			})
		}
		do := func(ctx context.Context) (time.Duration, error) {
			start := time.Now()
			_, err := reqresp.Do(ctx, client, server.ID(), id, limits, []byte("x"))
			return time.Since(start), err
		}
		var timeout *reqresp.TimeoutError

		answer(func(network.Stream) {})
		took, err := do(t.Context())
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, reqresp.TimeoutError{Silent: true, After: 5 * time.Second}, *timeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, took)

		answer(func(s network.Stream) { p2ptest.Drip(s, []byte{100}, 3*time.Second) })
		took, err = do(t.Context())
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, reqresp.TimeoutError{After: 10 * time.Second}, *timeout)
		require.Equal(t, 10*time.Second, took)

		answer(func(network.Stream) {})
		mine := errors.New("mine")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, mine)
		defer cancel()
		took, err = do(ctx)
		require.ErrorIs(t, err, mine)
		require.Equal(t, time.Second, took)
	}
	t.Run("p2ptest", func(t *testing.T) { pair(t, test) })
	t.Run("mocknet", func(t *testing.T) {
		p2ptest.Bubble(t, func(t *testing.T) {
			m := mocknet.New()
			defer m.Close()
			a, err := m.GenPeer()
			require.NoError(t, err)
			b, err := m.GenPeer()
			require.NoError(t, err)
			require.NoError(t, m.LinkAll())
			require.NoError(t, m.ConnectAllButSelf())
			synctest.Wait()
			test(t, a, b)
		})
	})
}

func TestClientRefusesWhatServersSend(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		do := func(answer []byte) error {
			server.SetStreamHandler(id, func(s network.Stream) {
				io.ReadAll(s)
				s.Write(answer)
				s.Close()
			})
			got, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, []byte("x"))
			require.Nil(t, got)
			return err
		}
		var tooLarge *wire.FrameTooLargeError
		require.ErrorAs(t, do([]byte{0xff, 0xff, 0xff, 0xff, 0x07}), &tooLarge)
		require.ErrorIs(t, do([]byte{0x80, 0x00}), wire.ErrBadVarint)
		require.ErrorIs(t, do(nil), io.ErrUnexpectedEOF)
		require.ErrorIs(t, do([]byte{5, 1}), io.ErrUnexpectedEOF)
	})
}

// js-waku answers metadata before it reads the request. It may be gone when the
// request comes.
func TestEarlyAnswer(t *testing.T) {
	for name, then := range map[string]func(network.Stream){
		"reads the request later": func(s network.Stream) { s.CloseWrite(); io.ReadAll(s); s.Close() },
		"never reads it":          func(s network.Stream) { s.Close() },
		"stays":                   func(s network.Stream) { s.CloseWrite(); time.Sleep(time.Minute); s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				server.SetStreamHandler(id, func(s network.Stream) {
					wire.WriteFrame(s, []byte("early"))
					then(s)
				})
				got, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, []byte("x"))
				require.NoError(t, err)
				require.Equal(t, "early", string(got))
				time.Sleep(2 * time.Minute) // the handler's
			})
		})
	}
}

func TestWriteErrorIsReported(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		server.SetStreamHandler(id, func(s network.Stream) {
			s.Read(make([]byte, 1))
			s.Reset()
		})
		_, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, make([]byte, 4<<20))
		var e *reqresp.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "write", e.Op)
	})
}

func TestHandlerFailures(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		broken := errors.New("broken")
		s := reqresp.Serve(server, id, cfg, func(_ context.Context, _ peer.ID, b []byte) ([]byte, error) {
			switch string(b) {
			case "error":
				return nil, broken
			case "panic":
				panic("at the disco")
			case "long":
				return make([]byte, limits.MaxResponse+1), nil
			}
			return nil, nil
		})
		defer s.Close()
		do := func(request string) error {
			_, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, []byte(request))
			return err
		}
		require.Error(t, do("error"))
		require.ErrorIs(t, f.last(t), broken)
		require.Error(t, do("panic"))
		var p *reqresp.PanicError
		require.ErrorAs(t, f.last(t), &p)
		require.Equal(t, "at the disco", p.Value)
		require.NotEmpty(t, p.Stack)
		require.Error(t, do("long"))
		require.ErrorIs(t, f.last(t), reqresp.ErrResponseTooLarge)
		require.NoError(t, do("fine"), "the server lives on")
		require.Len(t, f.all(), 3)
	})
}

func TestServerClosesWhileHandlersRun(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		var f failures
		cfg := limits
		cfg.OnFailure = f.add
		entered := make(chan struct{})
		s := reqresp.Serve(server, id, cfg, func(ctx context.Context, _ peer.ID, _ []byte) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		result := make(chan error)
		go func() {
			_, err := reqresp.Do(t.Context(), client, server.ID(), id, limits, nil)
			result <- err
		}()
		<-entered
		start := time.Now()
		require.NoError(t, s.Close())
		require.Error(t, <-result)
		require.Zero(t, time.Since(start))
		require.ErrorIs(t, f.last(t), net.ErrClosed)
	})
}
