package waku_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// storeMeter counts the bytes of questions and answers at a store, and for what a stream
// costs beside them: its opening and its frames.
type storeMeter struct{ questions, bytes atomic.Int64 }

const streamCost = 200

func (c *storeMeter) at(t testing.TB, h host.Host) {
	intercept(t, h, store.ID, func(s network.Stream, next network.StreamHandler) {
		c.questions.Add(1)
		c.bytes.Add(streamCost)
		next(meteredStream{s, c})
	})
}

type meteredStream struct {
	network.Stream
	c *storeMeter
}

func (s meteredStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	s.c.bytes.Add(int64(n))
	return n, err
}

func (s meteredStream) Write(b []byte) (int, error) {
	n, err := s.Stream.Write(b)
	s.c.bytes.Add(int64(n))
	return n, err
}

// relayTown is two stores, an author and a relaying member.
type relayTown struct {
	net    *p2ptest.Network
	stores []*waku.Node
	meter  storeMeter
	author *waku.Membership
	host   host.Host
	member *waku.Node
	relay  *waku.Membership
}

func newRelayTown(t *testing.T, opts ...waku.Option) *relayTown {
	w := &relayTown{net: p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond})}
	var nodes []*waku.Node
	for range 2 {
		h := w.net.Hosts(1)[0]
		n := start(t, append(services(), waku.WithHost(h), waku.WithArchive(storetest.NewModel(storetest.Config{})))...)
		join(t, n, waku.Community{Shard: town})
		w.meter.at(t, h)
		connect(t, n, nodes...)
		nodes = append(nodes, n)
	}
	w.stores = nodes
	a := start(t, waku.WithHost(w.net.Hosts(1)[0]), unconfirmed())
	w.author = join(t, a, waku.Community{Shard: town})
	connect(t, a, nodes...)
	w.host = w.net.Hosts(1)[0]
	for _, s := range nodes {
		opts = append(opts, waku.WithStaticPeers(s.Addrs()[0]))
	}
	w.member = start(t, append(opts, waku.WithHost(w.host))...)
	w.relay = join(t, w.member, waku.Community{Shard: town})
	meshed(t, 2, a, w.member)
	time.Sleep(5 * time.Second)
	return w
}

func (w *relayTown) say(t testing.TB, n int, pace time.Duration) (said []message.Hash) {
	for i := range n {
		d, err := w.author.Send(within(t), lobby, fmt.Append(nil, time.Now(), i))
		require.NoError(t, err)
		said = append(said, d.Hash)
		time.Sleep(pace)
	}
	return said
}

func came(r *waku.Reader, told func(error)) (heard map[message.Hash]int) {
	heard = map[message.Hash]int{}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		env, err := r.Next(ctx)
		cancel()
		var gap *waku.GapError
		switch {
		case errors.As(err, &gap):
			told(err)
		case err != nil:
			return heard
		default:
			heard[env.Hash]++
		}
	}
}

func once(t testing.TB, said []message.Hash, heard map[message.Hash]int) {
	t.Helper()
	for i, h := range said {
		require.Equal(t, 1, heard[h], "%d of %d", i, len(said))
	}
	require.Len(t, heard, len(said))
}

// A relaying member that was away for some time has everything within half a minute of its
// return, once, whether or not it was told.
func TestRelayMemberComesAndGoes(t *testing.T) {
	for _, away := range []time.Duration{10 * time.Second, 10 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				w := newRelayTown(t)
				r := subscribe(t, w.relay) // all topics
				said := w.say(t, 20, time.Second)
				w.net.Vanish(w.host)
				said = append(said, w.say(t, int(away/time.Second), time.Second)...)
				w.net.Return(w.host)
				w.member.NetworkChanged()
				time.Sleep(30 * time.Second)
				once(t, said, came(r, func(err error) { require.NoError(t, err) }))
				h := w.member.Health().Shards[0]
				require.Empty(t, h.Gaps)
				require.Less(t, time.Since(w.relay.Complete("")), 20*time.Second)
				t.Logf("%+v", h.FromStores)
			})
		})
	}
}

// While there is no store node, a gap is told to the application with its bounds: by an
// event, in Health, and to the reader; and when there is one it is filled.
func TestGapIsTold(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newRelayTown(t)
		events := make(chan waku.Event, 100)
		go func() {
			for e := range w.member.Events(t.Context()) {
				if e.Kind == waku.GapOpen || e.Kind == waku.GapFilled {
					events <- e
				}
			}
		}()
		r := subscribe(t, w.relay, lobby)
		said := w.say(t, 10, time.Second)
		var dead atomic.Bool
		for _, s := range w.stores {
			intercept(t, waku.HostOf(s), store.ID, func(s network.Stream, next network.StreamHandler) {
				if dead.Load() {
					s.Reset()
					return
				}
				next(s)
			})
		}
		dead.Store(true)
		w.net.Vanish(w.host)
		left := time.Now()
		said = append(said, w.say(t, 60, time.Second)...)
		w.net.Return(w.host)
		w.member.NetworkChanged()
		time.Sleep(2 * time.Minute)
		gaps := w.member.Health().Shards[0].Gaps
		require.Len(t, gaps, 1)
		require.Equal(t, []string{lobby}, gaps[0].Topics)
		require.NotEmpty(t, gaps[0].Failure)
		require.WithinDuration(t, left, gaps[0].From, 20*time.Second)
		require.False(t, gaps[0].To.Before(left.Add(time.Minute)))
		require.False(t, w.relay.Complete(lobby).After(left))
		e := <-events
		require.Equal(t, waku.GapOpen, e.Kind)
		require.Equal(t, gaps[0].To, e.To)
		t.Log(e)
		var told error
		heard := came(r, func(err error) { told = err })
		require.Error(t, told)
		t.Log(told)
		dead.Store(false)
		require.Equal(t, waku.GapFilled, (<-events).Kind)
		for h, n := range came(r, func(err error) { require.NoError(t, err) }) {
			heard[h] += n
		}
		once(t, said, heard)
		require.Empty(t, w.member.Health().Shards[0].Gaps)
	})
}

// What costs more than it may is given up, and told.
func TestGapLimits(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newRelayTown(t, waku.WithGapLimits(time.Hour, 10_000))
		r := subscribe(t, w.relay, lobby)
		w.net.Vanish(w.host)
		w.say(t, 1500, 200*time.Millisecond)
		w.net.Return(w.host)
		w.member.NetworkChanged()
		time.Sleep(time.Minute)
		var told *waku.GapError
		came(r, func(err error) { require.ErrorAs(t, err, &told) })
		require.True(t, told.Final)
		require.Empty(t, w.member.Health().Shards[0].Gaps)
		require.Less(t, w.member.Health().Shards[0].FromStores.Bytes, uint64(100_000))
	})
}

// A member whose mesh is well finds out by samples that messages don't come, and has them.
func TestSampleDisagrees(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newRelayTown(t)
		archive := storetest.NewModel(storetest.Config{})
		hidden, _ := storeNode(t, w.net, archive, waku.ArchiveResume(0)) // on its own
		r := subscribe(t, w.relay, lobby)
		connect(t, w.member, hidden)
		time.Sleep(time.Minute)
		var want []message.Hash
		said := w.say(t, 60, time.Second)
		heard := map[message.Hash]int{}
		big := make([]byte, 100_000)
		found := 0
		for range 200 { // samples are paid by messages, and are of random moments
			if found > 0 {
				break
			}
			e := store.NewEntry(town, &message.Message{ContentTopic: lobby, Payload: []byte("unheard"), Timestamp: time.Now().UnixNano()})
			require.NoError(t, archive.Put(within(t), []store.Entry{e}))
			want = append(want, e.Hash)
			for range 5 {
				d, err := w.author.Send(within(t), lobby, big)
				require.NoError(t, err)
				said = append(said, d.Hash)
				time.Sleep(2 * time.Second)
			}
			for h, n := range came(r, func(err error) { require.NoError(t, err) }) {
				heard[h] += n
			}
			for _, h := range want {
				found += heard[h]
			}
		}
		for _, h := range want {
			require.LessOrEqual(t, heard[h], 1)
			delete(heard, h)
		}
		require.Positive(t, found)
		once(t, said, heard)
		s := w.member.Health().Shards[0].FromStores
		require.Positive(t, s.Disagreed)
		t.Logf("%+v", s)
	})
}

// A store that can't answer when it turns up is asked once it can.
func TestStoreAnswersLater(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newRelayTown(t)
		archive := storetest.NewModel(storetest.Config{})
		hidden, _ := storeNode(t, w.net, archive, waku.ArchiveResume(0)) // on its own
		r := subscribe(t, w.relay, lobby)
		time.Sleep(time.Minute)
		e := store.NewEntry(town, &message.Message{ContentTopic: lobby, Payload: []byte("unheard"), Timestamp: time.Now().UnixNano()})
		require.NoError(t, archive.Put(within(t), []store.Entry{e}))
		var dead atomic.Bool
		dead.Store(true)
		intercept(t, waku.HostOf(hidden), store.ID, func(s network.Stream, next network.StreamHandler) {
			if dead.Load() {
				s.Reset()
				return
			}
			next(s)
		})
		connect(t, w.member, hidden)
		time.Sleep(5 * time.Minute)
		dead.Store(false)
		time.Sleep(90 * time.Second) // it rests for a minute at most
		once(t, []message.Hash{e.Hash}, came(r, func(err error) { require.NoError(t, err) }))
	})
}

// While all is well a member's store traffic is below one percent of its messages' bytes.
func TestHealthyMemberAsksLittle(t *testing.T) {
	minutes := 20
	if testing.Short() {
		minutes = 2
	}
	for _, mode := range []waku.JoinOption{waku.AsRelay(), waku.AsLight()} {
		p2ptest.Bubble(t, func(t *testing.T) {
			w := newRelayTown(t)
			require.NoError(t, w.relay.Leave())
			m := join(t, w.member, waku.Community{Shard: town}, mode)
			r := subscribe(t, m, lobby)
			time.Sleep(time.Minute)
			before, asked := w.meter.bytes.Load(), w.meter.questions.Load()
			payload := make([]byte, 400)
			bytes := 0
			done := make(chan map[message.Hash]int, 1)
			go func() {
				heard := map[message.Hash]int{}
				for len(heard) < minutes*60*14 {
					env, err := r.Next(context.Background())
					if err != nil {
						break
					}
					heard[env.Hash]++
				}
				done <- heard
			}()
			for range minutes * 60 * 14 {
				d, err := w.author.Send(within(t), lobby, payload)
				require.NoError(t, err)
				bytes += d.Size
				time.Sleep(time.Second / 14)
			}
			<-done
			cost := w.meter.bytes.Load() - before
			share := float64(cost) / float64(bytes)
			t.Logf("%v: %d bytes of messages, %d questions to stores, %d bytes: %.3f %%; %+v", m.Mode(), bytes, w.meter.questions.Load()-asked, cost, 100*share, w.member.Health().Shards[0].FromStores)
			require.Less(t, share, 0.01)
			require.Positive(t, w.meter.questions.Load()-asked, "nobody would notice that messages don't come")
		})
	}
}

// A member that restarts goes on where it was: all that was said meanwhile comes, and
// nothing comes again, read or not.
func TestRestartGoesOn(t *testing.T) {
	for _, mode := range []waku.JoinOption{waku.AsRelay(), waku.AsLight()} {
		p2ptest.Bubble(t, func(t *testing.T) {
			state := newMemoryState()
			w := newRelayTown(t)
			again := func() (*waku.Node, *waku.Reader) {
				n := start(t, waku.WithHost(w.net.Hosts(1)[0]), waku.WithStateStore(state))
				m := join(t, n, waku.Community{Shard: town}, mode)
				connect(t, n, w.stores...)
				time.Sleep(2 * time.Second)
				return n, subscribe(t, m, lobby)
			}
			n, r := again()
			time.Sleep(10 * time.Second)
			said := w.say(t, 50, time.Second)
			heard := map[message.Hash]int{}
			for range 30 { // the others are left unread
				heard[next(t, r).Hash]++
			}
			require.NoError(t, n.Close())
			said = append(said, w.say(t, 50, 20*time.Second)...)
			n, r = again()
			time.Sleep(30 * time.Second)
			said = append(said, w.say(t, 5, time.Second)...)
			for h, k := range came(r, func(err error) { require.NoError(t, err) }) {
				heard[h] += k
			}
			once(t, said, heard)
			require.NoError(t, n.Close())
		})
	}
}

// Who comes back and finds all meshes full gets what was said meanwhile all the same.
func TestNoPlaceInTheMesh(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		state := newMemoryState()
		w := newRelayTown(t)
		here := w.net.Hosts(2)
		relays := func(h host.Host, opts ...waku.Option) (*waku.Node, *waku.Membership) {
			n := start(t, append(opts, waku.WithHost(h))...)
			m := join(t, n, waku.Community{Shard: town})
			connect(t, n, w.stores...)
			return n, m
		}
		n, m := relays(here[0], waku.WithStateStore(state))
		r := subscribe(t, m, lobby)
		meshed(t, 2, n)
		time.Sleep(10 * time.Second)
		said := w.say(t, 3, time.Second)
		heard := came(r, func(err error) { require.NoError(t, err) })
		require.NoError(t, n.Close())
		other, _ := relays(here[1])
		meshed(t, 2, other)
		said = append(said, w.say(t, 30, 20*time.Second)...)
		time.Sleep(20 * time.Minute)
		n, m = relays(w.net.Hosts(1)[0], waku.WithStateStore(state))
		r = subscribe(t, m, lobby)
		time.Sleep(2 * time.Minute)
		require.Zero(t, n.Health().Shards[0].Mesh, "this shows nothing")
		for h, k := range came(r, func(err error) { require.NoError(t, err) }) {
			heard[h] += k
		}
		once(t, said, heard)
	})
}

// After hours away a member fetches what is missing of its topics and hardly more.
func TestLongAway(t *testing.T) { longAway(t, time.Hour) }

func longAway(t *testing.T, away time.Duration) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{Latency: 50 * time.Millisecond})
		archive, state := storetest.NewModel(storetest.Config{}), newMemoryState()
		var topics []string
		for i := range 10 {
			topics = append(topics, fmt.Sprintf("/chat/1/room-%d/proto", i))
		}
		var node *waku.Node
		var where host.Host
		run := func() *waku.Reader {
			s, _ := storeNode(t, net, archive, waku.ArchiveResume(0))
			where = net.Hosts(1)[0]
			node = start(t, waku.WithHost(where), waku.WithStateStore(state))
			m := join(t, node, waku.Community{Shard: town})
			connect(t, node, s)
			r := subscribe(t, m, topics...)
			return r
		}
		run()
		time.Sleep(time.Minute)
		require.NoError(t, node.Close())
		began := time.Now()
		time.Sleep(away)
		payload := make([]byte, 1000)
		n := int(away/time.Second) * 14
		var entries []store.Entry
		missing, missingBytes, allBytes := 0, 0, 0
		for i := range n {
			e := store.NewEntry(town, &message.Message{
				ContentTopic: fmt.Sprintf("/chat/1/room-%d/proto", i%100), Payload: payload,
				Timestamp: began.Add(away * time.Duration(i) / time.Duration(n)).UnixNano(),
			})
			allBytes += e.Message.Size()
			if i%100 < 10 {
				missing++
				missingBytes += e.Message.Size()
			}
			if entries = append(entries, e); len(entries) == 1000 || i == n-1 {
				require.NoError(t, archive.Put(within(t), entries))
				entries = nil
			}
		}
		r := run()
		before, back := net.Traffic(where), time.Now()
		heard := map[message.Hash]int{}
		for len(heard) < missing {
			env, err := r.Next(t.Context())
			require.NoError(t, err)
			heard[env.Hash]++
		}
		took := time.Since(back)
		after := net.Traffic(where)
		bytes := int(after.In + after.Out - before.In - before.Out)
		t.Logf("%v away: %d messages of %d bytes missing, of %d of %d bytes; fetched with %d bytes (all that the member's wires carried, both ways) in %v: %.3f times and %.1f bytes for each; fetching everything would take %.1f times as many",
			away, missing, missingBytes, n, allBytes, bytes, took, float64(bytes)/float64(missingBytes), float64(bytes-missingBytes)/float64(missing), float64(allBytes)/float64(bytes))
		require.LessOrEqual(t, float64(bytes), 1.1*float64(missingBytes)+64*float64(missing))
		for _, k := range heard {
			require.Equal(t, 1, k)
		}
		t.Logf("%+v", node.Health().Shards[0].FromStores)
	})
}

// What a reader lost because it was slow comes from a store when it reads again.
func TestSlowReaderGetsItAll(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newRelayTown(t)
		require.NoError(t, w.relay.Leave())
		m := join(t, w.member, waku.Community{Shard: town}, waku.WithBuffer(100))
		r := subscribe(t, m, lobby)
		time.Sleep(5 * time.Second)
		said := w.say(t, 500, 10*time.Millisecond)
		time.Sleep(10 * time.Second)
		heard, lost := map[message.Hash]int{}, uint64(0)
		for len(heard) < len(said) {
			env, err := r.Next(within(t))
			var loss *waku.LossError
			if errors.As(err, &loss) {
				lost += loss.Count
				continue
			}
			require.NoError(t, err)
			heard[env.Hash]++
		}
		require.Greater(t, lost, uint64(200))
		once(t, said, heard)
	})
}
