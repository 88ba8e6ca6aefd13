package waku_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/waku"
)

// Whatever happens to members, services and stores, in the end every member has every
// message that a store has, once, and none that nobody signed.
//
// FAULT_SEED repeats one schedule, FAULT_FIRST begins elsewhere.
func TestRandomFaults(t *testing.T) {
	n := 20
	if testing.Short() {
		n = 4
	}
	randomFaults(t, 1, n)
}

func randomFaults(t *testing.T, first, n int) {
	for name, most := range map[string]int{"FAULT_SEED": 1, "FAULT_FIRST": n} {
		if text := os.Getenv(name); text != "" {
			var err error
			first, err = strconv.Atoi(text)
			require.NoError(t, err)
			n = most
		}
	}
	var all faultReport
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				r := runFaults(t, uint64(seed))
				all.add(r)
				t.Logf("seed %d: %v", seed, r)
			})
		})
	}
	t.Logf("seeds %d to %d: %v", first, first+n-1, all)
}

// The same without reading back, to see that the schedules are hard enough.
func TestRandomFaultsUnfilled(t *testing.T) {
	if testing.Short() {
		t.Skip("a control of TestRandomFaults, which the long round has")
	}
	missing := 0
	for seed := range 3 {
		p2ptest.Bubble(t, func(t *testing.T) {
			missing += runFaults(t, uint64(seed), waku.Unfilled()).missing
		})
	}
	t.Logf("%d missing", missing)
	require.Positive(t, missing)
}

// faultReport is what came of schedules.
type faultReport struct {
	faults, messages, members, missing int
	slowest                            time.Duration
}

func (r *faultReport) add(o faultReport) {
	r.faults, r.messages, r.members = r.faults+o.faults, r.messages+o.messages, r.members+o.members
	r.missing += o.missing
	r.slowest = max(r.slowest, o.slowest)
}

func (r faultReport) String() string {
	return fmt.Sprintf("%d faults; of %d messages %d deliveries were due: %d missing; all there %v after the last fault at most",
		r.faults, r.messages, r.members, r.missing, r.slowest)
}

// The network splits, not for long, and everybody goes on talking: connections die of which
// nobody hears, and others are back before this is noticed.
func TestSplit(t *testing.T) {
	for _, d := range []time.Duration{5 * time.Second, 20 * time.Second, 2 * time.Minute} {
		t.Run(d.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				w := newFaultTown(t, 1, 3, 4)
				w.up()
				defer w.down(1)
				talking, hush := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { w.talk(talking, 100*time.Millisecond, 2*time.Second) })
				time.Sleep(3 * time.Minute)
				var sides [2][]host.Host
				for i, p := range w.all() { // a store and two members, and the others
					side := 0
					if i == 1 || i == 2 || i >= 5 {
						side = 1
					}
					sides[side] = append(sides[side], p.host)
				}
				w.net.Split(sides[0], sides[1])
				time.Sleep(d)
				w.net.Mend()
				time.Sleep(2 * time.Minute)
				hush()
				wg.Wait()
				time.Sleep(time.Minute)
				w.check(w.due())
			})
		})
	}
}

func runFaults(t *testing.T, seed uint64, opts ...waku.Option) (out faultReport) {
	w := newFaultTown(t, seed, 3, 4, opts...)
	w.up()
	defer w.down(seed)
	time.Sleep(5 * time.Second)
	talking, hush := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.talk(talking, 100*time.Millisecond, 2*time.Second) })
	out.faults = 4 + w.pick(8)
	w.trouble(out.faults)
	back := time.Now()
	due := w.due()
	for w.missing(due) > 0 && time.Since(back) < 5*time.Minute {
		time.Sleep(time.Second)
	}
	out.slowest = time.Since(back)
	hush()
	wg.Wait()
	time.Sleep(time.Minute)
	due = w.due()
	out.messages, out.members = len(due), len(due)*len(w.members)
	out.missing = w.missing(due)
	if len(opts) == 0 {
		w.check(due)
	}
	return out
}

// due are the messages that members should have: what any store has.
func (w *faultTown) due() map[message.Hash]*message.Message {
	due := map[message.Hash]*message.Message{}
	for _, p := range w.stores {
		for q := (store.Query{Limit: store.MaxPageSize}); ; {
			page, err := p.archive.Query(context.Background(), q)
			require.NoError(w.t, err)
			for _, e := range page.Entries {
				if w.signed(e.Message) {
					due[e.Hash] = e.Message
				}
			}
			if q.Cursor = page.Cursor; q.Cursor == nil {
				break
			}
		}
	}
	return due
}

func (w *faultTown) missing(due map[message.Hash]*message.Message) (n int) {
	for _, p := range w.members {
		p.hearing.Lock()
		for _, m := range due {
			if !p.payload[string(m.Payload)] {
				n++
			}
		}
		p.hearing.Unlock()
	}
	return n
}

func (w *faultTown) check(due map[message.Hash]*message.Message) {
	for _, p := range w.members {
		p.hearing.Lock()
		for h, m := range due {
			if p.heard[h] > 1 || !p.payload[string(m.Payload)] { // one sent anew has another hash
				w.t.Errorf("%s heard %q of %s %d times; health: %+v", p.name(), m.Payload, time.Unix(0, m.Timestamp).UTC().Format(time.TimeOnly), p.heard[h], p.node.Health().Shards[0].Gaps)
			}
		}
		for h, n := range p.heard {
			if n > 1 && due[h] == nil {
				w.t.Errorf("%s heard %s, which no store has, %d times", p.name(), h, n)
			}
		}
		if len(p.wrong) > 0 {
			w.t.Errorf("%s: %v", p.name(), p.wrong)
		}
		p.hearing.Unlock()
	}
}
