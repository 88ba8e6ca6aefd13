package waku_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// A light member's network goes and comes, and service peers' filter dies while it is
// there. All is there within half a minute of the return, once, and the store isn't
// asked while nothing is missing.
func TestLightMemberComesAndGoes(t *testing.T) {
	rounds := 19
	if testing.Short() {
		rounds = 4
	}
	comesAndGoes(t, rounds)
}

// absence is what happens in a round.
type absence struct {
	away, pace time.Duration // pace: one message in that time
	killed     bool          // the service rather than the network
}

func absenceOf(round int) absence {
	switch round % 20 {
	case 19:
		return absence{away: 12 * time.Hour, pace: 2 * time.Minute}
	case 3, 8, 13:
		return absence{away: 10 * time.Minute, pace: 5 * time.Second}
	case 1, 6, 11, 16:
		return absence{away: 10 * time.Second, pace: time.Second, killed: true}
	}
	return absence{away: 10 * time.Second, pace: time.Second}
}

// ledger is who said and heard what.
type ledger struct {
	mu    sync.Mutex
	sent  []message.Hash
	heard map[message.Hash]int
}

// missing counts what was said up to a point, and not heard.
func (l *ledger) missing(said int) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.sent[:said] {
		if l.heard[h] == 0 {
			n++
		}
	}
	return n
}

func (l *ledger) said() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sent)
}

func comesAndGoes(t *testing.T, rounds int) {
	p2ptest.Bubble(t, func(t *testing.T) {
		archive := &counted{Archive: storetest.NewModel(storetest.Config{})}
		w := newLightTown(t, 2, waku.WithArchive(archive))
		r := subscribe(t, w.light, lobby)
		w.served(t, waku.Sufficient)
		var dead atomic.Bool
		for _, s := range w.servers {
			intercept(t, waku.HostOf(s), filter.SubscribeID, func(s network.Stream, next network.StreamHandler) {
				if dead.Load() {
					s.Reset()
					return
				}
				next(s)
			})
		}

		l := &ledger{heard: map[message.Hash]int{}}
		var pace atomic.Int64
		pace.Store(int64(time.Second))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				h := w.say(t)
				l.mu.Lock()
				l.sent = append(l.sent, h)
				l.mu.Unlock()
				time.Sleep(time.Duration(pace.Load()))
			}
		})
		wg.Go(func() {
			for {
				env, err := r.Next(ctx)
				if err != nil {
					return
				}
				l.mu.Lock()
				l.heard[env.Hash]++
				l.mu.Unlock()
			}
		})

		time.Sleep(20 * time.Second)
		var slowest, unnoticed time.Duration
		asked, healthy := archive.asked.Load(), time.Duration(0)
		for i := range rounds {
			a := absenceOf(i)
			began, noticed := time.Now(), false
			pace.Store(int64(a.pace))
			if a.killed {
				dead.Store(true)
				for i := range w.servers {
					waku.EvictAll(w.servers[i])
				}
				time.Sleep(a.away)
				dead.Store(false)
			} else {
				for _, s := range w.servers {
					require.NoError(t, w.host.Network().ClosePeer(s.PeerID()))
				}
				w.net.Vanish(w.host)
				time.Sleep(a.away)
				w.net.Return(w.host)
				connect(t, w.member, w.servers...)
			}
			pace.Store(int64(time.Second))
			back, said := time.Now(), l.said()
			within := 30 * time.Second
			if a.killed {
				within += time.Minute // until it is pinged
			}
			well := func() bool {
				h := w.member.Health().Shards[0]
				return h.State == waku.Sufficient && h.Light.Gaps == 0 && l.missing(said) == 0
			}
			for !well() || a.killed && time.Since(back) < 65*time.Second {
				if a.killed && !noticed && w.member.Health().Shards[0].State != waku.Sufficient {
					noticed = true
					unnoticed = max(unnoticed, time.Since(began))
				}
				require.Less(t, time.Since(back), within, "%d: %d of %d missing: %+v", i, l.missing(said), said, w.member.Health().Shards[0].Light)
				time.Sleep(time.Second)
			}
			if a.killed {
				require.True(t, noticed, "nobody noticed that the filter had forgotten")
			} else {
				slowest = max(slowest, time.Since(back))
			}
			time.Sleep(5 * time.Second)
			before := archive.asked.Load()
			time.Sleep(10 * time.Second)
			require.Equal(t, before, archive.asked.Load(), "asked while nothing is missing")
			healthy += 10 * time.Second
		}
		time.Sleep(20 * time.Second)
		stop()
		wg.Wait()
		doubled := 0
		for _, n := range l.heard {
			doubled += n - 1
		}
		require.Zero(t, l.missing(len(l.sent)-1))
		require.Zero(t, doubled)
		require.LessOrEqual(t, len(l.heard), len(l.sent))
		t.Logf("%d absences, %d messages: 0 missing, 0 doubled; all there %v after a return at most, a dead filter noticed after %v at most; %d questions to the store, 0 in %v of health",
			rounds, len(l.sent), slowest, unnoticed, archive.asked.Load()-asked, healthy)
	})
}
