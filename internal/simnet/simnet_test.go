package simnet_test

import (
	"context"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/simnet"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

const echo = protocol.ID("/echo/1")

// sink notes when each of size bytes had come.
type sink struct {
	size int
	at   []time.Time
	ends error
}

func (k *sink) handle(s network.Stream) {
	for {
		if _, err := io.ReadFull(s, make([]byte, k.size)); err != nil {
			k.ends = err
			s.Close()
			return
		}
		k.at = append(k.at, time.Now())
	}
}

// pair is two connected hosts and a stream from one to the other.
func pair(t *testing.T, c simnet.Config, line simnet.Line, size int) (n *simnet.Network, a, b *simnet.Host, s network.Stream, k *sink) {
	n = simnet.New(c)
	a, b = n.Host(simnet.HostConfig{Line: line}), n.Host(simnet.HostConfig{Line: line})
	k = &sink{size: size}
	b.SetStreamHandler(echo, k.handle)
	require.NoError(t, a.Connect(t.Context(), peer.AddrInfo{ID: b.ID()}))
	s, err := a.NewStream(t.Context(), b.ID(), "/nobody/1", echo)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close(); time.Sleep(time.Minute) })
	return n, a, b, s, k
}

// pass lets time pass, and what belongs to it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLatencyAndRate(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		// A thousand bytes and what TCP adds are 1082 bytes: 8.656 ms at 1 Mbit/s.
		_, a, b, s, k := pair(t, simnet.Config{Latency: 50 * time.Millisecond}, simnet.Line{Up: 1e6}, 1000)
		start := time.Now()
		for range 3 {
			_, err := s.Write(make([]byte, 1000))
			require.NoError(t, err)
		}
		require.Equal(t, start, time.Now(), "there was room")
		pass(time.Second)
		require.Len(t, k.at, 3)
		for i, want := range []time.Duration{59, 68, 76} { // in whole ticks
			assert.Equal(t, want*time.Millisecond, k.at[i].Sub(start))
		}
		assert.EqualValues(t, 3000, a.Traffic().Out.Stream())
		assert.EqualValues(t, 3*82, a.Traffic().Out.Bytes[simnet.Overhead])
		assert.Equal(t, a.Traffic().Out, b.Traffic().In)
		assert.EqualValues(t, 3*52, b.Traffic().Out.Bytes[simnet.Overhead], "acknowledgements")
	})
}

func TestFullUplinkLetsWritersWait(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		_, _, _, s, k := pair(t, simnet.Config{Latency: time.Millisecond}, simnet.Line{Up: 1e6, Down: 1e9, Buffer: 10_000}, 20_000)
		start := time.Now()
		_, err := s.Write(make([]byte, 20_000))
		require.NoError(t, err)
		assert.InDelta(t, 0.086, time.Since(start).Seconds(), 0.001, "until half of it had gone")
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		_, err = s.Write(make([]byte, 20_000))
		require.Error(t, err)
		pass(time.Second)
		assert.Len(t, k.at, 2)
	})
}

func TestDownlinkTakesInOrderOfArrival(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		_, _, _, s, k := pair(t, simnet.Config{Latency: time.Millisecond}, simnet.Line{Down: 1e6}, 1250)
		start := time.Now()
		for range 10 { // 10 ms each
			_, err := s.Write(make([]byte, 1250))
			require.NoError(t, err)
		}
		pass(time.Second)
		require.Len(t, k.at, 10)
		assert.InDelta(t, 0.101, k.at[9].Sub(start).Seconds(), 0.002)
	})
}

func TestLossIsRepaired(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		_, a, _, s, k := pair(t, simnet.Config{Latency: 50 * time.Millisecond, Loss: 0.1}, simnet.Line{}, 1000)
		for range 500 {
			_, err := s.Write(make([]byte, 1000))
			require.NoError(t, err)
			pass(10 * time.Millisecond)
		}
		pass(10 * time.Second)
		require.Len(t, k.at, 500)
		repeated := int(a.Traffic().Out.Bytes[simnet.Overhead]) - 500*82
		assert.InDelta(t, 0.11*500, float64(repeated)/1500, 25)
		assert.IsNonDecreasing(t, millis(k.at))
	})
}

func millis(at []time.Time) (ms []int64) {
	for _, t := range at {
		ms = append(ms, t.UnixMilli())
	}
	return ms
}

func TestKillIsNoticedLate(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n, a, b, s, k := pair(t, simnet.Config{}, simnet.Line{}, 10)
		n.Kill(b, 30*time.Second)
		_, err := s.Write(make([]byte, 10))
		require.NoError(t, err, "nobody has noticed")
		pass(15 * time.Second)
		assert.Equal(t, network.Connected, a.Network().Connectedness(b.ID()))
		assert.Empty(t, k.at)
		pass(30 * time.Second)
		assert.Equal(t, network.NotConnected, a.Network().Connectedness(b.ID()))
		_, err = s.Write(make([]byte, 10))
		require.ErrorIs(t, err, network.ErrReset)
		require.Error(t, a.Connect(t.Context(), peer.AddrInfo{ID: b.ID()}))
	})
}

func TestSplit(t *testing.T) {
	side := func(h *simnet.Host) int { return h.Number }
	p2ptest.Bubble(t, func(t *testing.T) { // healed before it is noticed
		n, a, b, s, k := pair(t, simnet.Config{}, simnet.Line{}, 10)
		n.Split(side, 30*time.Second)
		for range 5 {
			_, err := s.Write(make([]byte, 10))
			require.NoError(t, err)
		}
		pass(10 * time.Second)
		assert.Empty(t, k.at)
		n.Heal()
		pass(2 * time.Second)
		assert.Len(t, k.at, 5)
		pass(time.Minute)
		assert.Equal(t, network.Connected, a.Network().Connectedness(b.ID()))
	})
	p2ptest.Bubble(t, func(t *testing.T) { // and after
		n, a, b, s, k := pair(t, simnet.Config{}, simnet.Line{}, 10)
		n.Split(side, 30*time.Second)
		_, err := s.Write(make([]byte, 10))
		require.NoError(t, err)
		pass(40 * time.Second)
		assert.Equal(t, network.NotConnected, a.Network().Connectedness(b.ID()))
		assert.Error(t, a.Connect(t.Context(), peer.AddrInfo{ID: b.ID()}))
		n.Heal()
		pass(time.Second)
		assert.NoError(t, a.Connect(t.Context(), peer.AddrInfo{ID: b.ID()}))
		assert.Empty(t, k.at, "lost for good")
	})
}

func TestStreamsEnd(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		_, a, b, s, k := pair(t, simnet.Config{}, simnet.Line{}, 10)
		require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Second)))
		_, err := s.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, s.Close())
		pass(time.Second)
		require.ErrorIs(t, k.ends, io.EOF)
		assert.Empty(t, a.Network().Conns()[0].GetStreams())
		assert.Empty(t, b.Network().Conns()[0].GetStreams())
		_, err = a.NewStream(context.Background(), b.ID(), "/nobody/1")
		require.Error(t, err)
		require.NoError(t, a.Network().ClosePeer(b.ID()))
		pass(time.Second)
		assert.Empty(t, b.Network().Peers())
	})
}

// Classes add up to what was written, and each to what the encoder says.
func TestClasses(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		_, a, _, s, _ := pair(t, simnet.Config{}, simnet.Line{}, 10)
		rpc := p2ptest.Publish("/waku/2/rs/16/128", make([]byte, 300), make([]byte, 7))
		rpc.Subscriptions = p2ptest.Subscribe("/waku/2/rs/16/128").Subscriptions
		rpc.Control = p2ptest.IHave("t", "0123", "45").Control
		rpc.Control.Iwant = p2ptest.IWant("0123").Control.Iwant
		rpc.Control.Idontwant = p2ptest.IDontWant("0123", "678").Control.Idontwant
		rpc.Control.Graft = p2ptest.Graft("t").Control.Graft
		rpc.Control.Prune = p2ptest.Prune("t", 60).Control.Prune
		b, err := proto.Marshal(rpc)
		require.NoError(t, err)
		frame := p2ptest.Frame(b)
		_, err = s.Write(frame)
		require.NoError(t, err)
		out := a.Traffic().Out
		assert.EqualValues(t, len(frame), out.Stream())
		assert.EqualValues(t, 2, out.Messages)
		assert.EqualValues(t, proto.Size(p2ptest.Publish("/waku/2/rs/16/128", make([]byte, 300), make([]byte, 7))), out.Bytes[simnet.Payload])
		assert.EqualValues(t, proto.Size(p2ptest.Subscribe("/waku/2/rs/16/128")), out.Bytes[simnet.Subscribe])
		assert.EqualValues(t, proto.Size(p2ptest.IHave("t", "0123", "45").Control), out.Bytes[simnet.IHave])
		assert.EqualValues(t, proto.Size(p2ptest.IWant("0123").Control), out.Bytes[simnet.IWant])
		assert.EqualValues(t, proto.Size(p2ptest.IDontWant("0123", "678").Control), out.Bytes[simnet.IDontWant])
		assert.EqualValues(t, proto.Size(p2ptest.Graft("t").Control), out.Bytes[simnet.Graft])
		assert.EqualValues(t, proto.Size(p2ptest.Prune("t", 60).Control), out.Bytes[simnet.Prune])
		assert.Zero(t, out.Bytes[simnet.Other])
		_, err = s.Write([]byte("not an RPC"))
		require.NoError(t, err)
		assert.EqualValues(t, 10, a.Traffic().Out.Bytes[simnet.Other])
		synctest.Wait()
	})
}

// The same seed makes the same world.
func TestSameSeed(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		took := func(seed uint64) time.Duration {
			n := simnet.New(simnet.Config{Seed: seed})
			a, b := n.Host(simnet.HostConfig{}), n.Host(simnet.HostConfig{})
			start := time.Now()
			require.NoError(t, a.Connect(t.Context(), peer.AddrInfo{ID: b.ID()}))
			a.Close()
			b.Close()
			return time.Since(start)
		}
		assert.Equal(t, took(1), took(1))
		assert.NotEqual(t, took(1), took(2))
		pass(time.Minute)
	})
}
