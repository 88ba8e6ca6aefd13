package message_test

import (
	"bytes"
	"testing"

	"github.com/status-im/shoal/message"
)

// signed returns a message as a community sends it: all of meta, and a payload
// of the given size.
func signed(payload int) *message.Message {
	return &message.Message{
		Payload:      bytes.Repeat([]byte{0xa5}, payload),
		ContentTopic: "/waku/1/0x9c22ff5f/rfc26",
		Version:      1,
		Timestamp:    1700000000123456789,
		Meta:         bytes.Repeat([]byte{0x5a}, message.MaxMetaLen),
	}
}

const topic = "/waku/2/rs/16/128"

func BenchmarkDecode(b *testing.B) {
	in := signed(2048).Encode()
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := message.Decode(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	m := signed(2048)
	b.SetBytes(int64(m.Size()))
	b.ReportAllocs()
	for b.Loop() {
		m.Encode()
	}
}

func BenchmarkAppendTo(b *testing.B) {
	m := signed(2048)
	buf := make([]byte, 0, m.Size())
	b.SetBytes(int64(m.Size()))
	b.ReportAllocs()
	for b.Loop() {
		buf = m.AppendTo(buf[:0])
	}
}

func BenchmarkHash(b *testing.B) {
	m := signed(2048)
	b.SetBytes(int64(m.Size()))
	b.ReportAllocs()
	for b.Loop() {
		m.Hash(topic)
	}
}
