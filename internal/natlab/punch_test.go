//go:build nat && linux

package natlab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// afterwards is for how long the talk must go on without the relayer.
const afterwards = time.Minute

// Two members in homes of their own find each other through a relayer and talk
// directly; then they don't need it any more.
func TestPunch(t *testing.T) {
	t.Parallel()
	for _, over := range transports {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			c := newCommunity(t, over)
			r := c.relayer(t, c.server(t, "relayer", "11.0.0.2"), "11.0.0.2", "--metrics", metrics)
			began := time.Now()
			ana := c.member(t, c.home(t, "ana", portRestricted, "11.1.0.1", "192.168.1.2"), "ana", r)
			bea := c.member(t, c.home(t, "bea", portRestricted, "11.2.0.1", "10.0.0.2"), "bea", r)
			ana.await(t, 0, time.Minute, "a hole punched", what("hole punched"))
			bea.await(t, 0, time.Minute, "a hole punched", what("hole punched"))
			ana.await(t, 0, time.Minute, "a direct connection", direct(bea))
			bea.await(t, 0, time.Minute, "a direct connection", direct(ana))
			t.Logf("%s: direct %.1f s after the start", over, time.Since(began).Seconds())
			ana.await(t, 0, time.Minute, "a message over the direct connection", directly(bea))
			bea.await(t, 0, time.Minute, "a message over the direct connection", directly(ana))

			require.Eventually(t, func() bool { return r.metric(t, "waku_circuit_relay_circuits") == 0 }, time.Minute, 100*time.Millisecond)
			before := r.metric(t, "waku_circuit_relay_bytes_total")
			mark := ana.mark()
			time.Sleep(10 * time.Second)
			said := len(ana.since(mark, from("bea")))
			assert.Greater(t, said, 5)
			assert.Equal(t, before, r.metric(t, "waku_circuit_relay_bytes_total"), "bytes over circuits after the punch")
			assert.Positive(t, before)
			t.Logf("%s: %.0f bytes over circuits until the punch; then %d messages, and 0 bytes", over, before, said)

			r.kill()
			anaMark, beaMark := ana.mark(), bea.mark()
			time.Sleep(afterwards)
			for _, x := range []struct {
				who, other *member
				mark       int
			}{{ana, bea, anaMark}, {bea, ana, beaMark}} {
				said := len(x.other.since(x.mark, what("said")))
				heard := len(x.who.since(x.mark, directly(x.other)))
				t.Logf("%s: %s, for %v after the relayer was killed: %d said, %d heard directly", over, x.who.name, afterwards, said, heard)
				assert.Greater(t, heard, int(afterwards/time.Second), "two a second are said")
				assert.InDelta(t, said, heard, 5)
			}
		})
	}
}
