package waku_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// followed reads a membership's history and on, until ctx ends.
func followed(ctx context.Context, m *waku.Membership) <-chan []message.Hash {
	out := make(chan []message.Hash, 1)
	go func() {
		var got []message.Hash
		for env, err := range m.History(ctx, waku.HistoryQuery{ContentTopics: []string{lobby}, Follow: true}) {
			if err == nil {
				got = append(got, env.Hash)
			}
		}
		out <- got
	}()
	return out
}

// A paused member, light or relay, neither sends nor gets a byte, for ten minutes
// in which others talk; and then it has everything, once.
func TestPause(t *testing.T) {
	for _, mode := range []waku.Mode{waku.ModeLight, waku.ModeRelay} {
		t.Run(mode.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				archive := storetest.NewModel(storetest.Config{})
				w := newLightTown(t, 2, waku.WithArchive(archive))
				r := subscribe(t, w.light, lobby)
				w.served(t, waku.Sufficient)
				hearing, deafen := context.WithCancel(t.Context())
				var heard <-chan []message.Hash
				if mode == waku.ModeRelay {
					require.NoError(t, r.Close())
					require.NoError(t, w.light.Switch(within(t), mode))
					heard = followed(hearing, w.light)
				} else {
					heard = hear(hearing, r)
				}
				events := w.member.Events(t.Context())
				talking, hush := context.WithCancel(t.Context())
				said := w.talk(t, talking, 2*time.Second)
				time.Sleep(15 * time.Second) // virtual

				w.member.Pause()
				_, err := w.light.Send(within(t), lobby, []byte("now"))
				require.ErrorIs(t, err, waku.ErrPaused)
				time.Sleep(time.Second) // virtual
				h := w.member.Health()
				require.True(t, h.Paused)
				require.Equal(t, "paused", h.Summary)
				require.Empty(t, w.host.Network().Conns())
				before := w.net.Traffic(w.host)
				time.Sleep(10 * time.Minute) // virtual
				require.Equal(t, before, w.net.Traffic(w.host))

				w.member.Resume()
				sent(t, w.light, "/chat/1/elsewhere/proto", []byte("after"))
				var kinds []waku.EventKind
				for e := range events {
					if e.Kind == waku.NodePaused || e.Kind == waku.NodeResumed {
						kinds = append(kinds, e.Kind)
					}
					if e.Kind == waku.NodeResumed {
						break
					}
				}
				require.Equal(t, []waku.EventKind{waku.NodePaused, waku.NodeResumed}, kinds)
				time.Sleep(90 * time.Second) // virtual
				require.Len(t, w.member.Peers(), 2, "dialled again")
				h = w.member.Health()
				require.False(t, h.Paused)
				hush()
				sent := <-said
				time.Sleep(30 * time.Second) // virtual
				deafen()
				same(t, sent, <-heard)
			})
		})
	}
}

// everything is what a node can do at once.
func everything(t *testing.T, archive *storetest.Model, opts ...waku.Option) (*waku.Node, *waku.Membership, *waku.Membership) {
	key := newKey(t)
	n := start(t, append(append(services(), waku.WithArchive(archive)), opts...)...)
	c := waku.Community{Shard: town, Keys: []waku.CommunityKey{{Key: key.PublicKey(), Until: time.Now().Add(time.Minute)}}}
	relayed := join(t, n, c)
	light := join(t, n, waku.Community{Shard: elsewhere}, waku.AsLight())
	subscribe(t, relayed)
	subscribe(t, light, lobby)
	return n, relayed, light
}

// Nothing of a paused node wakes up, by a trace of the scheduler: not once in ten
// minutes, nor in ten hours. Without a pause the same trace shows a lot.
func TestPausedSleeps(t *testing.T) {
	o := newOutside(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		hosts := net.Hosts(2)
		peer, err := waku.New(within(t), append(services(), waku.WithHost(hosts[1]))...)
		require.NoError(t, err)
		join(t, peer, waku.Community{Shard: elsewhere})
		n, relayed, light := everything(t, storetest.NewModel(storetest.Config{}), waku.WithHost(hosts[0]),
			waku.WithStaticPeers(peer.Addrs()[0]))
		hearing, deafen := context.WithCancel(t.Context())
		follows := followed(hearing, light)
		other := followed(hearing, relayed)
		time.Sleep(20 * time.Second) // virtual
		require.Len(t, n.Peers(), 1)
		awake, _ := wakeups(t, o, func() { time.Sleep(10 * time.Second) })
		require.Greater(t, len(awake), 5)

		n.Pause()
		time.Sleep(time.Second) // virtual
		require.True(t, n.Health().Paused)
		require.NoError(t, peer.Close())
		time.Sleep(time.Second) // virtual
		before := net.Traffic(hosts[0])
		for _, long := range []time.Duration{10 * time.Minute, 10 * time.Hour} {
			asleep, host := wakeups(t, o, func() { time.Sleep(long) })
			require.Empty(t, asleep)
			t.Logf("the host itself, in %v: %v", long, host)
		}
		require.Equal(t, before, net.Traffic(hosts[0]))
		deafen()
		<-follows
		<-other
		require.NoError(t, n.Close())
	})
}

// Pausing and resuming fifty times under traffic, beside everything else that can be
// called: nothing races, hangs or leaks, and at the end all is there, once.
func TestPauseBesideEverything(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 7
	}
	p2ptest.Bubble(t, func(t *testing.T) {
		archive := storetest.NewModel(storetest.Config{})
		w := newLightTown(t, 2, waku.WithArchive(archive))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		hearing, deafen := context.WithCancel(t.Context())
		heard := hear(hearing, r)
		talking, hush := context.WithCancel(t.Context())
		said := w.talk(t, talking, 500*time.Millisecond)
		time.Sleep(5 * time.Second) // virtual
		before := p2ptest.Goroutines()

		over, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		often := func(every time.Duration, f func(ctx context.Context, i int) error) {
			wg.Go(func() {
				for i := 0; pauseFor(over, every); i++ {
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					if err := f(ctx, i); err != nil && !errors.Is(err, waku.ErrPaused) {
						var nobody *waku.SendError
						var history *waku.HistoryError
						require.True(t, errors.As(err, &nobody) || errors.As(err, &history) || errors.Is(err, context.DeadlineExceeded), "%v", err)
					}
					cancel()
				}
			})
		}
		second := join(t, w.member, waku.Community{Shard: elsewhere})
		often(90*time.Millisecond, func(ctx context.Context, i int) error {
			_, err := trySend(ctx, w.light, "/chat/1/aside/proto", fmt.Append(nil, i))
			return err
		})
		often(70*time.Millisecond, func(ctx context.Context, i int) error {
			_, err := trySend(ctx, second, lobby, fmt.Append(nil, i))
			return err
		})
		often(110*time.Millisecond, func(ctx context.Context, _ int) error {
			m, err := w.member.Join(ctx, waku.Community{Shard: elsewhere})
			require.NoError(t, err)
			require.NoError(t, m.Leave())
			return nil
		})
		often(500*time.Millisecond, func(ctx context.Context, i int) error {
			return second.Switch(ctx, waku.ModeRelay+waku.Mode(i%2))
		})
		often(300*time.Millisecond, func(ctx context.Context, _ int) error {
			for _, err := range w.light.History(ctx, waku.HistoryQuery{Limit: 5}) {
				if err != nil {
					return err
				}
			}
			return nil
		})
		often(40*time.Millisecond, func(context.Context, int) error {
			w.member.Health()
			w.member.NetworkChanged()
			return nil
		})
		for i := range rounds {
			w.member.Pause()
			pauseFor(over, time.Duration(i%7)*150*time.Millisecond)
			w.member.Resume()
			if i%3 == 0 {
				w.member.Pause()
				w.member.Resume()
			}
			pauseFor(over, time.Duration(i%5)*900*time.Millisecond)
		}
		time.Sleep(20 * time.Second) // virtual
		stop()
		wg.Wait()
		connect(t, w.member, w.servers...)
		w.served(t, waku.Sufficient)
		time.Sleep(90 * time.Second) // virtual: services left alone are asked again, gaps are read
		hush()
		sent := <-said
		time.Sleep(40 * time.Second) // virtual
		h := w.member.Health()
		require.False(t, h.Paused)
		for _, s := range h.Shards {
			if s.Light != nil {
				require.Zero(t, s.Light.Gaps, s.Light.GapFailure)
			}
		}
		require.InDelta(t, before, p2ptest.Goroutines(), 30)
		deafen()
		same(t, sent, <-heard)
		w.member.Pause()
		require.NoError(t, w.member.Close())
		_, err := w.light.Send(within(t), lobby, []byte("late"))
		require.ErrorIs(t, err, net.ErrClosed)
		w.member.Resume()
		w.member.Pause()
	})
}

// pauseFor waits unless ctx ends.
func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// Pause and Resume return at once, and the pause is done within a second, whatever
// validators and readers do. Calls in progress end with it.
func TestPauseNeverBlocks(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		over := make(chan struct{})
		stubborn := func(context.Context, *message.Received) message.Verdict { <-over; return message.Accept }
		hosts := net.Hosts(2)
		other := start(t, waku.WithHost(hosts[1]))
		theirs := join(t, other, waku.Community{Shard: town})
		n := start(t, waku.WithHost(hosts[0]), waku.WithValidator(town, stubborn, waku.ValidatorTimeout(time.Hour)))
		defer close(over)
		m := join(t, n, waku.Community{Shard: town}, waku.WithBuffer(1))
		subscribe(t, m, lobby) // nobody reads it
		connect(t, n, other)
		meshed(t, 1, n, other)
		for i := range 3 {
			_, err := theirs.Send(within(t), lobby, fmt.Append(nil, i))
			require.NoError(t, err)
		}
		failed := make(chan error, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		hangs, err := m.Send(ctx, lobby, []byte("hangs"))
		require.NoError(t, err)
		go func() { failed <- m.Switch(ctx, waku.ModeLight) }()
		go func() {
			for _, err := range m.History(ctx, waku.HistoryQuery{}) {
				failed <- err
			}
		}()
		time.Sleep(100 * time.Millisecond) // virtual
		events := n.Events(t.Context())
		began := time.Now()
		n.Pause()
		require.Zero(t, time.Since(began))
		for range 2 {
			require.ErrorIs(t, <-failed, waku.ErrPaused)
		}
		require.Equal(t, waku.Queued, hangs.State(), "it goes on with Resume")
		require.Zero(t, time.Since(began))
		for e := range events {
			if e.Kind == waku.NodePaused {
				break
			}
		}
		require.LessOrEqual(t, time.Since(began), time.Second)
		require.Empty(t, hosts[0].Network().Conns())
		_, err = n.Connect(within(t), other.Addrs()[0])
		require.ErrorIs(t, err, waku.ErrPaused)
		_, _ = other.Connect(within(t), n.Addrs()[0]) // a host of the caller's lets it in
		time.Sleep(time.Second)                       // virtual
		require.Empty(t, hosts[0].Network().Conns())
		n.Resume()
		time.Sleep(5 * time.Minute) // virtual: who dialled in vain turns this one away for a while
		require.Len(t, n.Peers(), 1, "dialled again")
	})
}

// A machine sleeps while the node is paused, and the monotonic clock with it: what
// was said meanwhile is read back all the same.
func TestPausedMachineSleeps(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		clock := new(settable)
		archive := storetest.NewModel(storetest.Config{})
		w := newLightTown(t, 2, waku.WithArchive(archive))
		w.host = w.net.Hosts(1)[0]
		w.member = start(t, waku.WithHost(w.host), waku.WithClock(clock.now), waku.WithStaticPeers(w.servers[0].Addrs()[0]))
		w.light = join(t, w.member, w.c, waku.AsLight())
		connect(t, w.member, w.servers[1])
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		time.Sleep(10 * time.Second) // virtual
		w.member.Pause()
		time.Sleep(time.Second) // virtual
		// The bubble has one clock for all. So the others are in the past: what they
		// would have said in the hour that this one sleeps is put into the store.
		said := signed(t, w.key, time.Now().Add(20*time.Minute), "said while it slept")
		require.NoError(t, archive.Put(within(t), []store.Entry{said}))
		clock.set(time.Hour)
		w.member.Resume()
		require.Equal(t, said.Hash, next(t, r).Hash)
	})
}

// On sockets: a paused node has no connection and takes none, and is
// there again afterwards, where it was. What the libp2p host does by itself meanwhile
// is reported.
func TestPauseOnSockets(t *testing.T) {
	o := newOutside(t)
	other := start(t, oneSocket())
	theirs := join(t, other, waku.Community{Shard: town})
	n := start(t, waku.WithStaticPeers(other.Addrs()...))
	m := join(t, n, waku.Community{Shard: town})
	r := subscribe(t, m)
	meshed(t, 1, n, other)
	addrs := n.Addrs()
	require.Len(t, addrs, 3)

	happened := func(kind waku.EventKind, f func()) {
		events := n.Events(within(t))
		f()
		for e := range events {
			if e.Kind == kind {
				return
			}
		}
		t.Fatal(kind)
	}
	happened(waku.NodePaused, n.Pause)
	require.Empty(t, waku.HostOf(n).Network().Conns())
	p2ptest.Eventually(t, func() bool { return len(other.Peers()) == 0 }, "the other side wasn't told")
	var dials sync.WaitGroup // some wait for an answer
	for _, addr := range addrs {
		dials.Go(func() {
			_, err := other.Connect(within(t), addr)
			assert.Error(t, err)
		})
	}
	dials.Wait()
	require.Empty(t, waku.HostOf(n).Network().Conns())
	pause := time.Second
	if testing.Short() {
		pause = 100 * time.Millisecond
	}
	_, host := wakeups(t, o, func() { time.Sleep(pause) }) // of real time, for the report alone
	t.Logf("two hosts, one of them paused, in %v: %v", pause, host)

	happened(waku.NodeResumed, n.Resume)
	require.ElementsMatch(t, addrs, n.Addrs())
	meshed(t, 1, n, other)
	d, err := theirs.Send(within(t), lobby, []byte("again"))
	require.NoError(t, err)
	require.Equal(t, d.Hash, next(t, r).Hash)
}
