package waku_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// Peers that open thousands of streams share what there is beyond what each has for
// itself, and take nothing of that: not the streams of others, nor their places before
// a stream has a protocol.
func TestManyStreams(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		m := waku.NewResources(t, 300, 30)
		opens := func(p peer.ID) bool {
			s, err := m.OpenStream(p, network.DirInbound)
			if err != nil {
				return false
			}
			require.NoError(t, s.SetProtocol(filter.SubscribeID))
			s.Done()
			return true
		}
		const hostile, each = 10, 1000
		seconds, passers := 10, 100_000
		if testing.Short() {
			seconds, passers = 3, 10_000
		}
		pool := 1000 * runtime.GOMAXPROCS(0)
		admitted := 0
		for i := range seconds * each {
			for j := range hostile {
				if opens(peer.ID(fmt.Sprint(j))) {
					admitted++
				}
			}
			if i%(each/4) == 0 {
				require.True(t, opens("honest"), "%d", i)
			}
			time.Sleep(time.Second / each)
		}
		require.LessOrEqual(t, admitted, pool*(seconds+1)+hostile*(25+5*seconds))
		require.GreaterOrEqual(t, admitted, min(hostile*each*seconds, pool*(seconds-1)))
		require.NotZero(t, waku.StreamsRefused(m)+uint64(admitted/(hostile*each*seconds)))

		var open []network.StreamManagementScope
		for i := range 200 { // who says nothing on them has some of them
			time.Sleep(time.Second)
			s, err := m.OpenStream("silent", network.DirInbound)
			if i < 32 {
				require.NoError(t, err)
				open = append(open, s)
				continue
			}
			require.Error(t, err)
		}
		require.True(t, opens("honest"))
		for _, s := range open {
			s.Done()
			s.Done()
		}
		require.True(t, opens("silent"))

		for i := range passers {
			require.True(t, opens(peer.ID(fmt.Sprint("passer-by ", i))))
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, waku.Openers(m), 1024)
	})
}
