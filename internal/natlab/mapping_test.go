//go:build nat && linux

package natlab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// isPublic fits the moment in which a member finds that others reach it.
func isPublic(m moment) bool {
	return m.What == "reachability changed" && strings.HasPrefix(m.Text, "public: ")
}

// A router that lets others in where it is asked to (WithPortMapping): its member is a
// public one, who uses no circuit, until the router has enough of it.
func TestPortMapping(t *testing.T) {
	t.Parallel()
	for _, over := range transports {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			c := newCommunity(t, over)
			// AutoNAT's second version asks each but once in two minutes, and twice in all.
			var relayers []*relayer
			for i := range 3 {
				ip := fmt.Sprintf("11.0.0.%d", i+2)
				relayers = append(relayers, c.relayer(t, c.server(t, "relayer", ip), ip))
			}
			h := c.home(t, "ana", portRestricted, "11.1.0.1", "192.168.1.2")
			router := h.mapper(t, false)
			ana := c.memberWith(t, h, "ana", []string{"--map-ports"}, relayers...)
			require.Eventually(t, func() bool { return router.requests() > 0 }, time.Minute, 100*time.Millisecond, "the router is asked")
			m := ana.await(t, 0, 2*time.Minute, "that others reach her", isPublic)
			t.Logf("%s: %s %.1f s after the start", t.Name(), m.Text, m.At)
			mark := ana.public()
			at := router.opened(t)
			if over == tcp { // records have no place for QUIC
				ana.await(t, 0, time.Minute, "the address in the record", func(m moment) bool {
					return m.What == "record" && strings.Contains(strings.Join(recordAddrs(t, m.Text), " "), at)
				})
			}

			// Who can't be dialled dials her, and no circuit is needed.
			bea := c.member(t, c.home(t, "bea", portRestricted, "11.2.0.1", "10.0.0.2"), "bea", relayers[0])
			m = bea.await(t, 0, time.Minute, "a message from ana", directly(ana))
			t.Logf("%s: reached after %.1f s", t.Name(), m.At)
			assert.True(t, strings.HasPrefix(m.Addr, at), "at the mapped address: %s", m.Addr)
			assert.Empty(t, bea.since(0, what("hole punched")))
			assert.Empty(t, ana.since(mark, what("circuit connected")))
			assert.Empty(t, ana.since(mark, what("circuit reserved")))

			// The router doesn't map any more, and forgets.
			mark = ana.mark()
			router.stop()
			h.forget(t)
			began := time.Now()
			m = ana.await(t, mark, 5*time.Minute, "the end of it", func(m moment) bool {
				return m.What == "reachability changed" && strings.HasPrefix(m.Text, "private: ")
			})
			t.Logf("%s: private %.0f s after the router stopped", t.Name(), m.came.Sub(began).Seconds())
			ana.await(t, mark, time.Minute, "a circuit", what("circuit reserved"))
		})
	}
}

// Routers lie: one that says that it maps and doesn't changes nothing. Its member is told
// by others that nobody gets in, says so, and is reached by punching.
func TestPortMappingLies(t *testing.T) {
	t.Parallel()
	for _, over := range transports {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			c := newCommunity(t, over)
			r := c.relayer(t, c.server(t, "relayer", "11.0.0.2"), "11.0.0.2")
			h := c.home(t, "ana", portRestricted, "11.1.0.1", "192.168.1.2")
			router := h.mapper(t, true)
			ana := c.memberWith(t, h, "ana", []string{"--map-ports"}, r)
			require.Eventually(t, func() bool { return router.requests() > 1 }, time.Minute, 100*time.Millisecond)
			ana.await(t, 0, 2*time.Minute, "a circuit", reservedAt(r))
			time.Sleep(20 * time.Second) // others find out
			bea := c.member(t, c.home(t, "bea", portRestricted, "11.2.0.1", "10.0.0.2"), "bea", r)
			m := bea.await(t, 0, 2*time.Minute, "a message from ana", directly(ana))
			t.Logf("%s: reached after %.1f s", t.Name(), m.At)
			assert.NotEmpty(t, bea.since(0, what("hole punched")))
			assert.Empty(t, ana.since(0, isPublic))
			for _, m := range ana.since(0, what("record")) {
				for _, at := range recordAddrs(t, m.Text) {
					assert.Contains(t, at, "/p2p-circuit", "nobody could dial it")
				}
			}
		})
	}
}
