package waku_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// kept returns all that an archive has of town.
func kept(t testing.TB, a store.Archive) []store.Entry {
	t.Helper()
	var all []store.Entry
	q := store.Query{Shard: new(town), Limit: store.MaxPageSize}
	for {
		page, err := a.Query(within(t), q)
		require.NoError(t, err)
		all = append(all, page.Entries...)
		if page.Cursor == nil {
			return all
		}
		q.Cursor = page.Cursor
	}
}

// sendSome sends n messages "first", "first+1", … and returns their hashes.
func sendSome(t testing.TB, m *waku.Membership, first, n int) []message.Hash {
	t.Helper()
	var out []message.Hash
	for i := range n {
		d, err := m.Send(within(t), lobby, fmt.Appendf(nil, "%d", first+i))
		require.NoError(t, err)
		out = append(out, d.Hash)
		time.Sleep(10 * time.Millisecond)
	}
	return out
}

func hashes(entries []store.Entry) (out []message.Hash) {
	for _, e := range entries {
		out = append(out, e.Hash)
	}
	return out
}

// storeNode is a node with an archive, and town joined.
func storeNode(t testing.TB, net *p2ptest.Network, a store.Archive, opts ...waku.ArchiveOption) (*waku.Node, *waku.Membership) {
	t.Helper()
	n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(a, opts...))
	return n, join(t, n, waku.Community{Shard: town})
}

// What is for keeping is kept, as it is; what isn't, isn't.
func TestArchiveKeeps(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		key := newKey(t)
		archive := storetest.NewModel(storetest.Config{})
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(archive), waku.WithProtectedShard(town, key.PublicKey()))
		join(t, n, waku.Community{Shard: town})
		author := start(t, waku.WithHost(net.Hosts(1)[0]))
		m := join(t, author, waku.Community{Shard: town}, waku.SignWith(key))
		connect(t, author, n)
		meshed(t, 1, author, n)

		want := sendSome(t, m, 0, 10)
		_, err := m.Send(within(t), lobby, []byte("gone"), waku.Ephemeral())
		require.NoError(t, err)
		want = append(want, sendSome(t, m, 10, 1)...)
		time.Sleep(time.Second)
		got := kept(t, archive)
		require.Equal(t, want, hashes(got))
		for _, e := range got {
			require.Len(t, e.Message.Meta, 64, "the signature is kept")
			require.Equal(t, e.Hash, e.Message.Hash(town.PubsubTopic()))
		}
		h := n.Health().Archive
		require.EqualValues(t, 11, h.Kept)
		require.EqualValues(t, 1, h.Unkept)
		require.Zero(t, h.Lost)
		require.Equal(t, store.Ready, h.State)
		require.Nil(t, author.Health().Archive)
	})
}

// troubled is an archive whose Put does what it is told.
type troubled struct {
	*storetest.Model
	mu  sync.Mutex
	put func() error
	now store.Condition
}

func (a *troubled) Put(ctx context.Context, entries []store.Entry) error {
	a.mu.Lock()
	put := a.put
	a.mu.Unlock()
	if put != nil {
		if err := put(); err != nil {
			return err
		}
	}
	return a.Model.Put(ctx, entries)
}

func (a *troubled) Condition() store.Condition {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

func (a *troubled) set(put func() error, c store.Condition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put, a.now = put, c
}

// An archive that refuses, panics or hangs holds nobody else up; what waited for
// it is kept when it is well again, and the node says what is wrong.
func TestArchiveInTrouble(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func() error
	}{
		{"full", func() error { return &store.FullError{Limit: 1 << 20} }},
		{"away", func() error { return store.ErrUnavailable }},
		{"panic", func() error { panic("oh") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				archive := &troubled{Model: storetest.NewModel(storetest.Config{})}
				n, m := storeNode(t, net, archive)
				events := make(chan waku.Event, 100)
				go func() {
					for e := range n.Events(t.Context()) {
						events <- e
					}
				}()
				author := start(t, waku.WithHost(net.Hosts(1)[0]))
				a := join(t, author, waku.Community{Shard: town})
				connect(t, author, n)
				meshed(t, 1, author, n)
				r := subscribe(t, m)

				archive.set(c.put, store.Condition{State: store.Full, Err: errors.New("no room")})
				want := sendSome(t, a, 0, 20)
				for range want {
					next(t, r)
				}
				time.Sleep(2 * time.Second)
				require.Empty(t, kept(t, archive))
				require.Equal(t, "the archive is full: no room", n.Health().Summary)
				archive.set(nil, store.Condition{})
				time.Sleep(5 * time.Second)
				require.Equal(t, want, hashes(kept(t, archive)))
				require.Zero(t, n.Health().Archive.Lost)
				var states []store.State
				for len(events) > 0 {
					if e := <-events; e.Kind == waku.ArchiveStateChanged {
						states = append(states, e.Archive)
					}
				}
				require.Equal(t, []store.State{store.Full, store.Ready}, states)
			})
		})
	}
}

// A node ends in time although its archive hangs, and counts what was lost.
func TestArchiveHangsAtClose(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		archive := &troubled{Model: storetest.NewModel(storetest.Config{})}
		n, m := storeNode(t, net, archive)
		archive.set(func() error { return store.ErrUnavailable }, store.Condition{State: store.Spooling})
		sendSome(t, m, 0, 3)
		began := time.Now()
		require.NoError(t, n.Close())
		require.LessOrEqual(t, time.Since(began), 4*time.Second)
	})
}

// Leaving a shard keeps what had arrived; joining again goes on.
func TestArchiveLeaveAndJoin(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		archive := storetest.NewModel(storetest.Config{})
		n, m := storeNode(t, net, archive)
		var want []message.Hash
		for i := range 5 {
			d, err := m.Send(within(t), lobby, fmt.Append(nil, i))
			require.NoError(t, err)
			want = append(want, d.Hash)
			time.Sleep(time.Millisecond)
		}
		require.NoError(t, m.Leave())
		time.Sleep(time.Second)
		require.Equal(t, want, hashes(kept(t, archive)))
		m = join(t, n, waku.Community{Shard: town})
		want = append(want, sendSome(t, m, 5, 5)...)
		require.NoError(t, n.Close())
		require.Equal(t, want, hashes(kept(t, archive)))
	})
}

// A store node that was away gets what it missed from another, once; what an
// archive has already isn't transferred again.
func TestArchiveResume(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		stays, leaves := storetest.NewModel(storetest.Config{}), storetest.NewModel(storetest.Config{})
		_, m := storeNode(t, net, stays)
		author := start(t, waku.WithHost(net.Hosts(1)[0]))
		a := join(t, author, waku.Community{Shard: town})
		connect(t, author, waku.NodeOf(m))

		begin := func(archive store.Archive) *waku.Node {
			n, _ := storeNode(t, net, archive)
			connect(t, n, waku.NodeOf(m), author)
			meshed(t, 1, n)
			return n
		}
		complete := func(n *waku.Node) {
			p2ptest.Eventually(t, func() bool { return n.Health().Archive.Shards[0].Gap == "" },
				"gap: %+v", n.Health().Archive.Shards)
		}
		n := begin(leaves)
		complete(n)
		sendSome(t, a, 0, 30)
		time.Sleep(20 * time.Minute)
		mark, err := leaves.Mark(within(t), town)
		require.NoError(t, err)
		require.InDelta(t, time.Since(mark).Minutes(), 5.5, 0.5)
		sendSome(t, a, 30, 20)
		time.Sleep(time.Second)
		require.NoError(t, n.Close())
		sendSome(t, a, 50, 250)
		time.Sleep(time.Hour)
		sendSome(t, a, 300, 50)

		again := leaves.Reopen(storetest.Config{})
		n = begin(again)
		require.Equal(t, "the node was away", n.Health().Archive.Shards[0].Gap)
		sendSome(t, a, 350, 10)
		complete(n)
		time.Sleep(time.Second)
		require.Equal(t, hashes(kept(t, stays)), hashes(kept(t, again)))
		require.Len(t, kept(t, again), 360)
		require.InDelta(t, 300, n.Health().Archive.Resumed, 40)

		// Back soon, and nearly nothing is to be fetched.
		require.NoError(t, n.Close())
		last := leaves.Reopen(storetest.Config{})
		n = begin(last)
		complete(n)
		require.LessOrEqual(t, n.Health().Archive.Resumed, uint64(1))
		require.Len(t, kept(t, last), 360)
	})
}

// No store node is believed to have everything because it says so.
func TestArchiveResumeAsksEverybody(t *testing.T) {
	for range 5 {
		p2ptest.Bubble(t, func(t *testing.T) {
			net := p2ptest.New(t, p2ptest.Config{})
			var nodes []*waku.Node
			var want []message.Hash
			all := fill(t, 300, 1)
			for i := range 4 { // one has nothing, the others parts that overlap
				archive := storetest.NewModel(storetest.Config{})
				if i > 0 {
					require.NoError(t, archive.Put(within(t), all[(i-1)*80:(i-1)*80+140]))
				}
				n, _ := storeNode(t, net, archive, waku.ArchiveResume(0))
				nodes = append(nodes, n)
			}
			want = hashes(all)
			mine := storetest.NewModel(storetest.Config{})
			n, _ := storeNode(t, net, mine)
			connect(t, n, nodes...)
			p2ptest.Eventually(t, func() bool { return n.Health().Archive.Shards[0].Gap == "" }, "gap")
			require.Equal(t, want, hashes(kept(t, mine)))
		})
	}
}

// What archives get from others passes the shard's rules as well.
func TestArchiveResumeVerifies(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		key := newKey(t)
		forged := storetest.NewModel(storetest.Config{})
		other := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(forged), waku.WithProtectedShard(town, key.PublicKey()))
		join(t, other, waku.Community{Shard: town})
		var entries []store.Entry
		for i := range 20 {
			m := &message.Message{Payload: fmt.Append(nil, i), ContentTopic: lobby, Timestamp: time.Now().Add(-time.Hour).UnixNano() + int64(i)}
			if i%2 == 0 {
				require.NoError(t, key.Sign(town.PubsubTopic(), m))
			}
			entries = append(entries, store.NewEntry(town, m))
		}
		require.NoError(t, forged.Put(within(t), entries))
		archive := storetest.NewModel(storetest.Config{})
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(archive), waku.WithProtectedShard(town, key.PublicKey()))
		join(t, n, waku.Community{Shard: town})
		connect(t, n, other)
		meshed(t, 1, n)
		p2ptest.Eventually(t, func() bool { return n.Health().Archive.Shards[0].Gap == "" }, "gap")
		require.Len(t, kept(t, archive), 10)
		require.EqualValues(t, 10, n.Health().HistoryRefused)

		// Who knows another key is told why there is nothing.
		member := start(t, waku.WithHost(net.Hosts(1)[0]))
		m := join(t, member, waku.Community{Shard: town, PublicKey: newKey(t).PublicKey()})
		connect(t, member, other)
		for _, err := range m.History(within(t), waku.HistoryQuery{}) {
			require.ErrorIs(t, err, store.ErrUnverified)
			require.ErrorContains(t, err, "there are 20")
		}
		require.EqualValues(t, 20, member.Health().HistoryRefused)
	})
}
