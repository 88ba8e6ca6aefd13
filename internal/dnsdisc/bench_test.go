package dnsdisc_test

import (
	"testing"

	"github.com/status-im/shoal/internal/enr"
)

func BenchmarkParse(b *testing.B) {
	text := newRecord(b, newKey(b), 1).String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := enr.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
