package p2ptest

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Bombs returns length prefixes that must not be believed: 2 GiB, 2^63-1,
// overlong and endless varints.
func Bombs() [][]byte {
	return [][]byte{
		binary.AppendUvarint(nil, math.MaxInt32),
		binary.AppendUvarint(nil, math.MaxInt64),
		append(bytes.Repeat([]byte{0x80}, 9), 0x01),
		bytes.Repeat([]byte{0xff}, 20),
	}
}

// ThrowBombs opens n streams at once, writes a bomb to each, waits until the
// victim has ended them all, and returns by how much the heap grew meanwhile,
// in bytes. A stream that the victim refuses to open counts as ended.
func ThrowBombs(t testing.TB, from, victim host.Host, id protocol.ID, n int) (growth int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	streams := make([]network.Stream, 0, n)
	for range n {
		if s, err := OpenStream(ctx, from, victim.ID(), id); err == nil {
			streams = append(streams, s)
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	bombs := Bombs()
	for i, s := range streams {
		s.Write(bombs[i%len(bombs)])
	}
	AwaitEnd(streams...)
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// AwaitEnd reads every stream until its other side has ended it.
func AwaitEnd(streams ...network.Stream) {
	for _, s := range streams {
		io.Copy(io.Discard, s)
		s.Reset()
	}
}

// Drip writes b one byte at a time, then zeros, until the other side has had
// enough: the slow sender. It returns how many bytes went out.
func Drip(s network.Stream, b []byte, every time.Duration) int {
	for n := 0; ; n++ {
		next := []byte{0}
		if n < len(b) {
			next[0] = b[n]
		}
		if _, err := s.Write(next); err != nil {
			return n
		}
		time.Sleep(every)
	}
}
