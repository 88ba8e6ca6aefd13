package relay_test

import (
	"context"
	"encoding/binary"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/relay"
)

// A length is a promise. Nothing is set aside for it before it is kept.
func TestLengthBombs(t *testing.T) {
	for name, prefix := range map[string][]byte{
		"2^31-1":   binary.AppendUvarint(nil, math.MaxInt32),
		"2^63-1":   binary.AppendUvarint(nil, math.MaxInt64),
		"overlong": {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"allowed":  binary.AppendUvarint(nil, 150<<10),
	} {
		t.Run(name, func(t *testing.T) {
			hosts := p2ptest.Hosts(t, 3)
			victim, honest := newRelay(t, hosts[0], relay.Config{}), newRelay(t, hosts[1], relay.Config{})
			sub := subscribe(t, victim, shard)
			subscribe(t, honest, shard)
			p2ptest.Connect(t, hosts[1], hosts[0])
			p2ptest.Connect(t, hosts[2], hosts[0])
			p2ptest.Eventually(t, func() bool { return len(honest.Peers(shard)) == 1 }, "no peer")

			before := heap()
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			streams := 1000
			if testing.Short() {
				streams = 200
			}
			for range streams {
				s, err := p2ptest.OpenStream(ctx, hosts[2], hosts[0].ID(), relay.ID)
				if err != nil {
					continue // refused at the door is fine
				}
				defer s.Reset()
				_, _ = s.Write(append(prefix, "only a little"...))
			}
			publish(t, honest, shard, newMessage("meanwhile"))
			require.Equal(t, "meanwhile", string(next(t, sub).Message.Payload))
			grown := int64(heap()) - int64(before)
			require.Less(t, grown, int64(16<<20), "heap growth in bytes")
		})
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
