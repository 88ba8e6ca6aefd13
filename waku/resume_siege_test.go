package waku_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// A node with a plugged-in validator fills gaps of which it has much already.
func TestArchiveResumeWithValidator(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		full, part := storetest.NewModel(storetest.Config{}), storetest.NewModel(storetest.Config{})
		all := fill(t, 300, 1, full)
		require.NoError(t, part.Put(within(t), all[:80]))
		other, _ := storeNode(t, net, full, waku.ArchiveResume(0))
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(part),
			waku.WithValidator(town, func(context.Context, *message.Received) message.Verdict { return message.Accept }))
		join(t, n, waku.Community{Shard: town})
		connect(t, n, other)
		meshed(t, 1, n)
		p2ptest.Eventually(t, func() bool { return gapOf(n).Gap == "" }, "gap")
		requireKept(t, part, hashes(all))
	})
}

// While a validator can't judge, the gap stays open and says so; nothing of it is
// lost.
func TestArchiveResumeAwaitsValidator(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		full, ours := storetest.NewModel(storetest.Config{}), storetest.NewModel(storetest.Config{})
		all := fill(t, 50, 1, full)
		other, _ := storeNode(t, net, full, waku.ArchiveResume(0))
		var well atomic.Bool
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(ours),
			waku.WithValidator(town, func(ctx context.Context, _ *message.Received) message.Verdict {
				if !well.Load() {
					<-ctx.Done()
				}
				return message.Accept
			}))
		join(t, n, waku.Community{Shard: town})
		connect(t, n, other)
		meshed(t, 1, n)
		time.Sleep(5 * time.Minute)
		require.NotEmpty(t, gapOf(n).Gap)
		require.Contains(t, gapOf(n).Failure, "validator")
		require.Contains(t, gapOf(n).Failure, "in trouble")
		well.Store(true)
		time.Sleep(10 * time.Minute)
		require.Empty(t, gapOf(n).Gap)
		requireKept(t, ours, hashes(all))
	})
}

// The time that a node slept is a gap: it is told, isn't marked as complete, and is
// filled.
func TestArchiveResumeAfterSleep(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		clock := new(settable)
		full, ours := storetest.NewModel(storetest.Config{Now: clock.now}), storetest.NewModel(storetest.Config{Now: clock.now})
		var away atomic.Bool
		other, _ := storeThat(t, net, func(q store.Query) (store.Page, error) {
			if away.Load() {
				return unavailable(q)
			}
			return query(full, q)
		})
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(ours), waku.WithClock(clock.now))
		join(t, n, waku.Community{Shard: town})
		connect(t, n, other)
		meshed(t, 1, n)
		time.Sleep(10 * time.Minute)
		require.Empty(t, gapOf(n).Gap)
		before, err := ours.Mark(within(t), town)
		require.NoError(t, err)

		away.Store(true)
		clock.set(time.Hour) // as it looks from inside when an hour was slept
		var want []store.Entry
		for i := range 25 {
			want = append(want, said(time.Now().Add(time.Duration(2*i+1)*time.Minute), i))
		}
		require.NoError(t, full.Put(within(t), want))
		time.Sleep(2 * time.Minute)
		require.Equal(t, "the node slept, or its clock was set", gapOf(n).Gap)
		require.NotEmpty(t, gapOf(n).Failure)
		after, err := ours.Mark(within(t), town)
		require.NoError(t, err)
		require.Equal(t, before, after)

		away.Store(false)
		time.Sleep(5 * time.Minute)
		require.Equal(t, waku.ShardArchive{Shard: town}, gapOf(n))
		requireKept(t, ours, hashes(want))
	})
}

// A clock that was ahead for a while doesn't keep later gaps from being filled.
func TestArchiveResumeAfterClockAhead(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		clock := new(settable)
		ours := storetest.NewModel(storetest.Config{})
		other, m := storeNode(t, net, storetest.NewModel(storetest.Config{}), waku.ArchiveResume(0))
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(ours), waku.WithClock(clock.now))
		join(t, n, waku.Community{Shard: town})
		connect(t, n, other)
		meshed(t, 1, n)
		for _, off := range []time.Duration{24 * time.Hour, 0} {
			time.Sleep(time.Minute)
			clock.set(off)
		}
		time.Sleep(time.Minute)
		require.NoError(t, n.Close())
		want := sendSome(t, m, 0, 20)
		time.Sleep(10 * time.Minute)
		again := ours.Reopen(storetest.Config{})
		n, _ = storeNode(t, net, again)
		connect(t, n, other)
		meshed(t, 1, n)
		time.Sleep(time.Minute)
		require.Empty(t, gapOf(n).Gap)
		requireKept(t, again, want)
	})
}

// One message in another's archive that isn't genuine keeps no gap open.
func TestArchiveResumeBesideForgery(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		key := newKey(t)
		theirs, ours := storetest.NewModel(storetest.Config{}), storetest.NewModel(storetest.Config{})
		var genuine []store.Entry
		for i := range 200 {
			at := time.Now().Add(time.Duration(i)*time.Second - time.Hour)
			genuine = append(genuine, signed(t, key, at, i))
			if i == 50 {
				require.NoError(t, theirs.Put(within(t), []store.Entry{said(at, "unsigned")}))
			}
		}
		require.NoError(t, theirs.Put(within(t), genuine))
		require.NoError(t, ours.Put(within(t), genuine[:120])) // the first page is known, but for the forgery
		other, _ := storeNode(t, net, theirs, waku.ArchiveResume(0))
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(ours), waku.WithProtectedShard(town, key.PublicKey()))
		join(t, n, waku.Community{Shard: town})
		connect(t, n, other)
		meshed(t, 1, n)
		time.Sleep(5 * time.Minute)
		require.Empty(t, gapOf(n).Gap)
		requireKept(t, ours, hashes(genuine))
	})
}

// A store node that never answers doesn't keep everybody's gap open.
func TestArchiveResumeBesideFailure(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		full, ours := storetest.NewModel(storetest.Config{}), storetest.NewModel(storetest.Config{})
		all := fill(t, 300, 1, full)
		n, _ := storeNode(t, net, ours)
		bad, _ := storeThat(t, net, unavailable)
		good, _ := storeNode(t, net, full, waku.ArchiveResume(0))
		connect(t, n, good, bad)
		meshed(t, 1, n)
		time.Sleep(10 * time.Minute)
		require.Equal(t, waku.ShardArchive{Shard: town}, gapOf(n))
		requireKept(t, ours, hashes(all))
		mark, err := ours.Mark(within(t), town)
		require.NoError(t, err)
		require.InDelta(t, 5.5, time.Since(mark).Minutes(), 0.5)
	})
}

// Who names hashes without end keeps nobody from filling a gap elsewhere, and
// doesn't move the mark past what is missing.
func TestArchiveResumeBesideEndlessHashes(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		ours, full := storetest.NewModel(storetest.Config{}), storetest.NewModel(storetest.Config{})
		all := fill(t, 1300, 1, full)
		last := all[len(all)-1]
		known := append(slices.Clone(all[:1100]), last) // 199 are missing before the last one
		require.NoError(t, ours.Put(within(t), known))
		var asked atomic.Int64
		bad, _ := storeThat(t, net, func(store.Query) (p store.Page, _ error) {
			round := int(asked.Add(1))
			for i := range 99 {
				p.Entries = append(p.Entries, store.Entry{Hash: known[(99*round-99+i)%len(known)].Hash})
			}
			if round == 1 {
				p.Entries = append(p.Entries, store.Entry{Hash: last.Hash})
			}
			p.Cursor = new(p.Entries[len(p.Entries)-1].Hash)
			return p, nil
		})
		n, _ := storeNode(t, net, ours)
		connect(t, n, bad)
		meshed(t, 1, n)
		time.Sleep(30 * time.Second)
		require.NotEmpty(t, gapOf(n).Failure)
		require.Less(t, asked.Load(), int64(50))
		mark, err := ours.Mark(within(t), town)
		require.NoError(t, err)
		require.True(t, mark.Before(time.Unix(0, all[1100].Message.Timestamp)), "%s", mark)
		good, _ := storeNode(t, net, full, waku.ArchiveResume(0))
		connect(t, n, good)
		time.Sleep(3 * time.Minute)
		require.Empty(t, gapOf(n).Gap)
		requireKept(t, ours, hashes(all))
	})
}

// elsewhere is a shard that nobody joined.
var elsewhere = sharding.Shard{Cluster: town.Cluster, Index: 999}

// otherShard answers questions for hashes with messages of a shard that nobody
// asked about, which nobody signed.
func otherShard(n int) func(store.Query) (store.Page, error) {
	all := map[message.Hash]store.Entry{}
	var named []store.Entry
	for i := range n {
		m := said(time.Now().Add(time.Duration(i)-time.Minute), i).Message
		e := store.NewEntry(elsewhere, m)
		all[e.Hash] = e
		named = append(named, store.Entry{Hash: e.Hash})
	}
	return func(q store.Query) (p store.Page, _ error) {
		for _, h := range q.Hashes {
			if e, ok := all[h]; ok {
				p.Entries = append(p.Entries, e)
			}
		}
		switch {
		case q.HashesOnly && q.Cursor == nil: // nothing on this page: hashes are asked for on
			p.Cursor = new(madeUp(1))
		case q.HashesOnly:
			p.Entries = named
		}
		return p, nil
	}
}

// Nothing of a shard that wasn't asked about gets into the archive.
func TestArchiveResumeOtherShard(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		bad, _ := storeThat(t, net, otherShard(50))
		archive := storetest.NewModel(storetest.Config{})
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithArchive(archive), waku.WithProtectedShard(town, newKey(t).PublicKey()))
		join(t, n, waku.Community{Shard: town})
		connect(t, n, bad)
		meshed(t, 1, n)
		time.Sleep(2 * time.Minute)
		s, err := archive.Stats(within(t))
		require.NoError(t, err)
		require.Zero(t, s.Messages)
	})
}

// Two store nodes that take turns being away both have everything at the end,
// whether they were away for seconds or hours, and in the middle of filling a gap.
func TestArchivesTakeTurns(t *testing.T) {
	turns := 2
	if testing.Short() {
		turns = 1
	}
	for seed := range turns {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				author := start(t, waku.WithHost(net.Hosts(1)[0]))
				m := join(t, author, waku.Community{Shard: town})
				var models [2]*storetest.Model
				var nodes [2]*waku.Node
				up := func(i int) {
					nodes[i], _ = storeNode(t, net, models[i].Reopen(storetest.Config{}))
					connect(t, nodes[i], author)
					if other := nodes[1-i]; other != nil {
						connect(t, nodes[i], other)
					}
					meshed(t, 1, nodes[i])
				}
				for i := range models {
					models[i] = storetest.NewModel(storetest.Config{})
					up(i)
				}
				time.Sleep(time.Minute)
				var want []message.Hash
				for i := range 4 {
					away := (i + seed) % 2
					require.NoError(t, nodes[away].Close())
					want = append(want, sendSome(t, m, 100*i, 60)...)
					time.Sleep(time.Duration(20*seed*i) * time.Minute)
					up(away)
					time.Sleep(time.Duration(7*i*(seed+1)) * time.Second)
				}
				time.Sleep(10 * time.Minute)
				for i, n := range nodes {
					require.Empty(t, gapOf(n).Gap)
					requireKept(t, models[i], want)
				}
			})
		})
	}
}
