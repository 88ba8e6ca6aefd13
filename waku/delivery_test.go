package waku_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// post is a community with service nodes, each with an archive or none, and a member
// whose deliveries are looked at.
type post struct {
	net     *p2ptest.Network
	key     *dosguard.PrivateKey
	c       waku.Community
	servers []*waku.Node
	far     *waku.Reader // at the first service node
	n       *waku.Node
	m       *waku.Membership
}

// inBothModes runs a test as a relaying and as a light member.
func inBothModes(t *testing.T, f func(t *testing.T, mode waku.JoinOption)) {
	for name, mode := range map[string]waku.JoinOption{"relay": waku.AsRelay(), "light": waku.AsLight()} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) { f(t, mode) })
		})
	}
}

// newPost has one service node for each archive; nil: it has none.
func newPost(t *testing.T, archives ...store.Archive) *post {
	key := newKey(t)
	w := &post{net: p2ptest.New(t, p2ptest.Config{Latency: 10 * time.Millisecond}), key: key,
		c: waku.Community{Shard: town, PublicKey: key.PublicKey()}}
	for i, a := range archives {
		opts := append(services(), waku.WithHost(w.net.Hosts(1)[0]))
		if a != nil {
			opts = append(opts, waku.WithArchive(a, waku.ArchiveResume(0)))
		}
		n := start(t, opts...)
		m := join(t, n, w.c)
		if i == 0 {
			w.far = subscribe(t, m, lobby)
		}
		connect(t, n, w.servers...)
		w.servers = append(w.servers, n)
	}
	if len(archives) > 1 {
		meshed(t, 1, w.servers...)
	}
	return w
}

// enter starts the member, who knows nobody yet.
func (w *post) enter(t *testing.T, mode waku.JoinOption, opts ...waku.Option) {
	w.n = start(t, append(opts, waku.WithHost(w.net.Hosts(1)[0]))...)
	w.m = join(t, w.n, w.c, waku.SignWith(w.key), mode)
}

// meet connects it with all service nodes.
func (w *post) meet(t *testing.T) {
	connect(t, w.n, w.servers...)
	if w.m.Mode() == waku.ModeRelay {
		meshed(t, 1, w.n)
	}
}

func (w *post) send(t *testing.T, text string, opts ...waku.SendOption) *waku.Delivery {
	t.Helper()
	d, err := w.m.Send(within(t), lobby, []byte(text), opts...)
	require.NoError(t, err)
	return d
}

// What a node said to nobody its own readers have had, also those of the next run: it
// doesn't come to them again when it leaves.
func TestOwnMessageOnce(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newPost(t, archive(), nil)
		state := waku.WithStateStore(newMemory())
		heard := map[string]int{}
		hear := func(r *waku.Reader) {
			for _, n := range payloads(r) {
				heard[n]++
			}
		}
		w.enter(t, waku.AsRelay(), state)
		r := subscribe(t, w.m, lobby)
		time.Sleep(time.Second) // virtual
		for i := range 20 {
			w.send(t, fmt.Sprint(i))
		}
		time.Sleep(5 * time.Second) // virtual
		hear(r)
		require.Len(t, heard, 20)
		for range 5 {
			require.NoError(t, w.n.Close())
			time.Sleep(time.Minute) // virtual
			w.enter(t, waku.AsRelay(), state)
			r = subscribe(t, w.m, lobby)
			time.Sleep(5 * time.Second) // virtual
			hear(r)
		}
		w.meet(t)
		time.Sleep(time.Minute) // virtual
		hear(r)
		require.Empty(t, w.n.Deliveries(), "all is stored")
		require.Len(t, heard, 20)
		for text, n := range heard {
			require.Equal(t, 1, n, text)
		}
	})
}

// payloads are what has come.
func payloads(r *waku.Reader) (out []string) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		env, err := r.Next(ctx)
		cancel()
		if err != nil {
			return out
		}
		out = append(out, string(env.Message.Payload))
	}
}

func archive() *storetest.Model { return storetest.NewModel(storetest.Config{}) }

// states reads the stream of changes to its end.
func states(d *waku.Delivery) (all []waku.DeliveryState) {
	for s := range d.Changes(context.Background()) {
		all = append(all, s.State)
	}
	return all
}

// ids are nodes' identities, sorted.
func ids(nodes ...*waku.Node) (out []peer.ID) {
	for _, n := range nodes {
		out = append(out, n.PeerID())
	}
	slices.Sort(out)
	return out
}

// What becomes of a message is told, whatever it is.
func TestDeliveryStored(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		one, two := archive(), archive()
		w := newPost(t, one, two, nil)
		w.enter(t, mode)
		w.meet(t)
		d := w.send(t, "hello")
		require.Equal(t, waku.Queued, d.State(), "Send doesn't wait")
		require.Equal(t, []*waku.Delivery{d}, w.n.Deliveries())
		require.NoError(t, d.Wait(within(t), waku.Propagated))
		require.Equal(t, d.Hash, next(t, w.far).Hash)
		require.NoError(t, d.Wait(within(t), waku.Stored))
		require.Equal(t, []waku.DeliveryState{waku.Queued, waku.Propagated, waku.Stored}, states(d))
		s := d.Status()
		require.Equal(t, d.Hash, s.Hash)
		require.Equal(t, 1, s.Attempts)
		require.Positive(t, s.Peers)
		if w.m.Mode() == waku.ModeLight {
			require.NotEmpty(t, s.Accepted)
		}
		slices.Sort(s.StoredBy)
		require.Equal(t, ids(w.servers[:2]...), s.StoredBy, "both say so")
		require.False(t, s.SoleStore)
		require.NoError(t, s.Err)
		for _, a := range []store.Archive{one, two} {
			require.Equal(t, []message.Hash{d.Hash}, hashes(kept(t, a)))
		}
		require.Empty(t, w.n.Deliveries())
		h := w.n.Health().Shards[0].Outgoing
		require.Equal(t, waku.OutgoingHealth{Propagated: 1, Stored: 1}, h)

		// An ephemeral one ends earlier.
		d = w.send(t, "typing", waku.Ephemeral())
		require.Equal(t, []waku.DeliveryState{waku.Queued, waku.Propagated}, states(d))
		require.ErrorIs(t, d.Wait(within(t), waku.Stored), waku.ErrNotFollowed)
		require.Empty(t, w.n.Deliveries())
	})
}

// The only store node is the one that had the message from here: it must hand the
// message out, and that it is the only one is said.
func TestDeliverySoleStore(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		w := newPost(t, archive(), nil)
		w.enter(t, mode)
		w.meet(t)
		d := w.send(t, "hello", waku.PushTo(2))
		require.NoError(t, d.Wait(within(t), waku.Stored))
		s := d.Status()
		require.Equal(t, ids(w.servers[0]), s.StoredBy)
		require.True(t, s.SoleStore)
	})
}

// A message that reached nobody fails, and says why.
func TestDeliveryFailed(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		w := newPost(t)
		w.enter(t, mode, waku.WithDelivery(waku.DeliveryConfig{GiveUp: 20 * time.Second}))
		events := w.n.Events(t.Context())
		d := w.send(t, "anybody?")
		why := waku.ErrNobody
		if w.m.Mode() == waku.ModeLight {
			why = waku.ErrNoServicePeer
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := d.Wait(ctx, waku.Propagated)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, why, "what is in the way is told already")
		began := time.Now()
		err = d.Wait(within(t), waku.Propagated)
		var failed *waku.DeliveryError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, waku.Failed, failed.State)
		require.ErrorIs(t, err, why)
		require.InDelta(t, 15, time.Since(began).Seconds(), 1)
		require.Equal(t, []waku.DeliveryState{waku.Queued, waku.Failed}, states(d))
		for e := range events {
			if e.Kind == waku.DeliveryFailed {
				require.Equal(t, d.Hash, e.Hash)
				require.Equal(t, waku.Failed, e.Delivery)
				require.Contains(t, e.Reason, why.Error())
				break
			}
		}
		require.Contains(t, w.n.Health().Shards[0].Outgoing.Failure, why.Error())
	})
}

// What the application's own rules refuse fails at once.
func TestDeliveryRefused(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		w := newPost(t, nil, nil)
		w.enter(t, mode, waku.WithValidator(town, reject))
		w.meet(t)
		began := time.Now()
		d := w.send(t, "spam")
		err := d.Wait(within(t), waku.Stored)
		var refused *waku.RefusedError
		require.ErrorAs(t, err, &refused)
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, []waku.DeliveryState{waku.Queued, waku.Failed}, states(d))
	})
}

// A message that no store node has isn't reported Stored: not when there is none, nor
// when those that there are don't keep it, or lie.
func TestDeliveryExpired(t *testing.T) {
	for name, c := range map[string]struct {
		archives func() []store.Archive
		why      error
	}{
		"no store":             {func() []store.Archive { return []store.Archive{nil, nil} }, waku.ErrNoStorePeer},
		"keeps nothing":        {func() []store.Archive { return []store.Archive{&falseArchive{Model: archive()}, nil} }, waku.ErrNotStored},
		"says yes":             {func() []store.Archive { return []store.Archive{&falseArchive{Model: archive(), yes: true}, nil} }, nil},
		"says yes to what was": {func() []store.Archive { return []store.Archive{&falseArchive{Model: archive(), seen: true}, nil} }, nil},
		"one of two lies": {func() []store.Archive {
			return []store.Archive{&falseArchive{Model: archive(), seen: true}, &falseArchive{Model: archive()}}
		}, waku.ErrNotStored},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
				w := newPost(t, c.archives()...)
				w.enter(t, mode, waku.WithDelivery(waku.DeliveryConfig{Confirm: 50 * time.Second}))
				w.meet(t)
				events := w.n.Events(t.Context())
				d := w.send(t, "hello")
				err := d.Wait(within(t), waku.Stored)
				var expired *waku.DeliveryError
				require.ErrorAs(t, err, &expired)
				require.Equal(t, waku.Expired, expired.State)
				if c.why != nil {
					require.ErrorIs(t, err, c.why)
				}
				require.NoError(t, d.Wait(within(t), waku.Propagated), "it was")
				require.Equal(t, []waku.DeliveryState{waku.Queued, waku.Propagated, waku.Expired}, states(d))
				require.True(t, d.Status().Late)
				require.Empty(t, d.Status().StoredBy)
				if name == "no store" {
					return // of which nothing is told
				}
				left := false
				for e := range events {
					left = left || e.Kind == waku.StorePeerLeft
					if e.Kind == waku.DeliveryFailed {
						break
					}
				}
				lies := name == "says yes" || name == "says yes to what was" || name == "one of two lies"
				require.Equal(t, lies, left, "who lied is left")
			})
		})
	}
}

// A store node that lies doesn't keep an honest one from being believed.
func TestDeliveryLiarBesideHonest(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		w := newPost(t, &falseArchive{Model: archive(), yes: true}, archive(), nil)
		w.enter(t, mode)
		w.meet(t)
		for i := range 5 {
			d := w.send(t, fmt.Sprint(i))
			require.NoError(t, d.Wait(within(t), waku.Stored))
			require.Equal(t, ids(w.servers[1]), d.Status().StoredBy)
		}
	})
}

// falseArchive is an archive that keeps nothing.
type falseArchive struct {
	*storetest.Model
	yes  bool // it has whatever is asked for
	seen bool // it has what it was given

	mu  sync.Mutex
	had map[message.Hash]bool
}

func (l *falseArchive) Put(_ context.Context, entries []store.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.had == nil {
		l.had = map[message.Hash]bool{}
	}
	for _, e := range entries {
		l.had[e.Hash] = true
	}
	return nil
}

func (l *falseArchive) Query(_ context.Context, q store.Query) (page store.Page, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range q.Hashes {
		if q.HashesOnly && (l.yes || l.seen && l.had[h]) {
			page.Entries = append(page.Entries, store.Entry{Hash: h, Shard: town})
		}
	}
	return page, nil
}

// A service peer accepts and keeps to itself: no store has the message, so it goes to
// others, the same bytes.
func TestDeliverySentAgain(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		kept := archive()
		w := newPost(t, nil, nil, nil)
		keeper := start(t, waku.WithHost(w.net.Hosts(1)[0]), waku.WithArchive(kept))
		join(t, keeper, w.c)
		connect(t, keeper, w.servers...)
		meshed(t, 1, keeper)
		for _, s := range w.servers[:2] {
			hole := lightpush.NewServer(waku.HostOf(s), func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) {
				return 6, nil
			}, lightpush.ServerConfig{})
			defer hole.Close()
		}
		w.enter(t, waku.AsLight())
		connect(t, w.n, w.servers[:2]...)
		connect(t, w.n, keeper)
		d := w.send(t, "hello")
		require.NoError(t, d.Wait(within(t), waku.Propagated))
		time.Sleep(10 * time.Second) // virtual
		require.Equal(t, waku.Propagated, d.State())
		require.ErrorIs(t, d.Status().Err, waku.ErrNotStored)
		connect(t, w.n, w.servers[2])
		require.NoError(t, d.Wait(within(t), waku.Stored))
		s := d.Status()
		require.Greater(t, s.Attempts, 1)
		require.Len(t, s.Accepted, 3)
		require.Equal(t, ids(keeper), s.StoredBy)
		require.Equal(t, d.Hash, s.Hash)
		require.Equal(t, d.Hash, next(t, w.far).Hash)
	})
}

// A message that had to wait for long leaves with a new stamp, once: nobody had it before,
// and the member's own readers don't get it again.
func TestDeliveryRestamped(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		a := archive()
		w := newPost(t, a, nil)
		w.enter(t, mode)
		own := subscribe(t, w.m, lobby)
		var sent []*waku.Delivery
		for i := range 5 {
			sent = append(sent, w.send(t, fmt.Sprint(i)))
		}
		time.Sleep(2 * time.Minute) // virtual
		for _, d := range sent {
			require.Equal(t, waku.Queued, d.State())
		}
		w.meet(t)
		arrived, wanted := map[message.Hash]bool{}, map[message.Hash]bool{}
		heard := map[string]bool{}
		for _, d := range sent {
			require.NoError(t, d.Wait(within(t), waku.Stored))
			require.NotEqual(t, d.Hash, d.Status().Hash)
			arrived[next(t, w.far).Hash] = true
			wanted[d.Status().Hash] = true
			heard[string(next(t, own).Message.Payload)] = true
		}
		require.Equal(t, wanted, arrived)
		require.Len(t, heard, 5)
		require.Len(t, kept(t, a), 5)
		require.Empty(t, drain(t, own))
		require.Empty(t, drain(t, w.far))
	})
}

// What waits, and what was propagated, outlives a restart; what was not kept is told by
// Close.
func TestDeliveryOutlivesRestart(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		a := archive()
		lazy := &troubled{Model: a, put: func() error { return store.ErrUnavailable }}
		w := newPost(t, lazy, nil)
		state := waku.WithStateStore(newMemory())
		w.enter(t, mode, state)
		w.meet(t)
		out := w.send(t, "out")
		require.NoError(t, out.Wait(within(t), waku.Propagated))
		time.Sleep(time.Second) // virtual
		for _, s := range w.servers {
			require.NoError(t, waku.HostOf(w.n).Network().ClosePeer(s.PeerID()))
		}
		w.net.Vanish(waku.HostOf(w.n))
		time.Sleep(time.Second) // virtual
		waiting := w.send(t, "waiting", waku.WithPriority(waku.PriorityHistory))
		typing := w.send(t, "typing", waku.Ephemeral())
		time.Sleep(20 * time.Second) // virtual
		events := w.n.Events(t.Context())
		require.NoError(t, w.n.Close())
		for e := range events {
			if e.Kind == waku.DeliveriesUnfinished {
				require.Equal(t, 3, e.Count)
			}
		}
		require.Equal(t, []*waku.Delivery{out, waiting, typing}, w.n.Deliveries())
		for _, d := range []*waku.Delivery{out, waiting} {
			require.True(t, d.Status().Kept)
			require.ErrorIs(t, d.Wait(within(t), waku.Stored), net.ErrClosed)
		}
		require.Equal(t, waku.Failed, typing.State())
		require.ErrorIs(t, typing.Wait(within(t), waku.Propagated), net.ErrClosed)

		time.Sleep(time.Hour) // virtual
		lazy.mu.Lock()
		lazy.put = nil
		lazy.mu.Unlock()
		w.enter(t, mode, state)
		again := w.n.Deliveries()
		require.Len(t, again, 2)
		require.Equal(t, []message.Hash{out.Hash, waiting.Hash}, []message.Hash{again[0].Hash, again[1].Hash})
		require.Equal(t, waku.Propagated, again[0].State())
		require.Equal(t, waku.PriorityHistory, again[1].Status().Priority)
		w.meet(t)
		require.NoError(t, again[0].Wait(within(t), waku.Stored))
		require.NoError(t, again[1].Wait(within(t), waku.Stored))
		require.NotEqual(t, waiting.Hash, again[1].Status().Hash, "it was an hour old")
		require.Equal(t, out.Hash, again[0].Status().Hash, "somebody has it")
		require.NoError(t, w.n.Close())
		w.enter(t, mode, state)
		require.Empty(t, w.n.Deliveries())
	})
}

// newMemory is a state store.
func newMemory() *memoryStore { return &memoryStore{m: map[string][]byte{}} }

type memoryStore struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (s *memoryStore) Load(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[name], nil
}

func (s *memoryStore) Save(_ context.Context, name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[name] = value
	return nil
}

// Chat doesn't wait for what isn't urgent, however much of that there is.
func TestChatOvertakes(t *testing.T) {
	waiting, urgent := 5000, 20
	if testing.Short() {
		waiting, urgent = 1000, 3
	}
	for _, p := range []waku.Priority{waku.PriorityHistory, waku.PriorityControl} {
		t.Run(p.String(), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
				w := newPost(t, nil, nil)
				w.enter(t, mode)
				w.meet(t)
				time.Sleep(5 * time.Second) // virtual
				for i := range waiting {
					w.send(t, fmt.Sprint(i), waku.WithPriority(p))
				}
				for range urgent {
					time.Sleep(1700 * time.Millisecond) // virtual
					began := time.Now()
					d := w.send(t, "urgent")
					require.NoError(t, d.Wait(within(t), waku.Propagated))
					require.LessOrEqual(t, time.Since(began), 100*time.Millisecond)
				}
				h := w.n.Health().Shards[0].Outgoing
				require.Greater(t, h.Propagated, uint64(urgent), "the others leave as well")
				require.Greater(t, h.Queued, waiting*3/5)
				require.NoError(t, w.m.Leave())
			})
		})
	}
}

// History goes before control.
func TestHistoryBeforeControl(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		w := newPost(t, nil, nil)
		w.enter(t, mode)
		for i := range 10 {
			w.send(t, fmt.Sprint("control ", i), waku.WithPriority(waku.PriorityControl), waku.Ephemeral())
			w.send(t, fmt.Sprint("history ", i), waku.WithPriority(waku.PriorityHistory), waku.Ephemeral())
		}
		time.Sleep(5 * time.Second) // virtual
		w.meet(t)
		early := 0
		for i := range 20 {
			if i < 10 && strings.HasPrefix(string(next(t, w.far).Message.Payload), "history") {
				early++
			}
		}
		require.GreaterOrEqual(t, early, 8, "but for those that were under way when somebody came")
	})
}

// The queue is bounded, and chat has room of its own.
func TestQueueFull(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		w := newPost(t)
		w.enter(t, mode, waku.WithDelivery(waku.DeliveryConfig{MaxMessages: 80, GiveUp: 10 * time.Second}))
		fill := func(p waku.Priority) (n int) {
			for {
				_, err := w.m.Send(within(t), lobby, []byte("x"), waku.WithPriority(p))
				var full *waku.QueueFullError
				if err != nil {
					require.ErrorAs(t, err, &full)
					require.Equal(t, p, full.Priority)
					return n
				}
				n++
			}
		}
		require.Equal(t, 70, fill(waku.PriorityControl))
		require.Zero(t, fill(waku.PriorityHistory))
		require.Equal(t, 10, fill(waku.PriorityChat))
		time.Sleep(15 * time.Second) // virtual: all fail
		require.Equal(t, waku.OutgoingHealth{Failed: 80, Failure: w.n.Health().Shards[0].Outgoing.Failure}, w.n.Health().Shards[0].Outgoing)
		require.Equal(t, 80, fill(waku.PriorityChat), "there is room again")
		require.NoError(t, w.m.Leave())
	})
}

// What waits survives a pause and a switch of modes, and ends with the membership.
func TestDeliveryPauseSwitchLeave(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode waku.JoinOption) {
		w := newPost(t, archive(), archive())
		w.enter(t, mode, waku.WithDelivery(waku.DeliveryConfig{GiveUp: 30 * time.Second}))
		d := w.send(t, "before the pause")
		time.Sleep(time.Second) // virtual
		w.n.Pause()
		_, err := w.m.Send(within(t), lobby, []byte("x"))
		require.ErrorIs(t, err, waku.ErrPaused)
		time.Sleep(time.Hour) // virtual
		require.Equal(t, waku.Queued, d.State(), "a pause isn't its time")
		w.n.Resume()
		p2ptest.Eventually(t, func() bool { return !w.n.Health().Paused }, "paused")
		w.meet(t)
		require.NoError(t, d.Wait(within(t), waku.Stored))

		other := waku.ModeLight
		if w.m.Mode() == other {
			other = waku.ModeRelay
		}
		require.NoError(t, w.m.Switch(within(t), other))
		d = w.send(t, "after the switch")
		require.NoError(t, d.Wait(within(t), waku.Stored))

		for _, s := range w.servers {
			require.NoError(t, waku.HostOf(w.n).Network().ClosePeer(s.PeerID()))
		}
		w.net.Vanish(waku.HostOf(w.n))
		time.Sleep(time.Second) // virtual
		d = w.send(t, "too late")
		require.NoError(t, w.m.Leave())
		require.Equal(t, waku.Failed, d.State())
		require.ErrorIs(t, d.Wait(within(t), waku.Propagated), net.ErrClosed)
	})
}
