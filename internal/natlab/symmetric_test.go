//go:build nat && linux

package natlab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// soon is in what time a member that can't be reached must take part.
const soon = 30 * time.Second

// Behind symmetric routers nobody punches. The members take part all the same, through
// the relayer: in its mesh, or, where that is full, by filter and light push. They say
// why, and neither go on trying nor hold on to what they tried with.
func TestSymmetric(t *testing.T) {
	t.Parallel()
	for _, over := range transports {
		for _, full := range []bool{false, true} {
			name := map[bool]string{false: "room in the mesh", true: "no room in the mesh"}[full]
			t.Run(fmt.Sprintf("%s/%s", over, name), func(t *testing.T) {
				t.Parallel()
				c := newCommunity(t, over)
				var r *relayer
				if full {
					r = c.crowded(t, "11.0.0.2")
				} else {
					r = c.relayer(t, c.server(t, "relayer", "11.0.0.2"), "11.0.0.2")
				}
				ana := c.member(t, c.home(t, "ana", symmetric, "11.1.0.1", "192.168.1.2"), "ana", r)
				bea := c.member(t, c.home(t, "bea", symmetric, "11.2.0.1", "10.0.0.2"), "bea", r)
				for _, x := range []struct{ who, other *member }{{ana, bea}, {bea, ana}} {
					mark := 0
					if full {
						m := x.who.await(t, 0, soon, "the light mode", what("light fallback"))
						t.Logf("%s: light %.1f s after the start", x.who.name, m.At)
						mark = x.who.mark()
					}
					m := x.who.await(t, mark, soon, "a message", from(x.other.called()))
					t.Logf("%s: hears %.1f s after the start", x.who.name, m.At)
				}
				for _, x := range []*member{ana, bea} {
					x.await(t, 0, time.Minute, "the failure", what("hole punch failed"))
					m := x.await(t, 0, time.Minute, "why", func(m moment) bool {
						return m.What == "health" && strings.Contains(m.Text, "direct connection")
					})
					t.Logf("%s, after %.1f s: %s", x.name, m.At, m.Text)
				}

				lasts := 90 * time.Second
				if *long {
					lasts = 15 * time.Minute
				}
				type load struct{ begun, files, kib int }
				look := func(m *member) load {
					files, _, kib := m.holds(t)
					return load{m.home.begun(t), files, kib}
				}
				marks := [2]int{ana.mark(), bea.mark()}
				before := [2]load{look(ana), look(bea)}
				time.Sleep(lasts)
				for i, x := range []*member{ana, bea} {
					was, is := before[i], look(x)
					failed := len(x.since(marks[i], what("hole punch failed")))
					t.Logf("%s, in %v: %d packets of connections that nobody has answered, %d circuits without success; files %d, then %d; %d KiB, then %d",
						x.name, lasts, is.begun-was.begun, failed, was.files, is.files, was.kib, is.kib)
					assert.LessOrEqual(t, failed, 2+int(lasts/time.Minute), "it tries less and less often")
					assert.LessOrEqual(t, is.files, was.files+8, "files")
					assert.Less(t, is.begun-was.begun, 200*(failed+1), "what it tries costs little")
					assert.Empty(t, x.since(0, what("hole punched")))
					other := []*member{bea, ana}[i]
					assert.NotEmpty(t, x.since(marks[i], from(other.called())), "and still hears")
				}
			})
		}
	}
}
