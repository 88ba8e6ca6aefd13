package waku_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
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

// joined is a node that joined town.
func joined(t testing.TB, net *p2ptest.Network, opts ...waku.Option) (*waku.Node, *waku.Membership) {
	t.Helper()
	n := start(t, append(opts, waku.WithHost(net.Hosts(1)[0]))...)
	return n, join(t, n, waku.Community{Shard: town})
}

// dice may be thrown by several at once.
type dice struct {
	mu  sync.Mutex
	rnd *rand.Rand
}

func newDice(seed int) *dice { return &dice{rnd: rand.New(rand.NewPCG(uint64(seed), 7))} }

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rnd.IntN(n)
}

// unreliable answers like a store node that fails, forgets its cursors, takes its
// time, cuts pages short, and takes the end of a range for a part of it.
func unreliable(d *dice, model *storetest.Model) func(store.Query) (store.Page, error) {
	forgetful := d.below(4) == 0
	return func(q store.Query) (store.Page, error) {
		switch d.below(12) {
		case 0:
			return unavailable(q)
		case 1:
			return store.Page{}, store.ErrUnknownCursor
		case 2:
			panic("a stream that is reset")
		case 3:
			if q.Cursor != nil && forgetful {
				return store.Page{}, store.ErrUnknownCursor
			}
		case 4:
			time.Sleep(time.Duration(d.below(6000)) * time.Millisecond)
		}
		q.MaxBytes = 1 + d.below(100_000)
		q.Limit = 1 + d.below(q.Limit)
		if !q.End.IsZero() {
			q.End = q.End.Add(1)
		}
		return query(model, q)
	}
}

// question makes up a question about messages of base and the 60 ns after it, and
// says which of all, in order, answer it.
func question(d *dice, base time.Time, topics int, all []store.Entry) (q waku.HistoryQuery, want []message.Hash) {
	if d.below(2) == 0 {
		q.Since = base.Add(time.Duration(d.below(30)))
	}
	if d.below(2) == 0 {
		q.Until = base.Add(time.Duration(30 + d.below(30)))
	}
	q.Backward = d.below(2) == 0
	if d.below(3) == 0 {
		q.Limit = 1 + d.below(200)
	}
	if d.below(2) == 0 {
		for i := range topics {
			if d.below(4) > 0 {
				q.ContentTopics = append(q.ContentTopics, fmt.Sprintf("/chat/1/room-%d/proto", i))
			}
		}
	}
	for _, e := range all {
		at := time.Unix(0, e.Message.Timestamp)
		if !at.Before(q.Since) && (q.Until.IsZero() || at.Before(q.Until)) &&
			(len(q.ContentTopics) == 0 || slices.Contains(q.ContentTopics, e.Message.ContentTopic)) {
			want = append(want, e.Hash)
		}
	}
	if q.Backward {
		slices.Reverse(want)
	}
	if q.Limit > 0 {
		want = want[:min(len(want), q.Limit)]
	}
	return q, want
}

// Whatever is asked and however unreliable the store nodes are, each message that
// was asked for comes once and in order, however many are of the same nanosecond.
func TestHistoryOfUnreliableStores(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				d := newDice(seed)
				net := p2ptest.New(t, p2ptest.Config{})
				model := storetest.NewModel(storetest.Config{})
				topics := 1 + d.below(25)
				base := time.Now().Add(-time.Hour)
				var all []store.Entry
				for i := range 50 + d.below(300) {
					all = append(all, store.NewEntry(town, &message.Message{
						Payload:      fmt.Appendf(make([]byte, d.below(1500)), "%d", i),
						ContentTopic: fmt.Sprintf("/chat/1/room-%d/proto", d.below(topics)),
						Timestamp:    base.UnixNano() + int64(d.below(60)),
					}))
				}
				require.NoError(t, model.Put(t.Context(), all))
				slices.SortFunc(all, func(a, b store.Entry) int { return a.Key().Compare(b.Key()) })
				n, m := joined(t, net)
				for range 3 {
					s, _ := storeThat(t, net, unreliable(d, model))
					connect(t, n, s)
				}
				for range 6 {
					q, want := question(d, base, topics, all)
					var got []message.Hash
					for env, err := range m.History(t.Context(), q) {
						require.NoError(t, err, "%+v after %d", q, len(got))
						got = append(got, env.Hash)
					}
					require.Equal(t, len(want), len(got), "%+v", q)
					require.True(t, slices.Equal(want, got), "%+v", q)
				}
			})
		})
	}
}

// Histories end, and with errors that say why, whoever leaves at whatever moment.
func TestHistoryEndsAnytime(t *testing.T) {
	for seed := range 9 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				d := newDice(seed)
				network := p2ptest.New(t, p2ptest.Config{Latency: time.Duration(d.below(50)) * time.Millisecond})
				archive := storetest.NewModel(storetest.Config{})
				fill(t, 300, 15, archive)
				s, sm := storeNode(t, network, archive)
				n, m := joined(t, network, waku.WithArchive(storetest.NewModel(storetest.Config{})))
				connect(t, n, s)
				var all sync.WaitGroup
				all.Go(func() {
					for i := range 100 {
						if _, err := sm.Send(t.Context(), lobby, fmt.Append(nil, i)); err != nil {
							return
						}
						time.Sleep(20 * time.Millisecond)
					}
				})
				for range 8 {
					q := waku.HistoryQuery{Follow: d.below(2) == 0}
					end, limit := time.Duration(d.below(8000))*time.Millisecond, d.below(500)
					all.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), end)
						defer cancel()
						got := 0
						for env, err := range m.History(ctx, q) {
							var said *waku.HistoryError
							assert.Equal(t, err != nil, env == nil)
							assert.True(t, err == nil || errors.Is(err, net.ErrClosed) || errors.As(err, &said), "%v", err)
							if got++; got == limit {
								break
							}
						}
					})
				}
				time.Sleep(time.Duration(d.below(7000)) * time.Millisecond)
				switch seed % 3 {
				case 0:
					require.NoError(t, m.Leave())
					join(t, n, waku.Community{Shard: town})
				case 1:
					require.NoError(t, n.Close())
				case 2:
					require.NoError(t, s.Close())
				}
				all.Wait()
			})
		})
	}
}

// A store node that takes the end of a range for a part of it is neither an error
// nor believed.
func TestHistoryInclusiveEnd(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		until := time.Now().Add(-time.Hour)
		s, _ := storeThat(t, net, func(store.Query) (store.Page, error) {
			return store.Page{Entries: []store.Entry{said(until, "at the end")}}, nil
		})
		n, m := joined(t, net)
		connect(t, n, s)
		require.Empty(t, read(t, m, waku.HistoryQuery{Until: until}))
	})
}

// However many store nodes fail, one that works is found.
func TestHistoryFindsTheNinthPeer(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		full := storetest.NewModel(storetest.Config{})
		all := fill(t, 10, 1, full)
		n, m := joined(t, net)
		for range 9 {
			bad, _ := storeThat(t, net, unavailable)
			connect(t, n, bad)
		}
		good, _ := storeNode(t, net, full, waku.ArchiveResume(0))
		connect(t, n, good)
		for range 3 {
			require.Equal(t, hashes(all), read(t, m, waku.HistoryQuery{}))
			time.Sleep(2 * time.Minute) // those that failed may be asked again
		}
	})
}

// Who lied isn't asked again because of an honest answer that was under way.
func TestHistoryForgivesNoLiar(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		model := storetest.NewModel(storetest.Config{})
		all := fill(t, 600, 1, model)
		var lies atomic.Int64
		bad, _ := storeThat(t, net, func(q store.Query) (store.Page, error) {
			if q.Backward {
				lies.Add(1)
				return store.Page{Entries: []store.Entry{{Hash: madeUp(1), Message: all[0].Message}}}, nil
			}
			time.Sleep(4 * time.Second)
			return query(model, q)
		})
		n, m := joined(t, net)
		connect(t, n, bad)
		for range 3 {
			go func() {
				for range m.History(t.Context(), waku.HistoryQuery{}) {
				}
			}()
			time.Sleep(time.Second)
		}
		for _, err := range m.History(t.Context(), waku.HistoryQuery{Backward: true}) {
			require.Error(t, err)
		}
		require.EqualValues(t, 1, lies.Load())
	})
}

// Messages of a key that was removed, however many, hide none that came later.
func TestHistoryBeyondRetiredKey(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		key := newKey(t)
		var entries, valid []store.Entry
		for i := range 10_200 {
			e := said(time.Now().Add(time.Duration(i)*time.Second-24*time.Hour), i)
			if i >= 10_150 {
				e = signed(t, key, time.Unix(0, e.Message.Timestamp), i)
				valid = append(valid, e)
			}
			entries = append(entries, e)
		}
		theirs := storetest.NewModel(storetest.Config{})
		require.NoError(t, theirs.Put(within(t), entries))
		s, _ := storeNode(t, net, theirs, waku.ArchiveResume(0))
		n, m := joined(t, net, waku.WithProtectedShard(town, key.PublicKey()))
		connect(t, n, s)
		require.Equal(t, hashes(valid), read(t, m, waku.HistoryQuery{}))
	})
}

// A validator may look into history; neither waits for the other for ever.
func TestHistoryInValidator(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		archive := storetest.NewModel(storetest.Config{})
		fill(t, 5, 1, archive)
		s, _ := storeNode(t, net, archive, waku.ArchiveResume(0))
		var m *waku.Membership
		n := start(t, waku.WithHost(net.Hosts(1)[0]), waku.WithValidator(town, func(ctx context.Context, _ *message.Received) message.Verdict {
			for range m.History(ctx, waku.HistoryQuery{Limit: 1}) {
			}
			return message.Accept
		}))
		m = join(t, n, waku.Community{Shard: town})
		connect(t, n, s)
		meshed(t, 1, n)
		began := time.Now()
		_, _ = m.Send(within(t), lobby, []byte("x"))
		for range m.History(within(t), waku.HistoryQuery{}) {
		}
		require.Less(t, time.Since(began), time.Minute)
	})
}
