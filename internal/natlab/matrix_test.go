//go:build nat && linux

package natlab

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// meeting is what became of two members who know a relayer and nothing of each other.
type meeting struct {
	reached, direct bool
	took            time.Duration // from when the second began to when they talked directly
	punched         bool
}

// meet lets two members meet, and ends them. They are strangers to the relayer and to
// each other each time.
func (c *community) meet(t *testing.T, x, y *home, patience time.Duration, relayers ...*relayer) (r meeting) {
	t.Helper()
	ana := c.member(t, x, "ana", relayers...)
	began := time.Now()
	bea := c.member(t, y, "bea", relayers...)
	defer func() {
		var ending sync.WaitGroup
		ending.Go(ana.end)
		ending.Go(bea.end)
		ending.Wait()
	}()
	if m, ok := ana.wait(0, patience, directly(bea)); ok {
		r.direct, r.took = true, m.came.Sub(began)
		_, r.direct = bea.wait(0, patience, directly(ana))
	}
	_, heard := ana.wait(0, patience, from("bea"))
	_, said := bea.wait(0, patience, from("ana"))
	r.reached = heard && said
	r.punched = len(ana.since(0, what("hole punched"))) > 0
	for _, m := range []struct{ who, other *member }{{ana, bea}, {bea, ana}} {
		if h := m.who.home; h.kind == open {
			assert.Empty(t, m.who.since(m.who.public(), what("circuit connected")), "a public node uses no circuit")
		} else {
			assert.NotContains(t, m.other.story(), h.inside, "nobody is told an address inside")
		}
	}
	return r
}

// public is the mark from which on a member has known that it is a public node; until
// then it may have used circuits.
func (m *member) public() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.lines, func(x moment) bool { return x.What == "reachability changed" && strings.HasPrefix(x.Text, "public") })
	if i < 0 {
		return len(m.lines)
	}
	return i
}

// cell is a place in the matrix.
type cell struct {
	one, other kind
	over       transport
	meetings   []meeting
}

// count returns how many were reached and direct, and the median of the times.
func (c *cell) count() (reached, direct, punched int, median time.Duration) {
	var times []time.Duration
	for _, m := range c.meetings {
		if m.reached {
			reached++
		}
		if m.punched {
			punched++
		}
		if m.direct {
			direct++
			times = append(times, m.took)
		}
	}
	if slices.Sort(times); len(times) > 0 {
		median = times[len(times)/2]
	}
	return reached, direct, punched, median
}

// hopeless tells whether nothing can punch through both routers: where the port that
// others would have to know is another one each time. With one side a full cone, or
// open, the other can just dial.
func hopeless(one, other kind) bool {
	closed := func(k kind) bool { return k == portRestricted || k == symmetric }
	return one == symmetric && closed(other) || other == symmetric && closed(one)
}

// patience is how long two members may take to talk directly.
const patience = 45 * time.Second

// Everybody with everybody, behind every kind of router, on both sides (scorecard E4).
func TestMatrix(t *testing.T) {
	t.Parallel()
	tries := 1
	if *long {
		tries = 20
	}
	var mu sync.Mutex
	var cells []*cell
	t.Cleanup(func() { t.Log(table(cells)) })
	for _, over := range transports {
		for i, one := range kinds {
			for _, other := range kinds[i:] {
				t.Run(fmt.Sprintf("%s/%s and %s", over, one, other), func(t *testing.T) {
					t.Parallel()
					c := newCommunity(t, over)
					r := c.relayer(t, c.server(t, "relayer", "11.0.0.2"), "11.0.0.2")
					x := c.home(t, "ana", one, "11.1.0.1", "192.168.1.2")
					y := c.home(t, "bea", other, "11.2.0.1", "10.0.0.2")
					this := &cell{one: one, other: other, over: over}
					within := patience
					if hopeless(one, other) {
						within = 20 * time.Second
					}
					again := !*long && !hopeless(one, other) // one in twenty may fail, whichever
					for n := 0; n < tries || n == 1 && again && !this.meetings[0].direct; n++ {
						if n%2 == 1 { // either may be the one to call
							x, y = y, x
						}
						for _, h := range []*home{x, y} {
							if h.router != nil {
								h.forget(t)
							}
						}
						this.meetings = append(this.meetings, c.meet(t, x, y, within, r))
					}
					mu.Lock()
					cells = append(cells, this)
					mu.Unlock()
					reached, direct, _, _ := this.count()
					assert.Len(t, this.meetings, reached, "reached")
					if hopeless(one, other) {
						assert.Zero(t, direct, "the router isn't what it should be")
						return
					}
					assert.GreaterOrEqual(t, 20*direct, 19*tries, "direct: %d of %d", direct, tries)
				})
			}
		}
	}
}

func table(cells []*cell) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-5s %-16s %-16s %7s %7s %7s %9s\n", "", "", "", "reached", "direct", "punched", "median")
	slices.SortFunc(cells, func(a, b *cell) int {
		key := func(c *cell) string {
			return fmt.Sprint(c.over, slices.Index(kinds, c.one), slices.Index(kinds, c.other))
		}
		return strings.Compare(key(a), key(b))
	})
	for _, c := range cells {
		reached, direct, punched, median := c.count()
		n := len(c.meetings)
		fmt.Fprintf(&b, "%-5s %-16s %-16s %4d/%-2d %4d/%-2d %4d/%-2d %7.1f s\n",
			c.over, c.one, c.other, reached, n, direct, n, punched, n, median.Seconds())
	}
	return b.String()
}

// How often punching works, where it can.
func TestSuccessRate(t *testing.T) {
	t.Parallel()
	tries, side := 4, 2
	if *long {
		tries, side = 50, 2
	}
	for _, over := range transports {
		this := &cell{one: portRestricted, other: portRestricted, over: over}
		var mu sync.Mutex
		t.Run(string(over), func(t *testing.T) {
			for i := range side {
				t.Run(fmt.Sprint("lab ", i+1), func(t *testing.T) {
					t.Parallel()
					c := newCommunity(t, over)
					r := c.relayer(t, c.server(t, "relayer", "11.0.0.2"), "11.0.0.2")
					x := c.home(t, "ana", portRestricted, "11.1.0.1", "192.168.1.2")
					y := c.home(t, "bea", portRestricted, "11.2.0.1", "10.0.0.2")
					for range tries / side {
						x.forget(t)
						y.forget(t)
						m := c.meet(t, x, y, patience, r)
						mu.Lock()
						this.meetings = append(this.meetings, m)
						mu.Unlock()
					}
				})
			}
		})
		_, direct, punched, median := this.count()
		n := len(this.meetings)
		t.Logf("%s: %d of %d direct, %d punched, median %.1f s", over, direct, n, punched, median.Seconds())
		assert.GreaterOrEqual(t, 20*direct, 19*n, "%s", over)
	}
}
