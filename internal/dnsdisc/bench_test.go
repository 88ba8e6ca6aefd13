package dnsdisc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
)

// A tree of 40 records, with a resolver that answers at once.
func BenchmarkFetch(b *testing.B) {
	tree := publish(b, newKey(b), domain, dnstest.Content{Records: newRecords(b, 40)})
	zone := dnstest.NewZone(tree)
	last, err := fetch(b, zone, tree.URL, nil)
	require.NoError(b, err)
	data, err := last.MarshalBinary()
	require.NoError(b, err)
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = fetch(b, zone, tree.URL, nil)
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = fetch(b, zone, tree.URL, last)
		}
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = new(dnsdisc.List).UnmarshalBinary(data)
		}
	})
}
