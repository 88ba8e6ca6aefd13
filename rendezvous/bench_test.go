package rendezvous_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/rendezvous"
)

// full is a point with so many registrations of one namespace.
func full(b *testing.B, n int) *rendezvous.Point {
	p := serve(b, p2ptest.Hosts(b, 1)[0], free)
	for i := range n {
		require.True(b, p.Put(peer.ID(fmt.Sprint("peer ", i)), ns, fmt.Sprint(i/2), make([]byte, 300), time.Hour))
	}
	b.ReportAllocs()
	return p
}

func handle(b *testing.B, p *rendezvous.Point, from peer.ID, request []byte) {
	for b.Loop() {
		_, err := p.Handle(from, request)
		require.NoError(b, err)
	}
}

// BenchmarkRegister checks a record that is new; BenchmarkRenew has seen it.
func BenchmarkRegister(b *testing.B) {
	p := full(b, 1000)
	other := registerRequest(ns, envelope(0, "libp2p-peer-record", recordType, payload(idOf(0), 1, addrs("/ip4/1.2.3.4/tcp/1")[0].Bytes())), 7200)
	request := registerRequest(ns, record(0), 7200)
	for b.Loop() {
		p.Handle(idOf(0), request)
		p.Handle(idOf(0), other)
	}
}

func BenchmarkRenew(b *testing.B) {
	handle(b, full(b, 1000), idOf(0), registerRequest(ns, record(0), 7200))
}

// BenchmarkDiscover asks for twelve of a thousand, and for as many as there may be of
// all.
func BenchmarkDiscover(b *testing.B) {
	for _, n := range []int{12, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			handle(b, full(b, 1000), idOf(0), discoverRequest(ns, uint64(n), nil))
		})
	}
	b.Run("12 of 16384", func(b *testing.B) {
		handle(b, full(b, 16384), idOf(0), discoverRequest(ns, 12, nil))
	})
}
