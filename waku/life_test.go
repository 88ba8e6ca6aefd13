package waku_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

func heap() float64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc on this system")
	}
	return len(entries)
}

// Nothing of a node outlives it.
func TestManyLives(t *testing.T) { manyLives(t, 50) }

// manyLives returns the ratio of the heap after to the heap before.
func manyLives(t *testing.T, lives int) float64 {
	key := newKey(t)
	live := func() {
		n, err := waku.New(t.Context(), waku.WithProtectedShard(town, key.PublicKey()))
		require.NoError(t, err)
		m, err := n.Join(t.Context(), waku.Community{Shard: town}, waku.SignWith(key))
		require.NoError(t, err)
		_ = n.Events(t.Context())
		_ = m.Messages(t.Context())
		_, err = m.Send(t.Context(), lobby, []byte("x"))
		require.NoError(t, err)
		require.NoError(t, n.Close())
	}
	live() // what libraries keep for the process
	settle := func() (goroutines, fds int) {
		p2ptest.Eventually(t, func() bool {
			before := runtime.NumGoroutine()
			time.Sleep(20 * time.Millisecond)
			goroutines, fds = runtime.NumGoroutine(), descriptors(t)
			return goroutines == before
		}, "goroutines come and go")
		return goroutines, fds
	}
	for range lives / 10 { // so that what pools keep is kept
		live()
	}
	goroutines, fds := settle()
	before := heap()
	for range lives {
		live()
	}
	p2ptest.Eventually(t, func() bool {
		g, f := settle()
		return g <= goroutines && f <= fds
	}, "%d goroutines and %d descriptors before", goroutines, fds)
	return heap() / before
}

func TestClosedNode(t *testing.T) {
	n := start(t, oneSocket())
	m := join(t, n, waku.Community{Shard: town})
	r := subscribe(t, m)
	waiting := make(chan error, 1)
	go func() {
		_, err := r.Next(context.Background())
		waiting <- err
	}()
	events := n.Events(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { require.NoError(t, n.Close()) })
	}
	wg.Wait()
	require.ErrorIs(t, <-waiting, net.ErrClosed)
	for range events { // ends
	}
	for range n.Events(t.Context()) {
	}
	_, err := n.Join(t.Context(), waku.Community{Shard: town})
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = n.Connect(t.Context(), "/ip4/127.0.0.1/tcp/1/p2p/"+n.PeerID().String())
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, n.Disconnect(n.PeerID()), net.ErrClosed)
	_, err = m.Send(t.Context(), lobby, []byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = m.Subscribe()
	require.ErrorIs(t, err, net.ErrClosed)
	for _, err := range m.Messages(t.Context()) {
		require.ErrorIs(t, err, net.ErrClosed)
	}
	require.NoError(t, m.Leave())
	require.NoError(t, r.Close())
	require.Empty(t, n.Peers())
	require.Equal(t, waku.Unhealthy, n.Health().State)
	require.NotEmpty(t, n.PeerID())
}

// A host of the caller's stays open, and can carry another node afterwards.
func TestBorrowedHost(t *testing.T) {
	h := p2ptest.Hosts(t, 1)[0]
	for range 2 {
		n, err := waku.New(t.Context(), waku.WithHost(h))
		require.NoError(t, err)
		require.Equal(t, h.ID(), n.PeerID())
		require.NoError(t, n.Close())
	}
	require.NotEmpty(t, h.Addrs())
	require.NotContains(t, h.Mux().Protocols(), "/vac/waku/relay/2.0.0")
}

// Fifty nodes in one process, each with its own world.
func TestFiftyNodes(t *testing.T) {
	const count, degree = 50, 4
	p2ptest.Bubble(t, func(t *testing.T) {
		key := newKey(t)
		community := waku.Community{Shard: town, PublicKey: key.PublicKey()}
		hosts := p2ptest.Hosts(t, count)
		nodes := make([]*waku.Node, count)
		readers := make([]*waku.Reader, count)
		var speaker *waku.Membership
		for i, h := range hosts {
			nodes[i] = start(t, waku.WithHost(h))
			speaker = join(t, nodes[i], community, waku.SignWith(key))
			readers[i] = subscribe(t, speaker)
		}
		p2ptest.Degree(t, hosts, degree)
		time.Sleep(3 * time.Second)
		for i := range 3 {
			d, err := speaker.Send(t.Context(), lobby, []byte{byte(i)})
			require.NoError(t, err)
			for _, r := range readers {
				require.Equal(t, d.Hash, next(t, r).Hash)
			}
		}
		for _, n := range nodes {
			require.GreaterOrEqual(t, n.Health().State, waku.Minimal)
		}
		for _, n := range nodes {
			require.NoError(t, n.Close())
		}
	})
}

// What was sent just before Close still leaves.
func TestSendBeforeClose(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		network := p2ptest.New(t, p2ptest.Config{Latency: 50 * time.Millisecond})
		stays := start(t, waku.WithHost(network.Hosts(1)[0]))
		r := subscribe(t, join(t, stays, waku.Community{Shard: town}))
		for range 5 {
			h := network.Hosts(1)[0]
			goes, err := waku.New(within(t), waku.WithHost(h))
			require.NoError(t, err)
			m := join(t, goes, waku.Community{Shard: town})
			connect(t, goes, stays)
			meshed(t, 1, goes)
			d, err := m.Send(within(t), lobby, []byte("last words"))
			require.NoError(t, err)
			require.NoError(t, goes.Close())
			require.NoError(t, h.Close())
			require.Equal(t, d.Hash, next(t, r).Hash)
		}
	})
}
