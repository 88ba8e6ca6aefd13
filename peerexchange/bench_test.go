package peerexchange_test

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/peerexchange"
)

// BenchmarkCheck reads the records of a full answer.
func BenchmarkCheck(b *testing.B) {
	r, err := peerexchange.ResponseOf(answer(records(100, 60)...), 60)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		require.Len(b, peerexchange.Check(r, 60, "me").Peers, 60)
	}
}

// BenchmarkServer answers the same question for the same peers over and over.
func BenchmarkServer(b *testing.B) {
	hosts := p2ptest.Hosts(b, 2)
	p2ptest.Line(b, hosts)
	all := records(100, 60)
	s := serve(b, hosts[1], func(peer.ID, int) [][]byte { return all }, peerexchange.ServerConfig{Rate: -1})
	request := unhex("0a02083c")
	b.ReportAllocs()
	for b.Loop() {
		ask(b, hosts[0], hosts[1], request)
	}
	require.Zero(b, s.Stats().Unfit)
}
