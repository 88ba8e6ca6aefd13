package waku_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// scripted is an archive that answers what it is told to.
type scripted struct {
	*storetest.Model
	answer func(store.Query) (store.Page, error)
}

func (s scripted) Query(_ context.Context, q store.Query) (store.Page, error) { return s.answer(q) }

// storeThat is a store node that answers so and asks nobody.
func storeThat(t testing.TB, net *p2ptest.Network, answer func(store.Query) (store.Page, error)) (*waku.Node, *waku.Membership) {
	t.Helper()
	return storeNode(t, net, scripted{storetest.NewModel(storetest.Config{}), answer}, waku.ArchiveResume(0))
}

func unavailable(store.Query) (store.Page, error) { return store.Page{}, store.ErrUnavailable }

// query asks a model whatever became of who asked.
func query(m *storetest.Model, q store.Query) (store.Page, error) {
	return m.Query(context.Background(), q)
}

// said is a message on town at some time.
func said(at time.Time, payload any) store.Entry {
	return store.NewEntry(town, &message.Message{Payload: fmt.Append(nil, payload), ContentTopic: lobby, Timestamp: at.UnixNano()})
}

// signed is said with a signature.
func signed(t testing.TB, key *dosguard.PrivateKey, at time.Time, payload any) store.Entry {
	t.Helper()
	m := said(at, payload).Message
	require.NoError(t, key.Sign(town.PubsubTopic(), m))
	return store.NewEntry(town, m)
}

// madeUp is the hash of no message.
func madeUp(i int) (h message.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i))
	h[31] = 0xfe
	return h
}

// requireKept asks that an archive has of town exactly these, in this order.
func requireKept(t testing.TB, a store.Archive, want []message.Hash) {
	t.Helper()
	got := hashes(kept(t, a))
	require.Equal(t, len(want), len(got))
	require.True(t, slices.Equal(want, got), "others, or in another order")
}

// gapOf is the state of the only shard.
func gapOf(n *waku.Node) waku.ShardArchive { return n.Health().Archive.Shards[0] }

// sendBurst sends n messages as fast as it goes.
func sendBurst(t testing.TB, m *waku.Membership, n int) {
	t.Helper()
	for i := range n {
		_, err := m.Send(within(t), lobby, fmt.Append(nil, i))
		require.NoError(t, err)
	}
}

// slowPut takes its time and gives up with its context, as a database does.
type slowPut struct {
	store.Archive
	d time.Duration
}

func (s slowPut) Put(ctx context.Context, e []store.Entry) error {
	select {
	case <-time.After(s.d):
		return s.Archive.Put(ctx, e)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// What is queued for an archive that works is kept, however the shard is left.
func TestArchiveKeepsQueue(t *testing.T) {
	for name, end := range map[string]func(*waku.Node, *waku.Membership) error{
		"leave": func(_ *waku.Node, m *waku.Membership) error { return m.Leave() },
		"close": func(n *waku.Node, _ *waku.Membership) error { return n.Close() },
	} {
		for base, open := range map[string]func(*testing.T) store.Archive{
			"model": func(*testing.T) store.Archive {
				return slowPut{storetest.NewModel(storetest.Config{}), 20 * time.Millisecond}
			},
			"sqlite": func(t *testing.T) store.Archive {
				a, err := sqlite.Open(within(t), filepath.Join(t.TempDir(), "s.db"), sqlite.Config{})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, a.Close()) })
				return a
			},
		} {
			t.Run(name+" "+base, func(t *testing.T) {
				p2ptest.Bubble(t, func(t *testing.T) {
					archive := open(t)
					n, m := storeNode(t, p2ptest.New(t, p2ptest.Config{}), archive, waku.ArchiveResume(0))
					sendBurst(t, m, 600)
					require.NoError(t, end(n, m))
					time.Sleep(5 * time.Second)
					require.Equal(t, 600, len(kept(t, archive)))
				})
			})
		}
	}
}

// What is on its way to the archive when the shard is left arrives there.
func TestArchiveKeepsWhatIsUnderWay(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		archive := slowPut{storetest.NewModel(storetest.Config{}), 50 * time.Millisecond}
		_, m := storeNode(t, p2ptest.New(t, p2ptest.Config{}), archive, waku.ArchiveResume(0))
		want := sendSome(t, m, 0, 20)
		require.NoError(t, m.Leave())
		time.Sleep(time.Second)
		requireKept(t, archive, want)
	})
}

// Each message that arrived is counted, whether it was kept or lost.
func TestArchiveCountsLost(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		archive := &troubled{Model: storetest.NewModel(storetest.Config{})}
		n, m := storeNode(t, p2ptest.New(t, p2ptest.Config{}), archive, waku.ArchiveResume(0))
		archive.set(func() error { return &store.FullError{} }, store.Condition{State: store.Full})
		for range 46 { // more than wait for an archive
			sendBurst(t, m, 100)
			time.Sleep(10 * time.Millisecond)
		}
		archive.set(nil, store.Condition{})
		require.NoError(t, m.Leave())
		time.Sleep(10 * time.Second)
		h := n.Health().Archive
		require.Positive(t, h.Lost)
		require.EqualValues(t, 4600, h.Kept+h.Lost)
		require.EqualValues(t, h.Kept, len(kept(t, archive)))
	})
}

// What an archive refuses counts neither as kept nor as resumed.
func TestArchiveCountsRefused(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		full := storetest.NewModel(storetest.Config{})
		fill(t, 60, 1, full)
		other, _ := storeNode(t, net, full, waku.ArchiveResume(0))
		n, _ := storeNode(t, net, refusing{storetest.NewModel(storetest.Config{})})
		connect(t, n, other)
		meshed(t, 1, n)
		time.Sleep(time.Minute)
		h := n.Health().Archive
		require.Zero(t, h.Kept)
		require.Zero(t, h.Resumed)
		require.EqualValues(t, 60, h.Unkept)
	})
}

// refusing is an archive to which all is too old.
type refusing struct{ *storetest.Model }

func (refusing) Put(_ context.Context, e []store.Entry) error {
	return &store.EntryError{Hash: e[0].Hash, Err: store.ErrTooOld}
}

// What waited for an archive in trouble is kept, though the window has passed.
func TestArchiveKeepsWhatWaited(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		archive := &troubled{Model: storetest.NewModel(storetest.Config{})}
		_, m := storeNode(t, p2ptest.New(t, p2ptest.Config{}), archive, waku.ArchiveResume(0))
		archive.set(func() error { return &store.FullError{} }, store.Condition{State: store.Full})
		want := sendSome(t, m, 0, 20)
		time.Sleep(6 * time.Minute)
		archive.set(nil, store.Condition{})
		time.Sleep(time.Minute)
		requireKept(t, archive, want)
	})
}

// panicky is an application's archive with a fault in one method.
type panicky struct {
	*storetest.Model
	what atomic.Value
}

func (p *panicky) at(what string) {
	if p.what.Load() == what {
		panic("the application's archive: " + what)
	}
}

func (p *panicky) Put(ctx context.Context, e []store.Entry) error {
	p.at("Put")
	return p.Model.Put(ctx, e)
}

func (p *panicky) Query(ctx context.Context, q store.Query) (store.Page, error) {
	p.at("Query")
	return p.Model.Query(ctx, q)
}

func (p *panicky) Mark(ctx context.Context, s sharding.Shard) (time.Time, error) {
	p.at("Mark")
	return p.Model.Mark(ctx, s)
}

func (p *panicky) SetMark(ctx context.Context, s sharding.Shard, at time.Time) error {
	p.at("SetMark")
	return p.Model.SetMark(ctx, s, at)
}

func (p *panicky) Retention(s sharding.Shard) store.Retention {
	p.at("Retention")
	return p.Model.Retention(s)
}

func (p *panicky) Condition() store.Condition {
	p.at("Condition")
	return p.Model.Condition()
}

// An archive that panics, in whichever method, takes nobody along; all is made up
// for when it is well again.
func TestArchivePanics(t *testing.T) {
	for _, what := range []string{"Put", "Query", "Mark", "SetMark", "Retention", "Condition"} {
		t.Run(what, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				full := storetest.NewModel(storetest.Config{})
				all := fill(t, 300, 1, full)
				other, m := storeNode(t, net, full, waku.ArchiveResume(0))
				archive := &panicky{Model: storetest.NewModel(storetest.Config{})}
				require.NoError(t, archive.Put(within(t), all[:80]))
				n, own := storeNode(t, net, archive)
				archive.what.Store(what)
				connect(t, n, other)
				meshed(t, 1, n)
				r := subscribe(t, own)
				want := append(hashes(all), sendSome(t, m, 0, 3)...)
				for range 3 {
					next(t, r)
				}
				for range m.History(within(t), waku.HistoryQuery{Limit: 1}) { // of n
				}
				time.Sleep(time.Minute)
				if what == "Condition" {
					require.Equal(t, store.Damaged, n.Health().Archive.State)
				}
				archive.what.Store("")
				time.Sleep(5 * time.Minute)
				require.Equal(t, waku.ShardArchive{Shard: town}, gapOf(n))
				requireKept(t, archive, want)
			})
		})
	}
}
