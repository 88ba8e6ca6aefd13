package sharding_test

import (
	"testing"

	"github.com/status-im/shoal/sharding"
)

func BenchmarkParsePubsubTopic(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sharding.ParsePubsubTopic("/waku/2/rs/16/128"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseContentTopic(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sharding.ParseContentTopic("/waku/1/0x9c22ff5f/rfc26"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefuseContentTopic(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sharding.ParseContentTopic("waku/1/0x9c22ff5f/rfc26"); err == nil {
			b.Fatal("accepted")
		}
	}
}
